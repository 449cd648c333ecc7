"""Datasets: the files that models learn from and are scored on; upload, find, open one."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st
from slm_client import Dataset

import service
from components import pages, states, tables, upload
from views import dataset as one

PURPOSES = ("all", "training", "evaluation")


def show() -> None:
    identity = pages.param("id")
    if identity:
        one.show(identity)
        return
    pages.header("Datasets", lead="Files to learn from and to be scored on. Upload one, and see at once what is in it.")
    client = service.client()
    datasets = client.datasets.list()
    _upload(first=not datasets)
    if datasets:
        _list(datasets)


def _upload(*, first: bool) -> None:
    with st.expander("Upload a file", icon=":material/upload_file:", expanded=first, key="upload_fold"):
        uploaded = upload.form(key="upload")
    if uploaded:
        pages.remember(id=uploaded)
        st.rerun()


def _list(datasets: Sequence[Dataset]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input("Search by name", key="q", bind="query-params", icon=":material/search:", width=320)
        purpose = st.segmented_control(
            "Used for", PURPOSES, default="all", required=True, key="for", bind="query-params"
        )
    found = matching(datasets, words=text or "", purpose=purpose)
    if not found:
        states.empty("No dataset fits these words.", icon=":material/search_off:")
        return
    rows = [
        {
            "name": dataset.name,
            "purpose": dataset.dataset_type,
            "rows": dataset.row_count,
            "uploaded": dataset.created_at,
            "description": dataset.description or "",
        }
        for dataset in found
    ]
    columns = {
        "name": st.column_config.TextColumn("Name", width="medium"),
        "purpose": "Used for",
        "rows": st.column_config.NumberColumn("Rows", format="localized"),
        "uploaded": tables.moment_column("Uploaded"),
        "description": "Description",
    }
    st.caption(f"{len(found):,} of {len(datasets):,}; choose a row to open it." if len(found) != len(datasets)
               else "Choose a row to open it.")  # fmt: skip
    for position in tables.show(rows, key="datasets", columns=columns, choose="single-row", file_name="datasets"):
        pages.remember(id=found[position].id)
        st.rerun()


def matching(datasets: Sequence[Dataset], *, words: str, purpose: str) -> list[Dataset]:
    """Those whose names hold every word, and that are used for `purpose` (or `all`)."""
    wanted = words.lower().split()
    return [
        dataset
        for dataset in datasets
        if purpose in ("all", dataset.dataset_type) and all(word in dataset.name.lower() for word in wanted)
    ]
