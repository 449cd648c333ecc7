"""Little curves for tables: the training loss of each run in view, asked for once where the run has ended."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import streamlit as st
from slm_client import Client, Experiment, NotFound

POINTS = 40


def losses(client: Client, shown: Iterable[Experiment]) -> dict[str, list[float]]:
    """By id, for those that have begun. The rows in view alone: a table of thousands asks for no more."""
    found = {}
    for experiment in shown:
        if experiment.ended:
            found[experiment.id] = _of_ended(client, experiment.id, experiment.finished_at)
        elif experiment.started_at is not None:
            found[experiment.id] = _ask(client, experiment.id)
    return found


@st.cache_data(max_entries=2000, ttl="1h", show_spinner=False)
def _of_ended(_client: Client, identity: str, _finished_at: datetime | None) -> list[float]:
    return _ask(_client, identity)


def _ask(client: Client, identity: str) -> list[float]:
    try:
        curves = client.experiments.metrics(identity, keys=["train_loss"], points=POINTS)
    except NotFound:  # deleted since the list was read
        return []
    return [*curves["train_loss"].value] if "train_loss" in curves else []
