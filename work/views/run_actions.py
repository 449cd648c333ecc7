"""What can be done with a run: stop, resume, clone, reproduce, delete; and what to do about a failed one."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st
from slm_client import Client, Experiment, ExperimentDetail, NotFound, SlmError

import service
from components import pages, retry, states, words


def show(experiment: ExperimentDetail) -> None:
    """The buttons that make sense in its state."""
    with st.container(horizontal=True, vertical_alignment="center", key="actions"):
        if not experiment.ended:
            _stop(experiment)
        elif experiment.status in {"failed", "cancelled"} and not experiment.simulated:
            hint = "Go on from its last checkpoint as a further attempt"
            if st.button("Resume", icon=":material/resume:", key="resume", help=hint):
                _do(lambda client: client.experiments.resume(experiment.id))
        pages.link(
            "train", "Clone", icon=":material/content_copy:", hint="The same settings on the Train page, to be changed",
            **retry.address(experiment),
        )  # fmt: skip
        if experiment.status == "completed":
            _reproduce(experiment)
        if experiment.ended:
            _delete(experiment)
    _reproduction(experiment)


def failure(experiment: ExperimentDetail) -> None:
    """Cause, hint, and the link to the same run with the change that the failure asks for."""
    if experiment.error is None:
        return
    whose = "" if experiment.error.fault == "user" else " It was not your doing."
    hint = f"  \n**What to do:** {words.plain(experiment.error.hint)}" if experiment.error.hint else ""
    st.error(f"**{words.plain(experiment.error.message)}**{whose}{hint}", icon=":material/error:")
    change = retry.change(experiment)
    if change is not None:
        pages.link(
            "train",
            f"Retry {change.label}",
            icon=":material/restart_alt:",
            hint="Opens the Train page with the same settings and this change",
            **retry.address(experiment, **change.settings),
        )


def _stop(experiment: ExperimentDetail) -> None:
    if experiment.cancel_requested:
        st.button("Stopping", icon=":material/hourglass_top:", key="stopping", disabled=True)
        return
    with st.popover("Stop", icon=":material/stop_circle:", key="stop"):
        st.markdown("What it has learned so far:")
        if st.button("Stop and keep a checkpoint", key="stop_keep", type="primary"):
            _do(lambda client: client.experiments.cancel(experiment.id, save=True))
        if st.button("Stop and discard", key="stop_discard"):
            _do(lambda client: client.experiments.cancel(experiment.id, save=False))


def _reproduce(experiment: ExperimentDetail) -> None:
    hint = "Run the very same again, and compare the result number by number"
    if not st.button("Reproduce", icon=":material/replay:", key="reproduce", help=hint):
        return
    try:
        again = service.client().experiments.reproduce(experiment.id)
    except NotFound:
        st.info("This service does not reproduce runs yet; clone it instead.", icon=":material/info:")
    except SlmError as error:
        states.refused(error)
    else:
        pages.link("run", f"It runs again: open {again.name}", icon=":material/timeline:", id=again.id)


def _reproduction(experiment: ExperimentDetail) -> None:
    """Of a run that repeats another: whether it came out the same."""
    told = experiment.wire.get("reproduction")
    if not isinstance(told, dict):
        return
    identical, differences = told.get("identical"), told.get("differences") or []
    with st.container(horizontal=True, vertical_alignment="center", key="reproduction"):
        if identical is None:
            st.info("This run repeats another; whether it comes out the same shows when it has ended.")
        elif identical:
            st.success(
                "Reproduced: every number is the same as in the run that it repeats.", icon=":material/verified:"
            )
        else:
            said = "; ".join(words.plain(text) for text in differences)
            st.warning(f"Not the same as the run that it repeats: {said}.", icon=":material/difference:")
        if told.get("of"):
            pages.link("run", "The run that it repeats", id=str(told["of"]))
            pages.link("compare", "Compare", ids=f"{told['of']},{experiment.id}")


def _delete(experiment: ExperimentDetail) -> None:
    with st.popover("Delete", icon=":material/delete:", key="delete"):
        st.markdown("Its attempts, curves, checkpoints and evaluations go; the model that it made stays.")
        if st.button("Delete for good", key="delete_sure", type="primary"):
            _do(lambda client: client.experiments.delete(experiment.id))


def _do(action: Callable[[Client], Experiment | None]) -> None:
    """Ask the service, then draw the page anew; a refusal is said where the button is."""
    try:
        action(service.client())
    except SlmError as error:
        states.refused(error)
        return
    st.rerun()
