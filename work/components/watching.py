"""A visitor's own picture of the run in view: opened once, then kept up to date by what is new."""

from __future__ import annotations

import streamlit as st
from slm_client import Client, Curve, ExperimentDetail

from components.curves import MOST_POINTS
from components.history import SOURCES, TOLD, History

_KEY = "_watched"
_DELTA = 1000
_FAR_BEHIND = 5000
"""Events after which it is cheaper to open the picture anew than to catch up."""


def history(client: Client, experiment: ExperimentDetail) -> History:
    """Its curves and events as of now. One run is held for each visitor: the one that was looked at last."""
    held = st.session_state.get(_KEY)
    known: History | None = held[1] if held is not None and held[0] == experiment.id else None
    newest = experiment.last_event_id
    if known is None or not known.since <= newest <= known.since + _FAR_BEHIND:
        known = _open(client, experiment)
        st.session_state[_KEY] = (experiment.id, known)
    while known.since < newest:
        delta = client.experiments.events(experiment.id, since=known.since, limit=_DELTA)
        known.take(delta)
        if len(delta) < _DELTA:
            break
    return known


def last_known(identity: str) -> History | None:
    """What was seen of it before, for as long as the service is away."""
    held = st.session_state.get(_KEY)
    return held[1] if held is not None and held[0] == identity else None


def _open(client: Client, experiment: ExperimentDetail) -> History:
    since = experiment.last_event_id
    known = curves(client, client.base_url, experiment.id, since)
    events = client.experiments.events(experiment.id, types=TOLD, limit=10_000)
    return History.opened(known, events, since=since)


@st.cache_data(max_entries=32, ttl="1h", show_spinner=False)
def curves(_client: Client, _address: str, identity: str, newest: int) -> dict[str, Curve]:
    """Its curves as of the event `newest`, asked for once for all visitors and refreshes."""
    return _client.experiments.metrics(identity, keys=[*SOURCES], points=MOST_POINTS)
