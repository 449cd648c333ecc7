"""The middle of the Train page: method and adapter that fit, a preset, and every setting for those who want it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st
from slm_client import Client, DatasetDetail, ModelDetail, NotFound

from components import methods, pages, settings_form, words
from components.methods import Choice
from components.settings_form import PRESET_HINTS, PRESETS, Field

_STEPS = {"learning_rate": 1e-4, "epochs": 1.0, "lora_alpha": 1.0}
_FINE_STEP = 0.01
_EXECUTORS = {
    "local": "This service's machine (never a simulation)",
    "simulation": "A simulation: made-up numbers, nothing is trained",
}


@dataclass(frozen=True)
class Wanted:
    """What was chosen: what is sent as `training_config`, and where it runs (None lets the service decide)."""

    config: Mapping[str, Any]
    executor: str | None


def choose(client: Client, data: DatasetDetail, base: ModelDetail) -> Wanted | None:
    """Draw the choices; None where no method fits data and base."""
    described = settings_form.described(_description(client, client.base_url))
    with st.container(border=True, key="train_method"):
        st.subheader("Method", anchor=False)
        method = _method(data, base, described)
        adapter = _adapter(client, method, described) if method is not None else None
    if method is None or adapter is None:
        return None
    with st.container(border=True, key="train_settings"):
        st.subheader("Settings", anchor=False)
        known = settings_form.fields(described)
        name = st.segmented_control(
            "Preset", [*PRESETS], default="balanced", required=True, key="preset", bind="query-params"
        )
        st.caption(PRESET_HINTS[str(name)])
        preset = settings_form.preset(str(name), method=method, adapter=adapter, known=known)
        with st.expander("All settings", icon=":material/tune:", key="all_settings"):
            typed = _fields(settings_form.grouped(known, method=method, adapter=adapter), preset)
            if settings_form.PATIENCE in known:
                hint = "Takes every step that was asked for, however the validation loss goes; stands above patience."
                typed[settings_form.NEVER] = st.checkbox(
                    "Never stop early", key=settings_form.NEVER, bind="query-params", help=hint
                ) or None  # fmt: skip
            executor = _executor()
            simulated = executor == "simulation" or (executor is None and base.weights in {"absent", "pulling"})
            if simulated and "simulated_failure_rate" in known:
                typed["simulated_failure_rate"] = _typed(known["simulated_failure_rate"], None)
    return Wanted(settings_form.config(preset, typed, method=method, adapter=adapter), executor)


@st.cache_data(ttl="10m", show_spinner=False)
def _description(_client: Client, _address: str) -> dict[str, Any]:
    """The service's description of itself changes when it is replaced, not while it runs."""
    try:
        return _client.openapi()
    except NotFound:
        return {}


def _method(data: DatasetDetail, base: ModelDetail, described: Mapping[str, Any]) -> str | None:
    task = (base.metadata or {}).get("task")
    known = settings_form.options(described, "method") or ("sft",)
    choices = methods.choices(data.kind, str(task) if task else None, known=known)
    titles = {choice.name: methods.METHODS[choice.name].title for choice in choices}
    fitting = {choice.name: titles[choice.name] for choice in choices if choice.fits}
    if not fitting:
        st.warning("No method fits these data and this base model.", icon=":material/block:")
    method = pages.pick("What is learned", fitting, name="method") if fitting else None
    if method is not None:
        st.caption(methods.METHODS[method].purpose)
    _why_not("methods", choices, titles, folded=bool(fitting))
    return method


def _adapter(client: Client, method: str, described: Mapping[str, Any]) -> str | None:
    known = settings_form.options(described, "adapter") or ("lora", "full")
    gpu = bool(client.system().hardware.get("gpus"))
    choices = methods.adapters(method, known=known, gpu=gpu)
    titles = {choice.name: methods.ADAPTERS[choice.name][0] for choice in choices}
    fitting = {choice.name: titles[choice.name] for choice in choices if choice.fits}
    adapter = pages.pick("What of the model learns", fitting, name="adapter") if fitting else None
    if adapter is not None:
        st.caption(methods.ADAPTERS[adapter][1])
    _why_not("adapters", choices, titles, folded=bool(fitting))
    return adapter


def _why_not(what: str, choices: Sequence[Choice], titles: Mapping[str, str], *, folded: bool) -> None:
    """Each choice that does not fit, with the reason."""
    lines = [f"- **{titles[choice.name]}**: {words.plain(choice.why_not)}." for choice in choices if not choice.fits]
    if not lines:
        return
    if not folded:
        st.markdown("\n".join(lines))
        return
    with st.expander(f"Why not other {what}", icon=":material/help:", key=f"not_{what}"):
        st.markdown("\n".join(lines))


def _fields(groups: Mapping[str, Sequence[Field]], preset: Mapping[str, Any]) -> dict[str, Any]:
    """Draw the fields, two in a row; what was typed, by name."""
    typed: dict[str, Any] = {}
    for title, fields in groups.items():
        st.markdown(f"**{title}**")
        for start in range(0, len(fields), 2):
            for place, field in zip(st.columns(2), fields[start : start + 2], strict=False):
                with place:
                    typed[field.name] = _typed(field, preset.get(field.name))
    return typed


def _typed(field: Field, preset: Any) -> Any:
    """What was typed into a field; None leaves it to the preset, and below that to the service."""
    shown = "default" if preset is None else f"{preset:g}" if isinstance(preset, int | float) else str(preset)
    common: dict[str, Any] = {"key": field.name, "help": field.hint, "placeholder": shown, "bind": "query-params"}
    if field.kind == "choice":
        return st.selectbox(field.label, field.options, index=None, **common)
    if field.kind == "boolean":
        chosen = st.selectbox(field.label, ("true", "false"), index=None, **common)
        return None if chosen is None else chosen == "true"
    if field.kind == "integer":
        low, high = (None if bound is None else int(bound) for bound in (field.low, field.high))
        return st.number_input(field.label, min_value=low, max_value=high, value=None, step=1, **common)
    low_f, high_f = (None if bound is None else float(bound) for bound in (field.low, field.high))
    step = _STEPS.get(field.name, _FINE_STEP)
    return st.number_input(field.label, min_value=low_f, max_value=high_f, value=None, step=step, format="%g", **common)


def _executor() -> str | None:
    st.markdown("**Where it runs**")
    return pages.pick(
        "Executor", _EXECUTORS, name="executor", optional=True,
        hint="Nothing chosen: trains for real where the base model's weights are on the machine, else simulates.",
    )  # fmt: skip
