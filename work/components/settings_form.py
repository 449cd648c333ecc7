"""The settings of a training as the service describes them: fields, tooltips, presets, and what is sent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"epochs": 1, "max_length": 256, "eval_max_rows": 64, "generate_max_rows": 16},
    "balanced": {},
    "thorough": {"epochs": 5, "lora_r": 32, "early_stopping_patience": 3, "generate_max_rows": 128},
}
"""What each sets; `balanced` is what the service takes by itself."""
PRESET_HINTS = {
    "quick": "One pass, short examples, few rows scored: does it learn at all?",
    "balanced": "The service's own choices for the method, the data and the machine.",
    "thorough": "More passes, more adapter weights, more rows scored; stops by itself when nothing is gained.",
}
NEVER = "never_stop_early"
"""In an address: `early_stopping_patience` is to be null, which is not the same as left to the service."""
PATIENCE = "early_stopping_patience"
_GENTLE = {"pretrain": 2, "dpo": 2}
"""Passes that `thorough` takes for methods that soon learn by heart."""
GROUPS: dict[str, tuple[str, ...]] = {
    "Learning": (
        "learning_rate", "epochs", "batch_size", "max_length", "max_steps", "early_stopping_patience", "packing",
        "from_scratch", "dpo_beta",
    ),
    "Adapter": ("lora_r", "lora_alpha", "lora_dropout"),
    "Schedule": ("warmup_ratio", "weight_decay", "lr_scheduler_type", "seed"),
    "Machine and checkpoints": ("per_device_train_batch_size", "save_steps", "save_total_limit"),
    "Scoring": ("eval_fraction", "eval_max_rows", "generate_max_rows", "max_new_tokens"),
}  # fmt: skip
"""Settings in the order of the form; one that is not here comes under "Further"."""
CHOSEN_ELSEWHERE = frozenset({"method", "adapter", "simulated_failure_rate"})
_ONLY_FOR = {
    "dpo_beta": ("method", {"dpo"}),
    "packing": ("method", {"pretrain"}),
    "from_scratch": ("method", {"pretrain"}),
    "generate_max_rows": ("method", {"sft"}),
    "max_new_tokens": ("method", {"sft"}),
    "lora_r": ("adapter", {"lora", "qlora"}),
    "lora_alpha": ("adapter", {"lora", "qlora"}),
    "lora_dropout": ("adapter", {"lora", "qlora"}),
}


class Field(NamedTuple):
    """One setting: its name in the service, how it is asked for, its bounds and its tooltip."""

    name: str
    kind: str
    """`integer`, `number`, `boolean` or `choice`."""
    hint: str
    low: float | None
    high: float | None
    options: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return _LABELS.get(self.name) or self.name.replace("_", " ").capitalize()


_LABELS = {
    "lora_r": "LoRA rank",
    "lora_alpha": "LoRA alpha",
    "lora_dropout": "LoRA dropout",
    "dpo_beta": "DPO beta",
    "per_device_train_batch_size": "Micro-batch",
    "lr_scheduler_type": "Learning rate schedule",
    "warmup_ratio": "Warm-up",
    "eval_fraction": "Share held out",
    "eval_max_rows": "Rows scored by loss",
    "generate_max_rows": "Rows answered for scoring",
    "max_new_tokens": "Longest scored answer",
    "save_total_limit": "Checkpoints kept",
    "save_steps": "Steps between checkpoints",
}


def described(document: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in the service's own description of itself: name → JSON Schema; empty where it has none."""
    schemas = document.get("components", {}).get("schemas", {})
    config = schemas.get("NewExperiment", {}).get("properties", {}).get("training_config", {})
    return dict(config.get("properties", {}))


def options(described: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The values that a setting may have, where the service lists them."""
    return fields({name: described[name]})[name].options if name in described else ()


def fields(described: Mapping[str, Any]) -> dict[str, Field]:
    """Every setting as a field."""
    return {name: _field(name, schema) for name, schema in described.items()}


def _field(name: str, schema: Mapping[str, Any]) -> Field:
    shape: Mapping[str, Any] = next((one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"), {})
    hint = " ".join(str(schema.get("description", shape.get("description", ""))).split())
    low = shape.get("minimum", shape.get("exclusiveMinimum"))
    high = shape.get("maximum", shape.get("exclusiveMaximum"))
    values = tuple(map(str, shape.get("enum", [shape["const"]] if "const" in shape else [])))
    kind = "choice" if values else str(shape.get("type", "number"))
    return Field(name, kind, hint, low, high, values)


def grouped(known: Mapping[str, Field], *, method: str, adapter: str) -> dict[str, list[Field]]:
    """The fields that matter for this method and adapter, in the order of the form."""
    chosen = {"method": method, "adapter": adapter}
    useful = {
        name: field
        for name, field in known.items()
        if name not in CHOSEN_ELSEWHERE and (name not in _ONLY_FOR or chosen[_ONLY_FOR[name][0]] in _ONLY_FOR[name][1])
    }
    groups = {title: [useful.pop(name) for name in names if name in useful] for title, names in GROUPS.items()}
    return {title: found for title, found in {**groups, "Further": [*useful.values()]}.items() if found}


def preset(name: str, *, method: str, adapter: str, known: Mapping[str, Field]) -> dict[str, Any]:
    """What a preset sets for this method and adapter."""
    useful = {field.name for found in grouped(known, method=method, adapter=adapter).values() for field in found}
    values = {key: value for key, value in PRESETS.get(name, {}).items() if key in useful}
    if name == "thorough" and "epochs" in values:
        values["epochs"] = _GENTLE.get(method, values["epochs"])
    return values


def config(
    preset: Mapping[str, Any], typed: Mapping[str, Any], *, method: str | None, adapter: str | None
) -> dict[str, Any]:
    """What is sent: the preset, then what was typed above it; what nobody chose is left to the service."""
    chosen = {"method": method, "adapter": adapter}
    above = {key: value for key, value in typed.items() if value is not None}
    sent = {key: value for key, value in {**chosen, **preset, **above}.items() if value is not None}
    return {**{key: value for key, value in sent.items() if key != NEVER}, PATIENCE: None} if sent.get(NEVER) else sent
