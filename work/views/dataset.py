"""One dataset: what is in it, what is wrong with it, what a model would learn from it."""

from __future__ import annotations

import streamlit as st
from slm_client import Client, DatasetDetail

import service
from components import charts, examples, facts, live, mapping, pages, tables, words
from views import dataset_changes as changes
from views import dataset_tokens as tokens

PAGE_ROWS = 4


def show(identity: str) -> None:
    client = service.client()
    dataset = client.datasets.get(identity)
    pages.header(dataset.name, lead=words.plain(dataset.description or ""), crumbs=[("datasets", {})])
    _summary(dataset)
    _actions(client, dataset)
    if dataset.kind is None:
        changes.mapping_editor(client, dataset)
    _faults(dataset)
    _rows(client, dataset)
    tokens.show(client, dataset)
    if dataset.kind is not None:
        changes.mapping_editor(client, dataset)
    _more(dataset)


def _summary(dataset: DatasetDetail) -> None:
    usable = dataset.statistics.get("examples")
    faults = dataset.faults.count
    facts.show(
        {
            "Kind": words.escaped(mapping.title(dataset.kind)),
            "Rows": words.count(dataset.row_count),
            "Usable": words.count(usable) if usable is not None else None,
            "With faults": words.count(faults),
            "Duplicates": _duplicates(dataset),
            "Size": words.size(dataset.size_bytes),
            "Used for": words.escaped(dataset.dataset_type),
            "Uploaded": words.moment(dataset.created_at),
        },
        hints={
            "Kind": dataset.kind_reason,
            "Usable": "Rows that become an example",
            "With faults": "Rows that parse but cannot be used; they stay in the file",
            "Duplicates": "Rows that say exactly what an earlier row says",
        },
    )
    if dataset.kind is None:
        asked = mapping.question(dataset.kind_reason, dataset.mapping, dataset.columns, where="below")
        st.warning(words.plain(asked), icon=":material/help:")


def _duplicates(dataset: DatasetDetail) -> str | None:
    repeated = dataset.statistics.get("duplicates")
    if repeated is None:
        return None
    about = "" if dataset.statistics.get("duplicates_exact", True) else "about "
    return f"{about}{words.count(repeated)}"


def _actions(client: Client, dataset: DatasetDetail) -> None:
    with st.container(horizontal=True, vertical_alignment="center", key="dataset_actions"):
        if dataset.dataset_type == "training" and dataset.kind is not None:
            pages.link("train", "Train on it", icon=":material/model_training:", data=dataset.id)
        st.link_button(
            "Download", f"/api/datasets/{dataset.id}/download", icon=":material/download:", key="download",
            help=f"The file as it was uploaded: {words.size(dataset.size_bytes)}",
        )  # fmt: skip
        if st.button("Split", icon=":material/call_split:", key="split", help="Two datasets without a row in common"):
            changes.split(client, dataset)
        if st.button("Rename", icon=":material/edit:", key="rename"):
            changes.rename(client, dataset)
        if st.button("Delete", icon=":material/delete:", key="delete"):
            changes.delete(client, dataset)


def _faults(dataset: DatasetDetail) -> None:
    if not dataset.faults.count:
        return
    st.header(f"{words.count(dataset.faults.count, 'row')} cannot be used", anchor="faults")
    shown = len(dataset.faults.first)
    rest = f" The first {shown} are listed." if shown < dataset.faults.count else ""
    st.caption(f"They stay in the file, and no training reads them.{rest}")
    rows = [{"line": fault.line, "field": fault.field or "", "what": fault.message} for fault in dataset.faults.first]
    columns = {
        "line": st.column_config.NumberColumn("Line", width="small"),
        "field": st.column_config.TextColumn("Field", width="small"),
        "what": st.column_config.TextColumn("What is wrong", width="large"),
    }
    tables.show(rows, key="faults", columns=columns, file_name=f"{dataset.name}-faults", most_rows=8)


def _rows(client: Client, dataset: DatasetDetail) -> None:
    st.header("Rows", anchor="rows")

    def page_of_rows() -> None:
        pages_in_all = max(1, -(-dataset.row_count // PAGE_ROWS))
        number = 1
        if pages_in_all > 1:
            number = st.pagination(pages_in_all, key="rows_page", bind="query-params")
        rows = client.datasets.rows(dataset.id, offset=(number - 1) * PAGE_ROWS, limit=PAGE_ROWS)
        st.html(examples.cards(rows))

    live.part(page_of_rows)


def _more(dataset: DatasetDetail) -> None:
    labels = dataset.statistics.get("labels")
    turns = dataset.statistics.get("turns")
    if labels:
        st.header("Labels", anchor="labels")
        most = dict([*labels.items()][:20])
        charts.draw(charts.bars(most, title="Rows"), alt_text=f"Rows for each of {len(labels)} labels")
    if turns:
        st.header("Turns in a conversation", anchor="turns")
        charts.draw(charts.bars(turns, title="Rows"), alt_text="Conversations by their number of turns")
    with st.expander("About the file", icon=":material/description:", key="about_fold"):
        per_field = dataset.statistics.get("field_characters") or {}
        facts.show(
            {
                "File": words.escaped(dataset.file_name),
                "Format": words.escaped(dataset.file_format.upper()),
                "Encoding": words.escaped(dataset.encoding or "UTF-8"),
                "Characters": words.count(dataset.statistics.get("characters")),
                "Longest row": words.count(dataset.statistics.get("longest_characters"), "character"),
                "SHA-256": f"<code>{words.escaped(dataset.sha256)}</code>",
            }
        )
        if per_field:
            characters = st.column_config.NumberColumn("Characters", format="localized")
            columns = {"column": "Column", "characters": characters}
            rows = [{"column": name, "characters": number} for name, number in per_field.items()]
            tables.show(rows, key="columns", columns=columns, file_name=f"{dataset.name}-columns")
