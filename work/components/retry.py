"""From a run to the next one: the Train page's address that repeats it, and the change that a failure asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from slm_client import ExperimentDetail

from components.settings_form import NEVER, PATIENCE


class Change(NamedTuple):
    """What to do otherwise: a sentence for the button, and the settings it sets (None takes one out)."""

    label: str
    settings: Mapping[str, Any]


def address(experiment: ExperimentDetail, **settings: Any) -> dict[str, str]:
    """The Train page's parameters that ask for the same again; `settings` stand above what was asked for."""
    asked = {**experiment.requested_config, **settings}
    if asked.get(PATIENCE, "left to the service") is None:
        asked[NEVER] = True
    references = {
        "data": experiment.training_dataset_id,
        "eval": experiment.eval_dataset_id,
        "base": experiment.base_model_id,
        "name": experiment.name,
        "goal": experiment.goal,
        "description": experiment.description,
        # One that became a simulation for want of weights trains for real where they are here now.
        "executor": "simulation" if experiment.requested_executor == "simulation" else None,
    }
    return {key: text(value) for key, value in {**references, **asked}.items() if value not in (None, "")}


def text(value: Any) -> str:
    """A setting as it stands in an address: whole numbers without a point, truth as Streamlit's own binding has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value)


def change(experiment: ExperimentDetail) -> Change | None:
    """The change that its failure asks for; None where nothing in the request would help."""
    if experiment.error is None:
        return None
    known = _CHANGES.get(experiment.error.code)
    return known(experiment.training_config) if known else None


def _memory(config: Mapping[str, Any]) -> Change:
    length = int(config.get("max_length") or 1024)
    if config.get("adapter") == "full":
        return Change("with LoRA, which needs a quarter of the memory", {"adapter": "lora", "learning_rate": None})
    if config.get("per_device_train_batch_size") != 1:
        return Change("with one example at a time", {"per_device_train_batch_size": 1})
    shorter = max(64, length // 2)
    return Change(f"with examples cut at {shorter} tokens", {"max_length": shorter, "per_device_train_batch_size": 1})


def _rate(config: Mapping[str, Any]) -> Change:
    rate = float(config.get("learning_rate") or 2e-4)
    lower = float(f"{rate / 10:.3g}")
    return Change(f"with a tenth of the learning rate ({lower:g})", {"learning_rate": lower})


def _length(config: Mapping[str, Any]) -> Change:
    longer = min(131_072, 2 * int(config.get("max_length") or 1024))
    return Change(f"with up to {longer:,} tokens an example", {"max_length": longer})


def _truth(_config: Mapping[str, Any]) -> Change:
    return Change("without the simulated failure", {"simulated_failure_rate": 0})


_CHANGES: dict[str, Callable[[Mapping[str, Any]], Change]] = {
    "out_of_memory": _memory,
    "process_died": _memory,
    "loss_not_finite": _rate,
    "nothing_to_learn": _length,
    "simulated_failure": _truth,
}
