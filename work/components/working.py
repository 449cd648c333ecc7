"""Long work that is no training (pull, export, evaluation, prediction): how far it is, and a way to stop it."""

from __future__ import annotations

import streamlit as st
from slm_client import Run

import service
from components import badges, live, words


def follow(run_id: str) -> Run:
    """Draw a run live with a button that cancels it; returns how it stood when the page was drawn."""
    first = service.client().runs.get(run_id)

    def draw() -> bool:
        run = service.client().runs.get(run_id)
        _show(run)
        return not run.ended

    live.watch(draw, active=not first.ended)
    if not first.ended and st.button("Cancel", icon=":material/stop:", key=f"cancel_{run_id}"):
        service.client().runs.cancel(run_id)
        st.rerun()
    return first


def _show(run: Run) -> None:
    badges.status(run.state)
    if run.error and run.ended and run.state != "completed":
        st.error(f"{run.error.message} {run.error.hint}".strip(), icon=":material/error:")
    elif not run.ended:
        state = run.progress
        share = min(max((state.percent or 0) / 100 if state else 0.0, 0.0), 1.0)
        phase = state.phase if state and state.phase else "waiting for its turn"
        st.progress(share, text=f"{phase} · {words.percent(share)}")
