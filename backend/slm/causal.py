"""Losses of models that continue text: batches, logits at learned positions, what a row costs. Shared by methods.

The loss is cross-entropy over learned tokens only, and the output layer is applied to those positions only: with a
vocabulary of 50,000 it would otherwise cost as much as the whole small model and hold most of the memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from slm.data.prefix import common_prefix, lay_out, worthwhile
from slm.data.render import IGNORED, Rendered
from slm.errors import RunFailure
from slm.metrics import Measured, Tally

DIRECT = frozenset({"gpt2", "llama", "mistral", "qwen2", "qwen3", "smollm3"})
"""Model types whose logits are `head(backbone(x))` and nothing else (tested against the model's own forward)."""
LOGITS = 48_000_000
"""Most logits held at once while scoring loss (200 MB in float32)."""
LOSS_ROWS = 16
Scored = Callable[[int], None]
"""Called with the number of rows scored since the last call."""


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
    counts = {
        "tokens": torch.tensor(sum(len(row.input_ids) for row in rows)),
        "units": torch.tensor(sum(row.learned for row in rows)),
    }
    if share is not None and worthwhile(rows, prefix := common_prefix(rows), width=share):
        return {**lay_out(rows, prefix), **counts}
    inputs = pad([row.input_ids for row in rows], pad_id=pad_id, multiple=multiple)
    labels = torch.full_like(inputs["input_ids"], IGNORED)
    for at, row in enumerate(rows):
        labels[at, : len(row.labels)] = torch.tensor(row.labels)
    return {**inputs, "labels": labels, **counts}


def pad(rows: Sequence[Sequence[int]], *, pad_id: int, multiple: int = 1) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` [rows, width]; the width is that of the longest, up to a `multiple`."""
    width = -(-max(map(len, rows)) // multiple) * multiple
    input_ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for at, row in enumerate(rows):
        input_ids[at, : len(row)] = torch.tensor(row)
        mask[at, : len(row)] = 1
    return {"input_ids": input_ids, "attention_mask": mask}


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


def not_causal(config: Any) -> str | None:
    """Why a model of this configuration cannot continue text, or None.

    Encoders load as causal models too, and then learn nonsense: they are refused by their architecture's name.
    """
    names = [str(name) for name in getattr(config, "architectures", None) or []]
    shown = names[0] if names else str(config.model_type)
    if getattr(config, "is_encoder_decoder", False):
        return f"{shown} is an encoder-decoder; continuing prompts needs a causal language model."
    if names and not any(name.endswith(("ForCausalLM", "LMHeadModel")) for name in names):
        return f"{shown} is not a causal language model, which continuing prompts needs."
    return None


@dataclass(frozen=True)
class RowLoss:
    """Summed negative log-likelihood over the learned tokens of one row, how many, and how many were ranked first."""

    loss: float
    tokens: int
    correct: int


def row_losses(model: Any, rows: Sequence[Rendered], *, scored: Scored | None = None) -> list[RowLoss]:
    """The loss of each row over its learned tokens, in the rows' order; `scored(n)` is called after each batch.

    The model should be in evaluation mode. Raises `RunFailure` (loss_not_finite) naming the row.
    """
    losses: dict[int, RowLoss] = {}
    share = sharing_width(model.config, device=model.device.type)
    for batch in loss_batches(rows, int(model.config.get_text_config().vocab_size)):
        chosen = [rows[index] for index in batch]
        inputs = collate(chosen, pad_id=0, share=share)
        found = _batch_loss(model, chosen, {name: value.to(model.device) for name, value in inputs.items()})
        losses.update(zip(batch, found, strict=True))
        if scored is not None:
            scored(len(batch))
    return [losses[index] for index in range(len(rows))]


def loss_batches(rows: Sequence[Rendered], vocabulary: int) -> Iterator[list[int]]:
    """Rows of like length, longest first, within the bound on logits."""
    order = sorted(range(len(rows)), key=lambda index: -rows[index].size)
    while order:
        size = max(1, min(LOSS_ROWS, LOGITS // (rows[order[0]].size * vocabulary)))
        yield order[:size]
        order = order[size:]


@torch.inference_mode()
def _batch_loss(model: Any, rows: list[Rendered], inputs: dict[str, torch.Tensor]) -> list[RowLoss]:
    logits, targets, owners = learned_logits(model, inputs)
    losses = functional.cross_entropy(logits.float(), targets, reduction="none").double()
    right = logits.argmax(dim=-1) == targets
    found = []
    for at, row in enumerate(rows):
        mine = owners == at
        loss = float(losses[mine].sum())
        if not math.isfinite(loss):
            raise RunFailure("loss_not_finite", f"The loss of held-out row {row.line} is not a number.")
        found.append(RowLoss(loss, int(mine.sum()), int(right[mine].sum())))
    return found


def loss_tallies(rows: Sequence[RowLoss]) -> dict[str, Tally]:
    """Loss is the mean over learned tokens, not over rows; perplexity is e to it."""
    losses, tokens = [row.loss for row in rows], [float(row.tokens) for row in rows]
    return {
        "loss": Tally.of(losses, tokens),
        "perplexity": Tally.of(losses, tokens, exponential=True),
        "token_accuracy": Tally.of([float(row.correct) for row in rows], tokens),
    }


def measure(model: Any, rows: Sequence[Rendered], *, scored: Scored | None = None) -> Measured:
    """Loss, perplexity and token accuracy over the rows' learned tokens; the model should be in evaluation mode."""
    return Measured(loss_tallies(row_losses(model, rows, scored=scored)))
