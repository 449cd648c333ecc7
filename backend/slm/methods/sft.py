"""Supervised fine-tuning: a causal model learns to go on as the data do.

The loss is cross-entropy over learned tokens only, and the output layer is applied to those positions only: with a
vocabulary of 50,000 it would otherwise cost as much as the whole small model and hold most of the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from slm.data.prefix import common_prefix, lay_out, worthwhile
from slm.data.render import IGNORED, Rendered, Renderer

MODEL_CLASS = AutoModelForCausalLM
TASK_TYPE = "CAUSAL_LM"
DIRECT = frozenset({"gpt2", "llama", "mistral", "qwen2", "qwen3", "smollm3"})
"""Model types whose logits are `head(backbone(x))` and nothing else (tested against the model's own forward)."""


def renderer(tokenizer: Any, *, max_length: int) -> Renderer:
    return Renderer(tokenizer, max_length=max_length)


def refusal(config: Any) -> str | None:
    """Encoders load as causal models too, and then learn nonsense: they are refused by their architecture's name."""
    names = [str(name) for name in getattr(config, "architectures", None) or []]
    shown = names[0] if names else str(config.model_type)
    if getattr(config, "is_encoder_decoder", False):
        return f"{shown} is an encoder-decoder; continuing prompts needs a causal language model."
    if names and not any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        return f"{shown} is not a causal language model, which continuing prompts needs."
    return None


def sharing_width(config: Any, *, device: str) -> int | None:
    """The hidden size of a model that takes rows with a common beginning as one sequence, or None.

    Every layer must see the mask it is given: no window, no pattern of its own. Measured on processors only: a GPU's
    kernels may prefer plain rows.
    """
    windowed = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    if device != "cpu" or config.model_type not in DIRECT or windowed:
        return None
    return int(config.hidden_size)


def collate(
    rows: Sequence[Rendered], *, pad_id: int, multiple: int = 1, share: int | None = None
) -> dict[str, torch.Tensor]:
    """Pad on the right to the longest row (up to a `multiple`); padding is known by the mask, never by its id,
    because many tokenizers pad with the very stop token that is to be learned.

    With `share` (a `sharing_width`), rows that begin alike become one sequence where that costs less.
    """
    tokens = torch.tensor(sum(len(row.input_ids) for row in rows))
    if share is not None and worthwhile(rows, prefix := common_prefix(rows), width=share):
        return {**lay_out(rows, prefix), "tokens": tokens}
    width = -(-max(len(row.input_ids) for row in rows) // multiple) * multiple
    shape = (len(rows), width)
    input_ids = torch.full(shape, pad_id, dtype=torch.long)
    labels = torch.full(shape, IGNORED, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.long)
    for at, row in enumerate(rows):
        size = len(row.input_ids)
        input_ids[at, :size] = torch.tensor(row.input_ids)
        labels[at, :size] = torch.tensor(row.labels)
        mask[at, :size] = 1
    return {"input_ids": input_ids, "attention_mask": mask, "labels": labels, "tokens": tokens}


def learned_logits(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(logits [n, vocabulary], targets [n], row [n]) at the n positions that predict a learned token."""
    targets = inputs["labels"][:, 1:]
    chosen = targets != IGNORED
    given = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"], "use_cache": False}
    if "position_ids" in inputs:
        given["position_ids"] = inputs["position_ids"]
    causal = model.get_base_model() if hasattr(model, "peft_config") else model
    if causal.config.model_type in DIRECT:
        hidden = getattr(causal, causal.base_model_prefix)(**given).last_hidden_state
        logits = causal.get_output_embeddings()(hidden[:, :-1][chosen])
    else:
        logits = causal(**given).logits[:, :-1][chosen]
    rows = inputs["owners"][:, 1:][chosen] if "owners" in inputs else chosen.nonzero()[:, 0]
    return logits, targets[chosen], rows


def loss_sum(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy in nats, summed over the learned tokens, in 32-bit floats whatever the model computes in."""
    logits, targets, _ = learned_logits(model, inputs)
    return functional.cross_entropy(logits.float(), targets, reduction="sum")
