"""Home: what runs now and what came of the last trainings."""

from __future__ import annotations

import streamlit as st

import service
from components import badges, pages, states


def show() -> None:
    pages.header("Home", lead="Your own small language model, from your own data, on this machine.")
    experiments = service.client().experiments.list(limit=10)
    if not experiments:
        states.empty("Nothing was trained yet.")
    for experiment in experiments:
        with st.container(horizontal=True, border=True):
            pages.link("run", experiment.name, id=experiment.id)
            badges.status(experiment.status, simulated=experiment.simulated)
