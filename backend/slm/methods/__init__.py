"""The registry of methods: what is learned, and how. A new method is one module beside `sft` and one line below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch

from slm.causal import Scored
from slm.data.render import Rendered, Renderer
from slm.methods import sft
from slm.metrics import Measured
from slm.spec import Method


class Recipe(Protocol):
    """What differs between methods; one module each, strangers to each other."""

    MODEL_CLASS: Any
    """The `transformers` auto class that loads the base with the right head."""
    TASK_TYPE: str
    """PEFT's name for the task."""
    ANSWERS: bool
    """Whether a model trained so is also judged by the text it generates."""

    def renderer(self, tokenizer: Any, *, max_length: int) -> Renderer:
        """Turns examples into tokens and labels."""
        ...

    def refusal(self, config: Any) -> str | None:
        """Why a model of this configuration cannot learn by this method, or None."""
        ...

    def sharing_width(self, config: Any, *, device: str) -> int | None:
        """The hidden size of a model to which `collate` may give rows that begin alike as one sequence, or None."""
        ...

    def collate(
        self, rows: Sequence[Rendered], *, pad_id: int, multiple: int = 1, share: int | None = None
    ) -> dict[str, torch.Tensor]:
        """A micro-batch of rendered rows as tensors. `tokens`: how many they have in all, without padding; `units`:
        how many things (learned tokens, examples) the loss is averaged over."""
        ...

    def loss_sum(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss summed (not averaged) over the micro-batch's units."""
        ...

    def measure(self, model: Any, rows: Sequence[Rendered], *, scored: Scored | None = None) -> Measured:
        """The method's own yardstick on held-out rows, in the rows' order; `scored(n)` after each batch of n rows.

        Raises `RunFailure` (loss_not_finite) naming the row.
        """
        ...


METHODS: dict[Method, Recipe] = {
    Method.SFT: cast(Recipe, sft),
}
