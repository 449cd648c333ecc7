"""What can be done to a dataset: another mapping, another name, a split, deletion."""

from __future__ import annotations

import streamlit as st
from slm_client import Client, DatasetDetail, SlmError

from components import mapping, pages, states, words

NOT_USED = "not used"


def mapping_editor(client: Client, dataset: DatasetDetail) -> None:
    """Which column plays which part; saving looks into the whole file again."""
    if not dataset.columns:
        return
    title = "Which column is what" if dataset.kind else "Say which column is what"
    with st.expander(title, icon=":material/view_column:", expanded=dataset.kind is None, key="mapping_fold"):
        if dataset.kind:
            st.caption(dataset.kind_reason)
        kinds = [*mapping.KINDS]
        kind = st.selectbox(
            "The data is",
            kinds,
            index=kinds.index(dataset.kind) if dataset.kind in kinds else 0,
            format_func=lambda name: f"{mapping.KINDS[name].title}: {mapping.KINDS[name].use}",
            key="mapping_kind",
        )
        chosen = _roles(dataset, kind)
        problem = mapping.lacks(kind, chosen)
        wanted = mapping.given(kind, chosen)
        with st.container(horizontal=True, vertical_alignment="center"):
            same = wanted == dataset.mapping
            if st.button("Save", type="primary", key="mapping_save", disabled=problem is not None or same):
                _save(client, dataset, wanted)
            if st.button("Detect again", key="mapping_detect", help="Forget what was chosen by hand"):
                _save(client, dataset, None)
            if problem:
                st.caption(problem)


def _roles(dataset: DatasetDetail, kind: str) -> dict[str, str | None]:
    required, optional = mapping.KINDS[kind].required, mapping.KINDS[kind].optional
    proposed = mapping.proposed(kind, dataset.columns, dataset.mapping)
    chosen: dict[str, str | None] = {}
    for place, role in zip(st.columns(min(3, len(required + optional))) * 3, required + optional, strict=False):
        options = [NOT_USED, *dataset.columns]
        with place:
            column = st.selectbox(
                f"{role}{'' if role in required else ' (optional)'}",
                options,
                index=options.index(proposed[role]) if role in proposed else 0,
                key=f"mapping_{kind}_{role}",
                help=mapping.ROLES[role],
            )
        chosen[role] = None if column == NOT_USED else column
    return chosen


def _save(client: Client, dataset: DatasetDetail, wanted: dict[str, str] | None) -> None:
    try:
        with st.spinner("The service looks into every row again …"):
            client.datasets.change(dataset.id, mapping=wanted)
    except SlmError as error:
        states.refused(error)
        return
    st.rerun()


@st.dialog("Rename", icon=":material/edit:")
def rename(client: Client, dataset: DatasetDetail) -> None:
    name = st.text_input("Name", dataset.name, max_chars=200, key="rename_name")
    description = st.text_area("Description", dataset.description or "", key="rename_description")
    if st.button("Save", type="primary", key="rename_save", disabled=not name.strip()):
        with states.guarded():
            client.datasets.change(dataset.id, name=name.strip(), description=description)
            st.rerun()


@st.dialog("Split into two", icon=":material/call_split:")
def split(client: Client, dataset: DatasetDetail) -> None:
    """Two new datasets without a row in common; the file itself stays as it is."""
    st.caption("Keep some rows aside to be scored on: a model is judged fairly only on rows it did not learn from.")
    percent = st.slider("Rows kept aside, in percent", 1, 50, 10, key="split_percent")
    seed = st.number_input("Seed", 0, 2**31 - 1, 42, key="split_seed", help="The same seed gives the same two parts.")
    stratify = dataset.kind == "classification" and st.checkbox(
        "The same share of each label in both", value=True, key="split_stratify"
    )
    aside = round(dataset.row_count * percent / 100)
    st.markdown(
        f"{words.count(dataset.row_count - aside, 'row')} to learn from, {words.count(aside, 'row')} to be scored on."
    )
    if st.button("Split", type="primary", key="split_now"):
        with states.guarded():
            with st.spinner("Writing two files …"):
                _, part = client.datasets.split(dataset.id, fraction=percent / 100, seed=int(seed), stratify=stratify)
            st.toast(f"Made two datasets of {words.plain(dataset.name)}.", icon=":material/call_split:")
            pages.remember(id=part.id)
            st.rerun()


@st.dialog("Delete this dataset?", icon=":material/delete:")
def delete(client: Client, dataset: DatasetDetail) -> None:
    """Says beforehand what refers to it; the service refuses as long as anything does."""
    with states.guarded():
        runs = [run for run in client.experiments.list() if run.training_dataset_id == dataset.id]
        evaluations = client.evaluations.list(dataset_id=dataset.id)
        if runs or evaluations:
            used = " and ".join(
                part
                for part in (
                    f"{words.count(len(runs), 'run')} learned from it" if runs else "",
                    f"{words.count(len(evaluations), 'evaluation')} scored on it" if evaluations else "",
                )
                if part
            )
            st.warning(f"It cannot go yet: {used}. Delete those first.", icon=":material/link:")
            for run in runs[:5]:
                pages.link("run", words.plain(run.name), id=run.id)
            if len(runs) > 5:
                st.caption(f"and {len(runs) - 5} more")
            return
        st.markdown(
            f"**{words.plain(dataset.name)}** with {words.count(dataset.row_count, 'row')} "
            f"({words.size(dataset.size_bytes)}) goes for good, with its file. No run learned from it, "
            "and no evaluation was scored on it."
        )
        if st.button("Delete for good", type="primary", key="delete_now", icon=":material/delete_forever:"):
            client.datasets.delete(dataset.id)
            pages.remember(id=None)
            st.toast(f"{words.plain(dataset.name)} is deleted.", icon=":material/delete:")
            st.rerun()
