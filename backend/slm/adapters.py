"""Which parameters learn: all (`full`), or small matrices beside a frozen base (`lora`), which may be held in four bits
(`qlora`, CUDA only); and merging those in."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from slm.errors import RunFailure
from slm.spec import Adapter, Hyperparameters, ModelRef

ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"

_NEVER_QUANTISED = ("lm_head", "score", "classifier", "pre_classifier", "pooler", "cls")
"""Output layers, and heads that a method may put on the base."""


def require(config: Hyperparameters, base: ModelRef) -> None:
    """Raises `RunFailure` where the base cannot be trained by the adapter here: `qlora` needs CUDA, bitsandbytes and
    whole weights, because merging an adapter into four bits would round it away."""
    if config.adapter is not Adapter.QLORA:
        return
    if base.adapters:
        message = f"'{base.name}' is an adapter on its base; qlora starts from whole weights only."
        raise RunFailure("model_unsupported", message)
    missing = "an NVIDIA GPU" if not torch.cuda.is_available() else None
    if missing is None and find_spec("bitsandbytes") is None:
        missing = "the package bitsandbytes"
    if missing is not None:
        raise RunFailure("adapter_unavailable", f"Adapter qlora needs {missing}, which is not here.")


def quantised(config: Hyperparameters) -> dict[str, Any]:
    """Keywords of `from_pretrained` by which the base is loaded as the adapter wants it: for `qlora` in four bits (NF4,
    its scales quantised once more), but for the layers that are learned whole."""
    if config.adapter is not Adapter.QLORA:
        return {}
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16 if bf16 else torch.float16,
            llm_int8_skip_modules=list(_NEVER_QUANTISED),
        ),
        "device_map": {"": 0},
    }


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
    if config.adapter is Adapter.QLORA:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
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
