"""Run: one experiment, from its first step to its result."""

from __future__ import annotations

import streamlit as st

import service
from components import badges, live, pages, states, words


def show() -> None:
    identity = pages.param("id")
    if not identity:
        pages.header("Run", crumbs=[("runs", {})])
        states.empty("No run was chosen.")
        return
    experiment = service.client().experiments.get(identity)
    pages.header(experiment.name, crumbs=[("runs", {})])

    def draw() -> bool:
        now = service.client().experiments.get(identity)
        badges.status(now.status, simulated=now.simulated)
        if now.progress is not None and now.progress.percent is not None and not now.ended:
            st.progress(min(now.progress.percent / 100, 1.0), text=words.percent(now.progress.percent / 100))
        if now.error is not None:
            st.error(f"{now.error.message} {now.error.hint}", icon=":material/error:")
        return not now.ended

    live.watch(draw, active=not experiment.ended)
