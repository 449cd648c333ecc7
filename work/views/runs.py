"""Runs: every experiment with how it went; choose one to open it, several to compare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import streamlit as st
from slm_client import Client, Experiment, NotFound, NotTheService, ServiceUnreachable, Unavailable

import service
from components import badges, comparison, live, pages, returning, sparks, standing, states, tables, titles, words
from views import run

STATES = ("all", "running", "created", "completed", "failed", "cancelled")
PAGE = 25
"""Rows in view: only these ask for their curves."""


def show() -> None:
    if pages.param("id"):
        run.show()
    else:
        _list()


def _list() -> None:
    pages.header("Runs", lead="Every training that was asked for, newest first.")
    client = service.client()
    experiments = client.experiments.list()
    if not experiments:
        states.empty("Nothing was trained yet.")
        pages.link("train", "Train a model")
        return
    names = titles.known(client)
    search, filters = st.columns([1, 2])
    with search:
        text = st.text_input("Search", key="q", bind="query-params", icon=":material/search:")
    with filters:
        state = st.segmented_control("Status", STATES, default="all", required=True, key="status", bind="query-params")
    found = matching(experiments, names, words=text or "", status=str(state))
    if not found:
        states.empty("No run fits these words.", icon=":material/search_off:")
        return
    table = st.container()
    count = -(-len(found) // PAGE)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        some = "" if len(found) == len(experiments) else f" of {len(experiments):,}"
        st.caption(f"{words.count(len(found), 'run')}{some}", width="content")
        number = st.pagination(count, key="page", bind="query-params") if count > 1 else 1
    shown = found[PAGE * (number - 1) : PAGE * number]
    # Under way anywhere, on another page of the table too: while somebody works, more may be asked for.
    active = any(not row.ended for row in experiments)
    looks = [Look(shown, active=active)]

    def draw() -> bool:
        first = looks.pop() if looks else None
        look = first or _again(service.client(), Look(shown, active=active), newest=experiments[0].id)
        if look is None:
            st.rerun()
        _table(service.client(), look.rows, names)
        return look.active

    with table:
        live.watch(draw, active=active)
        if not active:
            returning.look_again(key="runs_back")


def matching(
    experiments: Sequence[Experiment], names: Mapping[str, str], *, words: str, status: str
) -> list[Experiment]:
    """Those in this state (or `all`) in whose name, model, data, method or badge every word is found."""
    wanted = words.lower().split()

    def text(experiment: Experiment) -> str:
        parts = (
            experiment.name,
            names.get(experiment.base_model_id, ""),
            names.get(experiment.training_dataset_id, ""),
            experiment.method,
            experiment.adapter,
            badges.SIMULATED if experiment.simulated else "",
        )
        return " ".join(parts).lower()

    return [
        experiment
        for experiment in experiments
        if status in ("all", experiment.status) and all(word in text(experiment) for word in wanted)
    ]


class Look(NamedTuple):
    """What a look at the service showed: the rows in view, and whether anything is under way anywhere."""

    rows: Sequence[Experiment]
    active: bool


def _again(client: Client, before: Look, *, newest: str) -> Look | None:
    """How it is now: what is under way comes in two answers, what has just ended one by one.

    None where the table has other rows now: a run was started or deleted elsewhere. Asks nothing where nothing runs.
    """
    if not before.active:
        return before
    try:
        if [row.id for row in client.experiments.list(limit=1)] != [newest]:
            return None
        now = {row.id: row for state in ("running", "created") for row in client.experiments.list(status=state)}
        rows = [row if row.ended else now.get(row.id) or client.experiments.get(row.id) for row in before.rows]
    except NotFound:
        return None
    except (ServiceUnreachable, Unavailable, NotTheService) as error:
        st.warning(states.away_sentence(error), icon=":material/cloud_off:")
        return before
    return Look(rows, active=bool(now))


def as_row(experiment: Experiment, names: Mapping[str, str], losses: Mapping[str, list[float]]) -> dict[str, Any]:
    return {
        "name": experiment.name,
        "status": badges.words(experiment.status, simulated=experiment.simulated),
        "loss": losses.get(experiment.id, []),
        "progress": standing.percent(experiment.status, experiment.progress),
        "duration": tables.clock(standing.elapsed(experiment.started_at, experiment.finished_at)),
        "base": names.get(experiment.base_model_id, titles.GONE),
        "data": names.get(experiment.training_dataset_id, titles.GONE),
        "method": f"{experiment.method}, {experiment.adapter}",
        "created": experiment.created_at,
    }


_COLUMNS: dict[str, Any] = {
    "name": st.column_config.TextColumn("Name", width="medium", help="Click it to open the run"),
    "status": badges.column(),
    "loss": st.column_config.LineChartColumn(
        "Loss", width="small", help="Training loss, from its first step to its last"
    ),
    "progress": st.column_config.ProgressColumn("Progress", format="%d %%", min_value=0, max_value=100, width="small"),
    "duration": tables.clock_column("Took", "Hours, minutes and seconds; so far, where it still runs"),
    "base": "Base model",
    "data": "Data",
    "method": "Method",
    "created": tables.moment_column("Asked for"),
}


def _table(client: Client, shown: Sequence[Experiment], names: Mapping[str, str]) -> None:
    losses = sparks.losses(client, shown)
    rows = [as_row(experiment, names, losses) for experiment in shown]
    bar = st.container(horizontal=True, vertical_alignment="center", key="chosen")
    chosen, opened = tables.choose(rows, [row.id for row in shown], key="runs", columns=_COLUMNS, file_name="runs")
    if opened:
        pages.remember(id=opened)
        st.rerun()
    ticked = [experiment for experiment in shown if experiment.id in chosen]
    with bar:
        if len(ticked) == 1:
            pages.link("run", f"Open {ticked[0].name}", icon=":material/open_in_full:", id=ticked[0].id)
        elif len(ticked) > comparison.MOST_RUNS:
            st.caption(f"At most {comparison.MOST_RUNS} runs can be compared at once.")
        elif ticked:
            together = ",".join(experiment.id for experiment in ticked)
            pages.link("compare", f"Compare {len(ticked)} runs", icon=":material/compare_arrows:", ids=together)
        else:
            st.caption("Click a cell to open its run, tick two or more to compare.")
