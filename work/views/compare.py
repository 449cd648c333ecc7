"""Several runs side by side: their curves in one picture, the settings that differ, their scorecards."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from slm_client import Client, EvaluationDetail, ExperimentDetail, NotFound

import service
from components import badges, comparison, loss, pages, states, tables, titles, watching, words
from components.history import Column

_KINDS = {"train_loss": "training", "val_loss": "validation"}


def show() -> None:
    client = service.client()
    identities = pages.param("ids").split(",")
    pages.header("Compare runs", crumbs=[("runs", {})], lead="The curves in one picture, and what was done otherwise.")
    experiments = [found for found in (_found(client, one) for one in _distinct(identities)) if found]
    if len(experiments) < 2:
        states.empty("Two runs or more are needed; choose them in the table of runs.")
        pages.link("runs", "Choose runs")
        return
    labels = comparison.labels(experiments)
    for label, experiment in zip(labels, experiments, strict=True):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            pages.link("run", label, icon=":material/timeline:", id=experiment.id)
            badges.status(experiment.status, simulated=experiment.simulated)
    _curves(client, labels, experiments)
    _settings(client, labels, experiments)
    _scorecards(client, labels, experiments)


def _distinct(identities: Sequence[str]) -> list[str]:
    return [one for one in dict.fromkeys(part.strip() for part in identities) if one][: comparison.MOST_RUNS]


def _found(client: Client, identity: str) -> ExperimentDetail | None:
    """One that was deleted meanwhile is left out; the others can still be compared."""
    try:
        return client.experiments.get(identity)
    except NotFound:
        return None


def _curves(client: Client, labels: Sequence[str], experiments: Sequence[ExperimentDetail]) -> None:
    st.subheader("Losses", anchor=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        scale, smoothed = loss.switches()
    series = []
    for label, experiment in zip(labels, experiments, strict=True):
        curves = watching.curves(client, client.base_url, experiment.id, experiment.last_event_id)
        series += [
            loss.Series(label, kind, Column([*curves[name].step], [*curves[name].value]))
            for name, kind in _KINDS.items()
            if name in curves
        ]
    drawn = loss.picture(series, log=scale == "log", smoothed=smoothed, faint=len(experiments) == 2)
    if not drawn.points:
        states.empty("None of them has taken a step yet.")
        return
    described = {f"{one.name}, {one.kind}": one.column for one in series}
    loss.draw(drawn, log=scale == "log", names=labels, alt_text=loss.described(described), height=360)
    st.caption(f"Lines: training loss. Dashed with points: validation loss. {drawn.note}")


def _settings(client: Client, labels: Sequence[str], experiments: Sequence[ExperimentDetail]) -> None:
    st.subheader("What differs", anchor=False)
    names = titles.of(client, *experiments)
    asked = {label: comparison.asked(one, names) for label, one in zip(labels, experiments, strict=True)}
    rows = comparison.differences(asked)
    if not rows:
        states.empty("Every setting is the same.", icon=":material/equal:")
        return
    tables.show(rows, key="differences", columns={"setting": "Setting"}, file_name="differences")


def _scorecards(client: Client, labels: Sequence[str], experiments: Sequence[ExperimentDetail]) -> None:
    st.subheader("Scorecards", anchor=False)
    cards = {label: _card(client, one) for label, one in zip(labels, experiments, strict=True)}
    for label, card in cards.items():
        if card is not None and card.verdict:
            st.markdown(f"**{words.plain(label)}:** {words.plain(card.verdict)}")
    rows = comparison.scorecards({label: card.metrics if card else {} for label, card in cards.items()})
    if not rows:
        states.empty("None of them was evaluated yet.")
        return
    columns = {"metric": "Metric", "best": "Best"}
    tables.show(
        rows, key="scorecards", columns=columns, file_name="scorecards", drawn=comparison.readable(rows, labels)
    )
    if len({card.dataset_id for card in cards.values() if card}) > 1:
        st.caption("They were scored on different rows: compare their numbers with care.")


def _card(client: Client, experiment: ExperimentDetail) -> EvaluationDetail | None:
    found = client.evaluations.list(experiment_id=experiment.id)
    return client.evaluations.get(found[0].id) if found else None
