"""The right side of the Train page: what the training will take, by formula or measured, and the button to start it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import streamlit as st
from slm_client import ApiError, Client, DatasetDetail, Figure, ModelDetail, NotFound, Plan, SlmError, Unavailable

from components import badges, comparison, facts, pages, states, tables, words
from views.train_settings import Wanted

_PLAN, _STARTED = "_plan", "_started"
_METHOD_NOT_ALLOWED = 405
_SHOWN_ELSEWHERE = frozenset({"method", "adapter"})


def show(client: Client, data: DatasetDetail, held_out: str | None, base: ModelDetail, wanted: Wanted) -> None:
    """The plan card and the start."""
    asked: dict[str, Any] = {
        "base_model_id": base.id,
        "training_dataset_id": data.id,
        "eval_dataset_id": held_out,
        "training_config": dict(wanted.config),
        "executor": wanted.executor,
    }
    with st.container(border=True, key="train_plan"):
        st.subheader("Plan", anchor=False)
        plan, refused = _plan(client, asked)
        if plan is not None:
            _card(client, plan, asked, base)
    with st.container(border=True, key="train_start"):
        _start(client, asked, default=f"{data.name} on {base.name}", plan=plan, refused=refused)


def _plan(client: Client, asked: dict[str, Any], *, measure: bool = False) -> tuple[Plan | None, bool]:
    """What the service expects, kept for as long as nothing is changed; and whether it would refuse the training."""
    name = json.dumps(asked, sort_keys=True)
    held = st.session_state.get(_PLAN)
    if held is not None and held[0] == name and not measure:
        return held[1], False
    said = "Running a few real steps, which takes a minute or two …" if measure else "Working out what it takes …"
    try:
        with st.spinner(said):
            plan = client.experiments.plan(**asked, measure=measure)
    except Unavailable:
        raise
    except ApiError as error:
        if isinstance(error, NotFound) or error.status == _METHOD_NOT_ALLOWED:
            st.caption("This service does not plan ahead. The run itself says how far it is once it has begun.")
            return None, False
        states.refused(error)
        return None, True
    st.session_state[_PLAN] = (name, plan)
    return plan, False


def _card(client: Client, plan: Plan, asked: dict[str, Any], base: ModelDetail) -> None:
    if plan.simulated:
        st.badge(badges.SIMULATED, icon=":material/science:", color="orange", help=badges.SIMULATED_HINT)
        st.warning(words.plain(why_simulated(plan, base)), icon=":material/science:")
    facts.show(figures(plan))
    if not plan.simulated:
        basis = (
            "Measured by a trial on this machine." if plan.measured else "Estimated by formula, before anything runs."
        )
        st.caption(basis)
    if not plan.simulated and not plan.measured:
        hint = "Runs a few real steps on the machine and throws them away: better figures for time and memory"
        if st.button("Measure it", icon=":material/speed:", key="measure", help=hint):
            _plan(client, asked, measure=True)
            st.rerun()
    for sentence in [*plan.warnings, *overlap(plan)]:
        st.warning(words.plain(sentence), icon=":material/lightbulb:")
    _settings(plan, asked["training_config"])


def why_simulated(plan: Plan, base: ModelDetail) -> str:
    """The service's own reason, but for the one that a button on this page mends."""
    if base.weights in {"absent", "pulling"} and "weights" in plan.executor_reason:
        return f"The weights of {base.name} are not on the service's machine. Fetch them here to train for real."
    return plan.executor_reason


def figures(plan: Plan) -> dict[str, str | None]:
    """Name and value of what is expected; None for what does not apply."""
    return {
        "Steps": words.count(plan.steps.value),
        "Time": None if plan.simulated else _about(plan.seconds, words.duration(plan.seconds.value)),
        "Memory": None if plan.simulated else _about(plan.memory_bytes, words.size(plan.memory_bytes.value)),
        "Disk for checkpoints": None if plan.simulated else words.size(plan.checkpoint_bytes.value),
        "Learns from": words.count(plan.train_examples, "row"),
        "Scored on": words.count(plan.eval_examples, "row"),
        "Processor time": _about(plan.cpu_seconds, words.duration(plan.cpu_seconds.value))
        if plan.cpu_seconds and not plan.simulated
        else None,
    }


def _about(figure: Figure, text: str) -> str:
    return text if figure.basis == "measured" else f"about {text}"


def overlap(plan: Plan) -> list[str]:
    """Evaluation rows that are training rows too, in a sentence; none where there are none."""
    found = plan.overlap or {}
    rows, of = (
        int(found.get("exact", 0)) + int(found.get("normalised", 0)) + int(found.get("near", 0)),
        found.get("rows"),
    )
    if not rows:
        return []
    return [
        f"{words.count(rows)} of {words.count(of, 'evaluation row')} are training rows too, or nearly: "
        "the scores will flatter the model by what it has learned by heart."
    ]


def _settings(plan: Plan, mine: Mapping[str, Any]) -> None:
    typed = {key: plan.training_config.get(key, value) for key, value in mine.items() if key not in _SHOWN_ELSEWHERE}
    if typed:
        told = ", ".join(
            f"`{key}` {'never' if value is None else comparison.shown(value)}" for key, value in typed.items()
        )
        st.markdown(f"**Not the default:** {told}")
    if plan.reasons:
        with st.expander("Why the other settings are as they are", icon=":material/help:", key="reasons"):
            rows = [
                {"setting": key, "value": comparison.shown(plan.training_config.get(key)), "why": why}
                for key, why in plan.reasons.items()
            ]
            columns = {"setting": "Setting", "value": "Value", "why": st.column_config.TextColumn("Why", width="large")}
            tables.show(rows, key="plan_reasons", columns=columns, file_name="defaults", most_rows=8)


def _start(client: Client, asked: dict[str, Any], *, default: str, plan: Plan | None, refused: bool) -> None:
    name = st.text_input("Name", key="name", bind="query-params", placeholder=default, max_chars=200)
    goal = st.text_input("Goal (optional)", key="goal", bind="query-params", placeholder="What it is to be good at")
    simulated = plan is not None and plan.simulated
    label = "Start the simulation" if simulated else "Start training"
    if st.button(label, type="primary", icon=":material/play_arrow:", key="start", disabled=refused, width="stretch"):
        try:
            made = client.experiments.create((name or "").strip() or default[:200], goal=goal or None, **asked)
        except SlmError as error:
            states.refused(error)
        else:
            st.session_state[_STARTED] = (made.id, made.name)
    started = st.session_state.get(_STARTED)
    if started is not None:
        identity, called = started
        st.success(f"{words.plain(called)} was asked for; it starts by itself.", icon=":material/rocket_launch:")
        pages.link("run", "Watch it", icon=":material/timeline:", id=identity)
