"""Which parameters learn: all (`full`), or small matrices beside a frozen base (`lora`); and merging those in."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from transformers.pytorch_utils import Conv1D

from slm.errors import RunFailure
from slm.spec import Adapter, Hyperparameters

ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"


def prepare(model: Any, config: Hyperparameters, *, task_type: str, new: Sequence[str] = ()) -> Any:
    """The model with exactly those parameters set to learn that the configuration asks for.

    LoRA goes to every linear layer but the output layer: in Llama and Qwen2 the projections of attention and MLP, in
    GPT-2 its Conv1D layers, in BERT also the pooler. Modules that are `new`, drawn at random because the base does not
    bring them (a classifier's head), are learned whole and saved with the adapter.
    LoRA's initial matrices come from torch's global generator: seed it first.
    """
    if config.adapter is Adapter.FULL:
        model.requires_grad_(True)
        return model
    whole = [name for name in new if _learned_whole(model, name)]
    lora = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
        exclude_modules=whole or None,
        modules_to_save=whole or None,
        task_type=task_type,
        # GPT-2's Conv1D stores its matrices transposed.
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    with _quiet():
        return get_peft_model(model, lora)


def _learned_whole(model: Any, name: str) -> bool:
    """Layers themselves, not what holds them; the output layer, tied to the embeddings, stays with those."""
    module = model.get_submodule(name)
    outermost = not any(True for _ in module.children()) or name.count(".") == 0
    return outermost and module is not model.get_output_embeddings()


def merge(model: Any, adapters: Iterable[Path]) -> Any:
    """The plain model with each adapter added into its weights, in order. Raises `RunFailure`.

    What an adapter says of modules that this model does not have (another method's head) is left out.
    """
    for folder in adapters:
        if not (folder / ADAPTER_WEIGHTS).is_file():
            raise RunFailure("weights_missing", f"The adapter in {folder.name} has no {ADAPTER_WEIGHTS}.")
        try:
            config = PeftConfig.from_pretrained(str(folder))
            names = [name for name, _ in model.named_modules()]
            whole = [saved for saved in config.modules_to_save or () if any(name.endswith(saved) for name in names)]
            # Without a task PEFT wraps any model, whatever head the adapter was trained with.
            config.task_type, config.modules_to_save, config.inference_mode = None, whole or None, True
            with _quiet():
                adapted = PeftModel.from_pretrained(model, str(folder), config=config)
        except (ValueError, RuntimeError, TypeError, json.JSONDecodeError) as error:
            raise RunFailure(
                "weights_refused", f"The adapter in {folder.name} does not fit its base: {error}"
            ) from error
        model = adapted.merge_and_unload()
    return model


def whole_modules(folder: Path) -> list[str]:
    """Names of the modules that an adapter brings whole."""
    found: list[str] | None = json.loads((folder / ADAPTER_CONFIG).read_bytes()).get("modules_to_save")
    return list(found or ())


@contextmanager
def _quiet() -> Iterator[None]:
    """PEFT asks the model by a name that transformers is about to retire."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield


def count_parameters(model: Any) -> tuple[int, int]:
    """(parameters of the model that results once adapters are merged, parameters that learn)."""
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    # A module that is learned whole stands there twice: as it was, and as it is.
    added = ("lora_", "original_module")
    total = sum(p.numel() for name, p in model.named_parameters() if not any(sign in name for sign in added))
    return total, trainable
