"""Turn quantised GGUF weights into safetensors in 32-bit floats, once, and prove that they read back the same.

Training needs plain floats, and safetensors load in a second where GGUF takes up to a minute.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from slm.errors import RunFailure

_SPARE_PADDING = ("<|endoftext|>", "<pad>", "<unk>")
_PROBE_TOKENS = 8


def dequantise(gguf: Path, target: Path) -> None:
    """Write weights, tokenizer and configuration into `target`. Raises `RunFailure`: unsupported or refused.

    A padding token that equals the end token is replaced: a collator that hides padding from the loss would hide the
    end of every answer, and the model would never learn to stop.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    try:
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype="float32"
        )
    except (ValueError, KeyError, NotImplementedError) as error:
        reason = (str(error).splitlines() or ["no reason given"])[0][:200]
        raise RunFailure("model_unsupported", f"{gguf.name} cannot be read as a language model: {reason}") from None
    _separate_padding(tokenizer, model)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    expected = _logits(model)
    del model
    gc.collect()
    difference = float((_logits(_reload(target)) - expected).abs().max())
    if difference != 0.0:
        message = f"The weights of {gguf.name} changed when they were written and read again (by {difference:.2g})."
        raise RunFailure("weights_refused", message)


def _separate_padding(tokenizer: Any, model: Any) -> None:
    if tokenizer.pad_token not in (None, tokenizer.eos_token):
        return
    known = tokenizer.get_vocab()
    spare = next((text for text in _SPARE_PADDING if text in known and text != tokenizer.eos_token), None)
    if spare is None:
        return
    tokenizer.pad_token = spare
    model.config.pad_token_id = tokenizer.pad_token_id
    if model.generation_config is not None:
        model.generation_config.pad_token_id = tokenizer.pad_token_id


def _reload(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder, dtype="float32", local_files_only=True, use_safetensors=True, trust_remote_code=False
    )


def _logits(model: Any) -> Any:
    import torch

    with torch.inference_mode():
        tokens = torch.arange(_PROBE_TOKENS).unsqueeze(0) % model.config.vocab_size
        return model.eval()(input_ids=tokens).logits
