"""The part of a dataset's page that shows what a model would learn, token by token."""

from __future__ import annotations

import streamlit as st
from slm_client import Client, Conflict, DatasetDetail, ModelDetail, NotFound, Preview

import service
from components import charts, facts, live, tokens, weights, words
from components.curves import counted

SHOWN = 5
LIMITS = (32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096)
"""Steps of the slider."""


def show(client: Client, dataset: DatasetDetail) -> None:
    st.header("What a model would learn", anchor="tokens")
    if dataset.kind is None:
        st.caption("Say above which column is what; then the tokens are shown here.")
        return
    bases = weights.bases(client)
    usable = [model for model in bases if model.weights == "present"]
    if not usable:
        st.info("The tokens depend on the model, and no base model's weights are on the service's machine yet.",
                icon=":material/cloud_download:")  # fmt: skip
        if bases:
            weights.offer(bases[0], key="tokens_fetch")
        return

    live.part(lambda: _look(dataset, usable))


def _look(dataset: DatasetDetail, usable: list[ModelDetail]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        model = weights.choose(usable, name="base")
        slider = st.container(width=420)
    asked = st.session_state.get("max_length")
    try:
        with st.spinner("Reading the rows as the model would …"):
            reading = f"{dataset.sha256} {dataset.mapping}"
            preview = _preview(service.visitor(), dataset.id, reading, model.id, asked, _offset())
    except NotFound:
        st.info("This service does not show tokens; a newer one does.", icon=":material/info:")
        return
    except Conflict as error:
        st.info(error.detail, icon=":material/info:")
        return
    with slider:
        st.select_slider(
            "Length limit in tokens", sorted({*LIMITS, preview.max_length}), value=preview.max_length, key="max_length",
            help="What a training's max_length would be: longer rows lose their end.",
        )  # fmt: skip
    _whole(preview)
    _examples(preview)


@st.cache_data(ttl=600, max_entries=64, show_spinner=False)
def _preview(
    visitor: str, dataset_id: str, reading: str, base_model_id: str, max_length: int | None, offset: int
) -> Preview:
    """A preview costs seconds and holds as long as the rows are read in the same way.

    Kept for each kind of visitor, so that no one sees what was answered to someone else; `reading` is part of the key.
    """
    client = service.client_for(visitor)
    return client.datasets.preview(
        dataset_id, base_model_id=base_model_id, max_length=max_length, limit=SHOWN, offset=offset
    )


def _whole(preview: Preview) -> None:
    st.markdown(words.plain(tokens.summary(preview.counts, preview.rows_read, preview.rows_total)))
    for warning in preview.warnings:
        st.warning(warning, icon=":material/warning:")
    lengths = preview.lengths
    buckets = lengths.get("histogram") or []
    if not buckets:
        return
    _, beyond = counted([(bucket["from"], bucket["to"], bucket["count"]) for bucket in buckets], preview.max_length)
    facts.show(
        {
            "Half of the rows have up to": words.count(lengths.get("p50"), "token"),
            "95 % have up to": words.count(lengths.get("p95"), "token"),
            "The longest has": words.count(lengths.get("max"), "token"),
        }
    )
    text = f"Rows by their length in tokens; {beyond} are longer than {preview.max_length}."
    charts.draw(charts.histogram(buckets, limit=preview.max_length), key="lengths", alt_text=text)


def _examples(preview: Preview) -> None:
    st.html(tokens.LEGEND + "".join(map(tokens.as_html, preview.examples)))
    if preview.rows_total > SHOWN:
        st.pagination(-(-preview.rows_total // SHOWN), key="tokens_page")


def _offset() -> int:
    return (int(st.session_state.get("tokens_page") or 1) - 1) * SHOWN
