"""Weights of base models: which are here, and how to get the others, with progress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st
from slm_client import Client, ModelDetail, Progress

import service
from components import live, pages, words

BUNDLED = "SmolLM2 135M Instruct"
"""The base that comes from the ordinary package index, so that a first training needs no model hub."""
_LOOKED_AT = 40


def bases(client: Client) -> list[ModelDetail]:
    """Base models in detail, those whose weights are here first; a registry of hundreds is not looked through whole."""
    listed = client.models.list(model_type="base")[:_LOOKED_AT]
    found = [client.models.get(model.id) for model in listed]
    return sorted(found, key=lambda model: (model.weights != "present", model.name != BUNDLED))


def present(client: Client) -> list[ModelDetail]:
    """Base models that can be used now."""
    return [model for model in bases(client) if model.weights == "present"]


def how_large(model: ModelDetail) -> str:
    """What a pull downloads, where that is known beforehand."""
    known = (model.source or {}).get("download_bytes")
    return f" ({words.size(known)})" if known else ""


def offer(model: ModelDetail, *, key: str) -> None:
    """What to do about weights that are not here: a button, or the progress of the fetching that is under way.

    Once they are here the page is drawn anew.
    """
    if model.weights == "present":
        return
    pull = _pull(model)
    if model.weights == "pulling":
        live.watch(lambda: _draw_progress(model.id, key), active=True)
        return
    error = pull.get("error")
    if error:
        said = f"The last try failed: {error.get('message', '')} {error.get('hint', '')}"
        st.error(said.strip(), icon=":material/error:")
    hint = f"The service downloads {model.name} once; it stays on its machine."
    if st.button(f"Fetch the weights{how_large(model)}", key=key, icon=":material/cloud_download:", help=hint):
        service.client().models.pull(model.id)
        st.rerun()


def _draw_progress(model_id: str, key: str) -> bool:
    model = service.client().models.get(model_id)
    if model.weights != "pulling":
        return False
    pull = _pull(model)
    share, text = progress_of(Progress.read(pull.get("progress") or {}))
    st.progress(share, text=f"Fetching the weights of {words.plain(model.name)}: {text}")
    if pull.get("run_id") and st.button("Stop", key=f"{key}_stop", icon=":material/stop_circle:"):
        service.client().runs.cancel(pull["run_id"], save=False)
    return True


def progress_of(progress: Progress) -> tuple[float, str]:
    """The share done, and phase and amount in words."""
    done, total = progress.done, progress.total
    share = done / total if done is not None and total else (progress.percent or 0) / 100
    phase = progress.phase or "waiting"
    if phase == "downloading" and total:
        return min(share, 1.0), f"{phase}, {words.size(done)} of {words.size(total)}"
    return min(max(share, 0.0), 1.0), f"{phase}, {words.percent(share)}" if share else phase


def choose(models: Sequence[ModelDetail], *, name: str, label: str = "Base model") -> ModelDetail:
    """A select box of models by name; the address keeps the choice under `name`."""
    chosen = pages.pick(label, {model.id: model.name for model in models}, name=name)
    return next((model for model in models if model.id == chosen), models[0])


def _pull(model: ModelDetail) -> dict[str, Any]:
    return dict((model.metadata or {}).get("pull") or {})
