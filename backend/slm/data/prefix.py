"""Rows that begin alike, learned as one sequence in which their common beginning stands, and is computed, once.

Rows of a task share their template, system prompt and instruction. Laid out as PREFIX SUFFIX₁ SUFFIX₂ …, where every
suffix counts its positions from the prefix's end and sees the prefix and itself, a causal model computes for each row
exactly what it would compute for the row alone: no approximation, no padding, and the prefix costs once instead of once
a row. Attention over the longer sequence costs more, so the layout is taken only where that is outweighed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from slm.data.render import IGNORED, Rendered

_GAIN = 0.9
"""The layout has to cost at most this share of the padded one."""


def common_prefix(rows: Sequence[Rendered]) -> int:
    """Leading tokens that all rows share and that none of them learns, nor learns from the last of them."""
    first = rows[0].input_ids
    length = min(len(row.input_ids) for row in rows) - 1
    for row in rows:
        learned = next((at for at, label in enumerate(row.labels) if at and label != IGNORED), len(row.labels))
        length = min(length, learned - 1)
    for row in rows[1:]:
        ids = row.input_ids
        length = next((at for at in range(max(length, 0)) if ids[at] != first[at]), length)
    return max(length, 0)


def worthwhile(rows: Sequence[Rendered], prefix: int, *, width: int) -> bool:
    """Whether the layout is cheaper, for a model with hidden states of `width` numbers.

    A token costs about 24 width² operations a layer in products with weights and 4 width for each position in the
    reach of its attention, which is computed densely: (6 width + length) up to a factor.
    """
    if len(rows) < 2 or prefix == 0:
        return False
    longest = max(len(row.input_ids) for row in rows)
    together = prefix + sum(len(row.input_ids) - prefix for row in rows)
    padded = len(rows) * longest * (6 * width + longest)
    return together * (6 * width + together) <= _GAIN * padded


def lay_out(rows: Sequence[Rendered], prefix: int) -> dict[str, torch.Tensor]:
    """One sequence of T tokens: `input_ids`, `labels`, `position_ids`, `owners` [1, T] and an additive
    `attention_mask` [1, 1, T, T]. `owners` names the row that each token belongs to, -1 the prefix."""
    input_ids, labels = list(rows[0].input_ids[:prefix]), [IGNORED] * prefix
    positions, owners = list(range(prefix)), [-1] * prefix
    for owner, row in enumerate(rows):
        input_ids += row.input_ids[prefix:]
        labels += row.labels[prefix:]
        positions += range(prefix, len(row.input_ids))
        owners += [owner] * (len(row.input_ids) - prefix)
    owner_of = torch.tensor(owners)
    seen = (owner_of[:, None] == owner_of[None, :]) | (owner_of[None, :] == -1)
    seen &= torch.ones_like(seen).tril()
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    return {
        "input_ids": torch.tensor([input_ids]),
        "labels": torch.tensor([labels]),
        "position_ids": torch.tensor([positions]),
        "owners": owner_of[None],
        "attention_mask": mask[None, None],
    }
