"""A small model made from nothing: a tokenizer trained on the data, and random weights of the base's architecture.

For trying how a language model comes about, not for use: a few million parameters learn letters and common words in
minutes, readable sentences in hours. The tokenizer is a byte-level BPE, so that any text can be written with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from slm.errors import RunFailure
from slm.shape import SCRATCH, scratch_vocabulary

END = "<|endoftext|>"
_MODERN = {name: value for name, value in SCRATCH.items() if name != "model_type"}
_SIZES: dict[str, dict[str, Any]] = {
    "llama": _MODERN,
    "mistral": _MODERN | {"sliding_window": None},
    "qwen2": _MODERN,
    "gpt2": {
        "n_embd": SCRATCH["hidden_size"],
        "n_layer": SCRATCH["num_hidden_layers"],
        "n_head": SCRATCH["num_attention_heads"],
    },
}
"""Model type → a configuration of three to five million parameters."""


def plain_config(model_type: str) -> Any:
    """The architecture as it is by default. Raises `RunFailure` for one that is not known here."""
    if model_type not in _SIZES:
        known = ", ".join(sorted(_SIZES))
        raise RunFailure("model_unsupported", f"from_scratch makes models of the kinds {known}, not {model_type}.")
    return AutoConfig.for_model(model_type)


def make(folder: Path, texts: Iterable[str], *, model_type: str, max_length: int, seed: int) -> None:
    """Put tokenizer, configuration and random weights into `folder`, whole or not at all; nothing where it exists.

    The same texts and seed give the same files. Raises `RunFailure` for an architecture that is not known here.
    """
    if folder.is_dir():
        return
    plain_config(model_type)
    tokenizer = train_tokenizer(texts)
    end = tokenizer.eos_token_id
    length = {"n_positions" if model_type == "gpt2" else "max_position_embeddings": max_length}
    config = AutoConfig.for_model(
        model_type, vocab_size=len(tokenizer), bos_token_id=end, eos_token_id=end, pad_token_id=end,
        **length, **_SIZES[model_type],
    )  # fmt: skip
    torch.manual_seed(seed)
    working = folder.with_name(f".tmp-{folder.name}")
    shutil.rmtree(working, ignore_errors=True)
    AutoModelForCausalLM.from_config(config).save_pretrained(working)
    tokenizer.save_pretrained(working)
    working.rename(folder)


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE whose vocabulary grows with the data, from 512 to 4,096 entries."""
    kept = list(texts)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=scratch_vocabulary(sum(map(len, kept))),
        special_tokens=[END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(kept, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=END, pad_token=END)
