"""Train: data, model, method, settings and the plan on one page; every choice stands in the address."""

from __future__ import annotations

from collections.abc import Iterable

import streamlit as st
from slm_client import Client, Dataset, DatasetDetail, ModelDetail

import service
from components import facts, mapping, methods, pages, states, weights, words
from views import train_review, train_settings


def show() -> None:
    pages.header("Train", lead="Pick data and a base model; the rest has sensible values. The plan says what it takes.")
    client = service.client()
    datasets = client.datasets.list()
    if not datasets:
        states.empty("There is no data to learn from yet.")
        pages.link("datasets", "Upload data", icon=":material/upload_file:")
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        data, held_out = _data(client, datasets)
        base = _model(client)
        wanted = train_settings.choose(client, data, base) if base is not None else None
    with right:
        if base is not None and wanted is not None:
            train_review.show(client, data, held_out, base, wanted)


def _data(client: Client, datasets: Iterable[Dataset]) -> tuple[DatasetDetail, str | None]:
    """The rows to learn from, and the id of those to be scored on (None holds out a part)."""
    with st.container(border=True, key="train_data"):
        st.subheader("Data", anchor=False)
        _gone("data", {dataset.id for dataset in datasets}, "The data that this address names are gone.")
        identity = pages.pick(
            "Learn from", _labels(datasets, "training"), name="data", hint="Rows of a dataset that was uploaded"
        )
        data = client.datasets.get(identity or "")
        held_out = pages.pick(
            "Be scored on", _labels(datasets, "evaluation"), name="eval", optional=True,
            hint="Rows that the training never sees. Without them a part of the training rows is held out.",
            nothing="A part of these rows, held out",
        )  # fmt: skip
        facts.show(
            {
                "Rows": words.count(data.row_count),
                "Kind": methods.KINDS.get(data.kind or "", "not known yet"),
                "Unusable": words.count(data.faults.count) if data.faults.count else None,
            }
        )
        if data.kind is None:
            asked = mapping.question(data.kind_reason, data.mapping, data.columns, where="on its page")
            st.warning(words.plain(asked), icon=":material/table_view:")
        with st.container(horizontal=True):
            pages.link("datasets", "Look at rows and tokens", icon=":material/visibility:", id=data.id)
            pages.link("datasets", "Upload other data", icon=":material/upload_file:")
    return data, held_out


def _labels(datasets: Iterable[Dataset], purpose: str) -> dict[str, str]:
    """Id → name and rows, those meant for the purpose first; equal names are told apart by their time."""
    ordered = sorted(datasets, key=lambda dataset: dataset.dataset_type != purpose)
    labels = {dataset.id: f"{dataset.name} · {words.count(dataset.row_count, 'row')}" for dataset in ordered}
    seen = [*labels.values()]
    return {
        dataset.id: label if seen.count(label) == 1 else f"{label} · {words.exact(dataset.created_at)}"
        for dataset, label in zip(ordered, labels.values(), strict=True)
    }


def _model(client: Client) -> ModelDetail | None:
    with st.container(border=True, key="train_base"):
        st.subheader("Base model", anchor=False)
        bases = {model.id: model for model in weights.bases(client)}
        tuned = [model for model in client.models.list(model_type="fine_tuned") if not model.simulated]
        options = {identity: _base_label(model) for identity, model in bases.items()}
        options |= {model.id: f"{model.name} · tuned {words.ago(model.created_at)}" for model in tuned}
        if not options:
            states.empty("There is no base model to start from.")
            pages.link("models", "Register one")
            return None
        _gone("base", options, "The base model that this address names is gone.")
        identity = pages.pick("Start from", options, name="base", hint="A base, or a model that was tuned here") or ""
        base = bases.get(identity) or client.models.get(identity)
        metadata = base.metadata or {}
        facts.show(
            {
                "Parameters": words.parameters(base.parameters_count),
                "Made to": {"causal": "continue text", "encoder": "read whole texts"}.get(str(metadata.get("task"))),
                "Licence": words.escaped(metadata["license"]) if metadata.get("license") else None,
            }
        )
        if base.weights in {"absent", "pulling"}:
            st.warning(
                "Its weights are not on the service's machine. Without them a training is **simulated**: "
                "made-up numbers, and no model to use.",
                icon=":material/science:",
            )
            weights.offer(base, key="train_fetch")
    return base


def _base_label(model: ModelDetail) -> str:
    here = {"present": "weights are here", "pulling": "weights are being fetched"}.get(model.weights or "")
    size = words.parameters(model.parameters_count) if model.parameters_count else None
    return " · ".join(filter(None, (model.name, size, here or "weights are not here")))


def _gone(name: str, known: Iterable[str], sentence: str) -> None:
    asked = pages.param(name)
    if asked and asked not in known:
        st.info(f"{sentence} Another was chosen.", icon=":material/search_off:")
