"""System: what the service's machine can do."""

from __future__ import annotations

import streamlit as st

import service
from components import pages, tables


def show() -> None:
    pages.header("System", lead="The machine that trains, and what is installed on it.")
    system = service.client().system()
    rows = [
        {"executor": executor.name, "available": executor.available, "reason": executor.reason or ""}
        for executor in system.executors
    ]
    tables.show(rows, key="executors", file_name="executors")
    st.caption(system.precision)
