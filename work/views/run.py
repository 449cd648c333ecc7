"""Run: one experiment, from its place in the queue to its result; it looks again by itself while something runs."""

from __future__ import annotations

import streamlit as st
from slm_client import Client, ExperimentDetail, ServiceUnreachable, Unavailable

import service
from components import badges, facts, live, loss, pages, progress, standing, states, titles, watching, words
from components.history import History
from views import run_actions, run_panels


def show() -> None:
    identity = pages.param("id")
    if not identity:
        pages.header("Run", crumbs=[("runs", {})])
        states.empty("No run was chosen.")
        pages.link("runs", "Choose one")
        return
    client = service.client()
    experiment = client.experiments.get(identity)
    names = titles.of(client, experiment)
    pages.header(experiment.name, crumbs=[("runs", {})])
    _about(experiment, names)
    run_actions.show(experiment)
    if experiment.error is not None:
        run_actions.failure(experiment)
    _result(client, experiment, names)
    _warnings(experiment)
    seen = [experiment]

    def draw() -> bool:
        # The first look belongs to the page itself, which has asked already; the next ones come from the timer.
        now = _look(service.client(), identity, seen.pop() if seen else None, names)
        # Buttons and badges belong to the page: what they stand for has changed, so it is drawn anew.
        return now is None or (not now.ended and _stands(now) == _stands(experiment))

    live.watch(draw, active=not experiment.ended)


def _look(
    client: Client, identity: str, known: ExperimentDetail | None, names: dict[str, str]
) -> ExperimentDetail | None:
    """Draw everything that changes; how it stands now, None while the service is away."""
    try:
        experiment = known or client.experiments.get(identity)
        history = watching.history(client, experiment)
    except (ServiceUnreachable, Unavailable) as error:
        st.warning(states.away_sentence(error), icon=":material/cloud_off:")
        _losses(watching.last_known(identity) or History())
        return None
    _status(experiment, history)
    _losses(history, experiment)
    run_panels.show(client, experiment, history, names)
    return experiment


def _stands(experiment: ExperimentDetail) -> tuple[object, ...]:
    return experiment.status, experiment.attempt, experiment.cancel_requested


def _about(experiment: ExperimentDetail, names: dict[str, str]) -> None:
    """What was asked for, as links to what it refers to."""
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key="about"):
        badges.status(experiment.status, simulated=experiment.simulated)
        base = names.get(experiment.base_model_id, titles.GONE)
        data = names.get(experiment.training_dataset_id, titles.GONE)
        pages.link("models", base, hint="The base model", id=experiment.base_model_id)
        pages.link("datasets", data, hint="What it learns from", id=experiment.training_dataset_id)
        if experiment.eval_dataset_id:
            scored = names.get(experiment.eval_dataset_id, titles.GONE)
            pages.link("datasets", scored, hint="What it is scored on", id=experiment.eval_dataset_id)
        st.caption(
            f"{experiment.method} · {experiment.adapter} · asked for {words.moment(experiment.created_at)}",
            unsafe_allow_html=True,
            width="content",
        )
    for text in (experiment.goal, experiment.description, experiment.executor_reason if experiment.simulated else ""):
        if text:
            st.caption(words.plain(text))


def _result(client: Client, experiment: ExperimentDetail, names: dict[str, str]) -> None:
    """What came of it: the verdict, and the ways to evaluation and model."""
    if experiment.status != "completed":
        return
    evaluations = client.evaluations.list(experiment_id=experiment.id)
    verdict = client.evaluations.get(evaluations[0].id).verdict if evaluations else None
    if verdict:
        st.info(words.plain(verdict), icon=":material/gavel:")
    with st.container(horizontal=True, key="results"):
        if evaluations:
            pages.link("evaluations", "Evaluation", icon=":material/scoreboard:", id=evaluations[0].id)
        if experiment.resulting_model_id:
            name = names.get(experiment.resulting_model_id, titles.GONE)
            pages.link("models", f"Model {name}", icon=":material/deployed_code:", id=experiment.resulting_model_id)


def _warnings(experiment: ExperimentDetail) -> None:
    if not experiment.warnings:
        return
    title = words.count(len(experiment.warnings), "note") + " on what was asked for"
    with st.expander(title, icon=":material/lightbulb:", key="notes"):
        for sentence in experiment.warnings:
            st.markdown(f"- {words.plain(sentence)}")


def _status(experiment: ExperimentDetail, history: History) -> None:
    if experiment.cancel_requested and not experiment.ended:
        st.info("Stopping: it ends as soon as what is to be kept is saved.", icon=":material/hourglass_top:")
    if not experiment.ended:
        progress.draw(experiment)
    facts.show(standing.facts(experiment, history))


def _losses(history: History, experiment: ExperimentDetail | None = None) -> None:
    curves = history.curves()
    if not curves:
        if experiment is not None and not experiment.ended and experiment.started_at is not None:
            st.caption("The first step is on its way; its loss is drawn here.")
        return
    with st.container(horizontal=True, vertical_alignment="center", key="picture"):
        scale, smoothed = loss.switches()
    log = scale == "log"
    series = [loss.Series(name, name, column) for name, column in curves.items()]
    drawn = loss.picture(series, log=log, smoothed=smoothed)
    names = [name for name in ("training", "validation") if name in curves]
    loss.draw(drawn, log=log, names=names, alt_text=loss.described(curves))
    if drawn.note:
        st.caption(drawn.note)
