"""Which parameters learn: all (`full`), or small matrices beside a frozen base (`lora`); and merging those in."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, get_peft_model

from slm.errors import RunFailure
from slm.spec import Adapter, Hyperparameters

ADAPTER_WEIGHTS = "adapter_model.safetensors"


def prepare(model: Any, config: Hyperparameters, *, task_type: str) -> Any:
    """The model with exactly those parameters set to learn that the configuration asks for.

    LoRA's initial matrices come from torch's global generator: seed it first.
    """
    if config.adapter is Adapter.FULL:
        model.requires_grad_(True)
        return model
    lora = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        task_type=task_type,
        # GPT-2's Conv1D stores its matrices transposed.
        fan_in_fan_out=model.config.model_type == "gpt2",
    )
    with warnings.catch_warnings():
        # PEFT asks the model by a name that transformers is about to retire.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        return get_peft_model(model, lora)


def merge(model: Any, adapters: Iterable[Path]) -> Any:
    """The plain model with each adapter added into its weights, in order. Raises `RunFailure`."""
    for folder in adapters:
        if not (folder / ADAPTER_WEIGHTS).is_file():
            raise RunFailure("weights_missing", f"The adapter in {folder.name} has no {ADAPTER_WEIGHTS}.")
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
                adapted = PeftModel.from_pretrained(model, str(folder))
        except (ValueError, RuntimeError, json.JSONDecodeError) as error:
            raise RunFailure(
                "weights_refused", f"The adapter in {folder.name} does not fit its base: {error}"
            ) from error
        model = adapted.merge_and_unload()
    return model


def count_parameters(model: Any) -> tuple[int, int]:
    """(parameters of the model that results once adapters are merged, parameters that learn)."""
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for name, parameter in model.named_parameters() if "lora_" not in name)
    return total, trainable
