"""Models: the bases to start from and what came of them; chat, card, lineage, exports, predictions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st
from slm_client import Client, Model, ModelDetail, NotFound, SlmError

import service
from components import badges, charts, chat, lineage, pages, states, tables, words, working

PARTS = {
    "about": ":material/info: About",
    "chat": ":material/chat: Chat",
    "lineage": ":material/account_tree: Lineage",
    "card": ":material/description: Card",
    "exports": ":material/output: Exports",
    "predictions": ":material/batch_prediction: Predictions",
}
FORMATS = {
    "adapter": "Adapter (PEFT): only what was learned, to put on the base",
    "safetensors": "Safetensors: the whole model, for transformers, vLLM and others",
    "gguf-q8_0": "GGUF, 8 bits: for llama.cpp, Ollama and LM Studio, half the size",
    "gguf-f16": "GGUF, 16 bits: for llama.cpp, Ollama and LM Studio, exact",
}
KINDS = {"all": "All", "base": "Bases", "fine_tuned": "Fine-tuned"}


def show() -> None:
    client = service.client()
    identity = pages.param("id")
    if identity:
        _detail(client, identity)
    else:
        _overview(client)


# -- all of them


def _overview(client: Client) -> None:
    pages.header("Models", lead="Bases to start from, and what was made of them.")
    kind = pages.param("kind", "all")
    chosen = st.segmented_control(
        "Kind", [*KINDS], format_func=KINDS.__getitem__, default=kind if kind in KINDS else "all", key="model_kind",
        label_visibility="collapsed",
    )  # fmt: skip
    pages.remember(kind=chosen if chosen != "all" else None)
    models = client.models.list(model_type=None if chosen in (None, "all") else chosen)
    names = {model.id: model.name for model in models}
    rows = [_row(model) for model in models]
    if rows:
        columns = {
            "name": "Name",
            "kind": st.column_config.MultiselectColumn(
                "Kind", options=["base", "fine-tuned", badges.SIMULATED], color=["gray", "blue", "orange"]
            ),
            "version": "Version",
            "parameters": "Parameters",
            "created": tables.moment_column("Created"),
        }
        st.caption("Choose a model to talk to it, export it or see where it comes from.")
        picked = tables.show(rows, key="models", columns=columns, choose="single-row", file_name="models")
        if picked:
            pages.remember(id=[*names][picked[0]])
            st.rerun()
    else:
        states.empty("Nothing was fine-tuned yet.")
        pages.link("train", "Train a model", icon=":material/model_training:")
    _register(client)


def _row(model: Model) -> dict[str, Any]:
    kind = ["base" if model.model_type == "base" else "fine-tuned"]
    return {
        "name": model.name,
        "kind": [*kind, badges.SIMULATED] if model.simulated else kind,
        "version": model.version,
        "parameters": words.parameters(model.parameters_count),
        "created": model.created_at,
    }


def _register(client: Client) -> None:
    with st.expander("Add a base model", icon=":material/add:"), st.form("register", border=False):
        name = st.text_input("Name", key="register_name")
        hub = st.text_input("On a model hub", placeholder="org/name", key="register_hub")
        folder = st.text_input("Or a folder below the service's MODELS_DIR", key="register_folder")
        st.caption("Only safetensors and GGUF weights are loaded; nothing is fetched until you pull it.")
        if st.form_submit_button("Add it", icon=":material/add:"):
            try:
                model = client.models.register(name, hub=hub or None, folder=folder or None)
            except SlmError as error:
                states.refused(error)
                return
            pages.remember(id=model.id)
            st.rerun()


# -- one of them


def _detail(client: Client, identity: str) -> None:
    model = client.models.get(identity)
    pages.header(model.name, lead=model.description or "", crumbs=[("models", {})])
    _facts(client, model)
    if model.simulated:
        st.warning(badges.SIMULATED_HINT, icon=":material/science:")
    parts = _parts(model)
    asked = pages.param("part", "about")
    part = st.segmented_control(
        "Part", parts, format_func=PARTS.__getitem__, default=asked if asked in parts else "about", key="model_part",
        label_visibility="collapsed",
    )  # fmt: skip
    pages.remember(part=part if part != "about" else None)
    {
        "about": _about,
        "chat": _chat,
        "lineage": _lineage,
        "card": _card,
        "exports": _exports,
        "predictions": _predictions,
    }[part or "about"](client, model)


def _parts(model: ModelDetail) -> list[str]:
    """What can be done with it: an imitation has no weights, and what names labels or fills gaps does not talk."""
    known = model.metadata or {}
    config = known.get("training_config")
    method = config.get("method") if isinstance(config, Mapping) else None
    silent = known.get("task") == "encoder" or method in ("classify", "mask")
    left_out = {"chat", "exports", "predictions"} if model.simulated else {"chat"} if silent else set()
    return [name for name in PARTS if name not in left_out]


def _facts(client: Client, model: ModelDetail) -> None:
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.badge("base" if model.model_type == "base" else f"fine-tuned {model.version}", color="blue")
        if model.simulated:
            st.badge(badges.SIMULATED, icon=":material/science:", color="orange", help=badges.SIMULATED_HINT)
        for tag in model.tags:
            st.badge(words.plain(tag), color="gray")
        st.markdown(f"{words.parameters(model.parameters_count)} parameters", width="content")
        st.markdown(words.moment(model.created_at), unsafe_allow_html=True, width="content")
        if model.experiment_id:
            pages.link("run", "Run", icon=":material/timeline:", id=model.experiment_id)
        evaluations = [*(model.linked_evaluations or ())]
        if len(evaluations) == 1:
            pages.link("evaluations", "Evaluation", icon=":material/scoreboard:", id=evaluations[0])
        elif evaluations:
            several = words.count(len(evaluations), "evaluation")
            pages.link("evaluations", several, icon=":material/scoreboard:", of=model.id)
        if not model.simulated and model.weights != "absent":
            label = "Train it" if model.model_type == "base" else "Train it further"
            pages.link("train", label, icon=":material/model_training:", base=model.id)


def _about(client: Client, model: ModelDetail) -> None:
    if model.model_type == "base":
        _weights(client, model)
    details = {key: value for key, value in (model.metadata or {}).items() if key not in ("weights", "pull")}
    rows = [
        {"what": name.replace("_", " "), "value": _fact(name, value)}
        for name, value in details.items()
        if value not in (None, "", [], {}) and not isinstance(value, Mapping | list)
    ]
    if rows:
        tables.show(rows, key="about", columns={"what": "", "value": "Known"}, file_name=f"model-{model.id}")
    config = details.get("training_config")
    if isinstance(config, Mapping):
        with st.expander("How it was trained", icon=":material/tune:"):
            tables.show(
                [{"setting": name, "value": str(value)} for name, value in config.items()],
                key="config",
                file_name=f"settings-{model.id}",
            )
    left, right = st.columns(2)
    with left.popover("Rename or describe", icon=":material/edit:"), st.form("edit", border=False):
        name = st.text_input("Name", model.name, key="edit_name")
        text = st.text_area("Description", model.description or "", key="edit_description")
        tags = st.text_input("Tags, separated by commas", ", ".join(model.tags), key="edit_tags")
        if st.form_submit_button("Save"):
            wanted = [tag.strip() for tag in tags.split(",") if tag.strip()]
            if _done(lambda: client.models.change(model.id, name=name, description=text, tags=wanted)):
                st.rerun()
    with right.popover("Delete", icon=":material/delete:"):
        st.write("Removes the model and its files for good; the weights of a base stay on this machine.")
        if st.button("Delete", type="primary", key="delete_model") and _done(lambda: client.models.delete(model.id)):
            pages.remember(id=None, part=None)
            st.rerun()


def _fact(name: str, value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return words.size(value) if name.endswith("bytes") else words.count(value)
    return str(value)


def _done(act: Any) -> bool:
    """Whether it worked; a refusal is shown."""
    try:
        act()
    except SlmError as error:
        states.refused(error)
        return False
    return True


def _weights(client: Client, model: ModelDetail) -> None:
    """Whether the weights are here; how to get them; how far that is."""
    if model.weights == "present":
        st.success("The weights are on this machine.", icon=":material/check_circle:")
        return
    pull = (model.metadata or {}).get("pull") or {}
    if model.weights == "pulling" and pull.get("run_id"):
        working.follow(str(pull["run_id"]))
        return
    if pull.get("error"):
        st.error(f"{pull['error'].get('message', '')} {pull['error'].get('hint', '')}".strip(), icon=":material/error:")
    st.info("The weights are not on this machine, so a run on this base would be simulated.", icon=":material/cloud:")
    if st.button("Get the weights", type="primary", icon=":material/download:", key="pull") and _done(
        lambda: client.models.pull(model.id)
    ):
        st.rerun()


def _chat(client: Client, model: ModelDetail) -> None:
    base = "Base"
    if model.base_model_id:
        try:
            base = client.models.get(model.base_model_id).name
        except NotFound:
            base = "Base"
    if model.weights == "absent":
        _weights(client, model)
        return
    chat.show(model.id, can_compare=model.model_type != "base", base_name=base)


def _lineage(client: Client, model: ModelDetail) -> None:
    graph = client.models.lineage(model.id).wire
    with st.container(key="lineage_picture"):
        st.image(lineage.picture(graph["nodes"], graph["edges"], dark=charts.is_dark()))
    with st.container(horizontal=True, key="lineage_steps"):
        for page, identity, title, name in lineage.steps(graph["nodes"]):
            if identity != model.id:
                pages.link(page, f"{title}: {words.plain(name)}", id=identity)
    rows = [
        {"what": node["type"], "name": node["name"], "deleted": bool(node.get("missing")),
         "digest": str((node.get("details") or {}).get("sha256") or ""), "id": node["id"]}
        for node in graph["nodes"]
    ]  # fmt: skip
    with st.expander("As a table", icon=":material/table_rows:"):
        tables.show(rows, key="lineage", file_name=f"lineage-{model.id}")


def _card(client: Client, model: ModelDetail) -> None:
    text = client.models.card(model.id)
    st.download_button(
        "README.md", text, f"{model.name}-README.md", "text/markdown", icon=":material/download:", key="card_file",
        on_click="ignore",
    )  # fmt: skip
    front, _, body = text.removeprefix("---\n").partition("\n---\n")
    with st.expander("Front matter", icon=":material/data_object:"):
        st.code(front, language="yaml")
    st.markdown(body)


def _exports(client: Client, model: ModelDetail) -> None:
    found = [export.wire for export in client.models.exports(model.id)]
    active = next((entry for entry in found if entry["state"] in ("queued", "starting", "running")), None)
    if active is not None:
        st.write(f"Exporting as {active['format']}; it is loaded again and compared before it counts.")
        working.follow(str(active["run_id"]))
    else:
        wanted = st.radio("Format", [*FORMATS], format_func=FORMATS.__getitem__, key="export_format")
        if st.button("Export", type="primary", icon=":material/output:", key="export_start") and _done(
            lambda: client.models.export(model.id, str(wanted))
        ):
            st.rerun()
    if not found and active is None:
        states.empty("Not exported yet.")
    for entry in found:
        if entry is not active:
            _export(entry)


def _export(entry: Mapping[str, Any]) -> None:
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{entry['format']}**", width="content")
            badges.status(str(entry["state"]))
            st.markdown(words.size(entry.get("size_bytes")), width="content")
        if entry.get("error"):
            st.error(f"{entry['error']['message']} {entry['error'].get('hint', '')}".strip(), icon=":material/error:")
        test = entry.get("self_test")
        if test:
            st.caption(self_test(test))
        with st.container(horizontal=True):
            for file in entry.get("files") or ():
                link = f"/api/artifacts/{file['artifact_id']}/download"
                label = f"{file['name']} ({words.size(file['size_bytes'])})"
                st.link_button(label, link, icon=":material/download:", help=f"SHA-256 {file['sha256']}")


def self_test(test: Mapping[str, Any]) -> str:
    """What was compared after loading the export again, in a sentence."""
    parts = [f"Loaded again by {', '.join(test.get('loaders') or ['its own loader'])}"]
    if test.get("same_top_token") is not None:
        share, tokens = words.percent(test["same_top_token"], 1), words.count(test.get("checked"), "token")
        parts.append(f"same first choice on {share} of {tokens}")
    if test.get("max_logit_difference") is not None:
        parts.append(f"scores of tokens differ by {words.number(test['max_logit_difference'])} at most")
    if test.get("same_text") is not None:
        parts.append("the same answers" if test["same_text"] else "answers not the same to the letter")
    return "; ".join(parts) + "."


def _predictions(client: Client, model: ModelDetail) -> None:
    st.write("Answers every record of a data set; the file keeps the inputs.")
    run_id = pages.param("run")
    if run_id:
        _prediction(run_id)
    datasets = client.datasets.list()
    if not datasets:
        states.empty("There is no data set yet.")
        return
    titles = {dataset.id: f"{dataset.name} · {words.count(dataset.row_count, 'row')}" for dataset in datasets}
    dataset_id = st.selectbox("Data set", [*titles], format_func=titles.__getitem__, key="predict_dataset")
    if st.button("Predict", type="primary", icon=":material/play_arrow:", key="predict_start"):
        try:
            run = client.models.predict(model.id, str(dataset_id))
        except SlmError as error:
            states.refused(error)
            return
        pages.remember(run=run.id)
        st.rerun()


def _prediction(run_id: str) -> None:
    with st.container(border=True):
        result = working.follow(run_id).wire.get("result") or {}
        if result.get("artifact_id"):
            answered, skipped = words.count(result.get("predicted"), "record"), words.count(result.get("skipped"))
            st.write(f"{answered} answered, {skipped} skipped.")
            st.link_button(
                "Download the answers (JSONL)",
                f"/api/artifacts/{result['artifact_id']}/download",
                icon=":material/download:",
            )
