"""Supervised fine-tuning: continue a prompt as the data do. Loss on the learned tokens only.

The output layer is applied only where a token is learned: with 49,000 words in the vocabulary it is a fifth of the
work, and most tokens of a prompt carry no loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from slm.data.render import IGNORED

_PLAIN_HEADS = frozenset({"llama", "gpt2", "qwen2", "qwen3", "mistral"})
"""Model types whose logits are the output layer of the last hidden state and nothing else."""


@dataclass(frozen=True)
class Scores:
    """Per row of a batch: summed loss in nats, learned tokens, and how many of them were the likeliest. Shapes (rows,)."""

    loss: torch.Tensor
    tokens: torch.Tensor
    correct: torch.Tensor


def loss(model: Any, inputs: dict[str, torch.Tensor], *, tokens: torch.Tensor | int | None) -> torch.Tensor:
    """Cross-entropy summed over the learned tokens and divided by `tokens` (those of the whole effective batch)."""
    logits, targets, _ = _learned_logits(model, inputs)
    summed = functional.cross_entropy(logits.float(), targets, reduction="sum")
    return summed / (tokens if tokens is not None else max(targets.numel(), 1))


@torch.no_grad()
def score(model: Any, inputs: dict[str, torch.Tensor]) -> Scores:
    """Teacher-forced scores of each row."""
    logits, targets, rows = _learned_logits(model, inputs)
    losses = functional.cross_entropy(logits.float(), targets, reduction="none").double()
    count = inputs["input_ids"].shape[0]
    right = (logits.argmax(-1) == targets).double()

    def per_row(values: torch.Tensor) -> torch.Tensor:
        zeros = torch.zeros(count, dtype=torch.double)
        return zeros.index_add_(0, rows.cpu(), values.cpu())

    return Scores(per_row(losses), per_row(torch.ones_like(losses)), per_row(right))


def _learned_logits(
    model: Any, inputs: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (learned tokens, vocabulary), targets (learned tokens,) and the row of each."""
    targets = inputs["labels"][:, 1:]
    learned = targets != IGNORED
    rows = learned.nonzero()[:, 0]
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    fields = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    if base.config.model_type in _PLAIN_HEADS:
        decoder = getattr(base, base.base_model_prefix)
        hidden = decoder(**fields, use_cache=False).last_hidden_state[:, :-1]
        logits = base.get_output_embeddings()(hidden[learned])
    else:
        logits = model(**fields, use_cache=False).logits[:, :-1][learned]
    return logits, targets[learned], rows
