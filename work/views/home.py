"""Home: what runs now, what came of the last trainings, and what to do next."""

from __future__ import annotations

from collections.abc import Set

import streamlit as st
from slm_client import Client, Experiment, ExperimentDetail, ModelDetail

import service
from components import badges, example, live, pages, progress, returning, states, weights, words

SHOWN = 6
ACTIONS = (
    ("datasets", ":material/upload_file:", "Upload data", "CSV, JSON or JSONL; see at once what is in it."),
    ("train", ":material/model_training:", "Train a model", "Pick data and a base; see time and memory beforehand."),
    ("models", ":material/forum:", "Try a model", "Chat with base and tuned model side by side, then take it along."),
)


def show() -> None:
    pages.header("Home", lead="Your own small language model, from your own data, on your own machine.")
    client = service.client()
    active = _active(client)
    ended = [run for run in client.experiments.list(limit=SHOWN + len(active)) if run.ended][:SHOWN]
    if active:
        st.header("Running now", anchor="running")
        known = {run.id for run in active}
        live.watch(lambda: _draw_active(known), active=True)
    else:
        returning.look_again(key="home_back")
        if not ended:
            _first_visit(client)
    if ended:
        st.header("Last results", anchor="results")
        for run in ended:
            _result(client, run)
    _actions()


def _active(client: Client) -> list[Experiment]:
    """What runs, then what waits, oldest first."""
    running, waiting = client.experiments.list(status="running"), client.experiments.list(status="created")
    return [*reversed(running), *reversed(waiting)]


def _draw_active(known: Set[str]) -> bool:
    """Draw what is under way; False once it is no longer what it was: one has ended or begun, and the page changes."""
    client = service.client()
    active = _active(client)
    if {run.id for run in active} != known:
        return False
    for run in active[:SHOWN]:
        detail = client.experiments.get(run.id)
        with st.container(border=True, key=f"active_{run.id}"):
            _headline(detail)
            progress.draw(detail)
    if len(active) > SHOWN:
        pages.link("runs", f"and {len(active) - SHOWN} more", icon=":material/more_horiz:")
    return True


def _headline(run: Experiment | ExperimentDetail) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        pages.link("run", words.plain(run.name), icon=":material/timeline:", id=run.id)
        badges.status(run.status, simulated=run.simulated)
        if run.ended:
            st.html(f'<span class="quiet">{words.moment(run.finished_at or run.created_at)}</span>')


def _result(client: Client, run: Experiment) -> None:
    with st.container(border=True, key=f"result_{run.id}"):
        _headline(run)
        if run.status == "completed":
            _verdict(client, run)
        elif run.status == "failed":
            error = client.experiments.get(run.id).error
            if error is not None:
                st.markdown(f"{words.plain(error.message)} {words.plain(error.hint)}".strip())


def _verdict(client: Client, run: Experiment) -> None:
    evaluations = client.evaluations.list(experiment_id=run.id, limit=1)
    if not evaluations:
        st.caption("No evaluation yet.")
        return
    found = client.evaluations.get(evaluations[0].id)
    if found.simulated:
        st.caption(badges.SIMULATED_HINT)
    else:
        st.markdown(words.plain(found.verdict or "Scored, without a verdict."))
    scored = f"Scored on {words.count(found.rows_scored, 'row')}" if found.rows_scored else "The scorecard"
    pages.link("evaluations", scored, icon=":material/scoreboard:", id=found.id)


def _first_visit(client: Client) -> None:
    """Nothing was trained yet: one button trains the example for real."""
    model = example.base(client) if example.available() else None
    if model is None:
        states.empty("Nothing was trained yet. Upload data, or look at what a training needs.")
        return
    wanted = pages.param("example") == "1"
    with st.container(border=True, key="first_visit"):
        st.header("Start with an example", anchor=False)
        st.markdown(
            f"240 made-up support tickets teach **{words.plain(model.name)}** to turn an e-mail into one line of JSON: "
            "a real training on this machine, scored on 64 tickets that it never saw. It takes some minutes."
        )
        if wanted:
            _go_on(client, model)
        elif st.button("Train the example", type="primary", key="train_example", icon=":material/play_arrow:"):
            pages.remember(example="1")
            st.rerun()


def _go_on(client: Client, model: ModelDetail) -> None:
    """The next step of what was asked for; a refresh or a second window goes on from here."""
    if model.weights == "absent" and not _failed_pull(model):
        client.models.pull(model.id)
        model = client.models.get(model.id)
    if model.weights != "present":
        weights.offer(model, key="example_fetch")
        return
    with st.spinner("Uploading 304 tickets and starting the training …"):
        example.start(client, model)
    pages.remember(example=None)
    st.rerun()


def _failed_pull(model: ModelDetail) -> bool:
    return bool(((model.metadata or {}).get("pull") or {}).get("error"))


def _actions() -> None:
    st.header("What next?", anchor=False)
    for place, (page, icon, title, text) in zip(st.columns(len(ACTIONS)), ACTIONS, strict=True):
        with place, st.container(border=True, key=f"action_{page}", height="stretch"):
            pages.link(page, title, icon=icon)
            st.caption(text)
