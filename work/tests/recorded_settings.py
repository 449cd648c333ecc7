"""The service's description of its settings, as far as the Train page reads it, and its plan."""

from __future__ import annotations

from typing import Any

from recorded import Json, Recorded


def _setting(description: str, **shape: Any) -> Json:
    return {"anyOf": [shape, {"type": "null"}], "description": description}


SETTINGS: Json = {
    "method": _setting("What is learned.", type="string", enum=["sft", "pretrain", "classify", "mask", "dpo"]),
    "adapter": _setting("Which parameters learn.", type="string", enum=["lora", "full", "qlora"]),
    "learning_rate": _setting("Peak learning rate.", type="number", exclusiveMinimum=0, maximum=1),
    "epochs": _setting("Passes over the\ntraining examples.", type="number", exclusiveMinimum=0, maximum=1000),
    "batch_size": _setting("Examples per optimizer step.", type="integer", minimum=1, maximum=4096),
    "max_length": _setting("Longest example in tokens.", type="integer", minimum=8, maximum=131072),
    "early_stopping_patience": _setting("Evaluations without gain.", type="integer", minimum=1, maximum=1000),
    "packing": _setting("Fill every sequence.", type="boolean"),
    "lora_r": _setting("Rank of the LoRA matrices.", type="integer", minimum=1, maximum=1024),
    "lr_scheduler_type": _setting("How the rate falls.", type="string", enum=["cosine", "linear"]),
    "seed": _setting("Seeds everything.", type="integer", minimum=0, exclusiveMaximum=2147483648),
    "eval_max_rows": _setting("Rows scored.", type="integer", minimum=1, maximum=1000000),
    "generate_max_rows": _setting("Rows answered.", type="integer", minimum=0, maximum=100000),
    "dpo_beta": _setting("How firmly.", type="number", exclusiveMinimum=0, maximum=10),
    "simulated_failure_rate": _setting("How probably it fails.", type="number", minimum=0, maximum=1),
    "of_tomorrow": _setting("A setting that this workbench has not heard of.", type="integer"),
}


def describe(api: Recorded, settings: Json = SETTINGS) -> None:
    """Let the service describe itself."""
    body = {"properties": {"training_config": {"type": "object", "properties": settings}}}
    api.on("GET", "/openapi.json", {"openapi": "3.1.0", "components": {"schemas": {"NewExperiment": body}}})


def figure(value: float, basis: str = "formula") -> Json:
    return {"value": value, "basis": basis}


def plan(**changes: Any) -> Json:
    basis = "measured" if changes.get("measured") else "formula"
    return {
        "executor": "local",
        "executor_reason": "Trains on this machine.",
        "simulated": False,
        "method": "sft",
        "adapter": "lora",
        "training_config": {"method": "sft", "adapter": "lora", "learning_rate": 0.001, "epochs": 3, "seed": 42},
        "reasons": {"epochs": "three passes suit most data.", "seed": "so that the same gives the same."},
        "steps": figure(81),
        "tokens": figure(17_000),
        "memory_bytes": figure(1_700_000_000, basis),
        "seconds": figure(443, basis),
        "cpu_seconds": figure(880, basis),
        "checkpoint_bytes": figure(240_000_000),
        "warnings": [],
        "overlap": None,
        "train_examples": 216,
        "eval_examples": 24,
        "measured": False,
        **changes,
    }
