"""The registry of methods: what is learned, and how. A new method is one module beside `sft` and one line below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch

from slm.data.render import Rendered, Renderer
from slm.methods import sft
from slm.spec import Method


class Recipe(Protocol):
    """What differs between methods; one module each, strangers to each other."""

    MODEL_CLASS: Any
    """The `transformers` auto class that loads the base with the right head."""
    TASK_TYPE: str
    """PEFT's name for the task."""

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
        """A micro-batch of rendered rows as tensors; `tokens` is how many they have in all, without padding."""
        ...

    def loss_sum(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss summed (not averaged) over the micro-batch's learned tokens."""
        ...

    def learned_logits(
        self, model: Any, inputs: dict[str, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(logits [n, vocabulary], targets [n], row [n]) at the n positions that predict a learned token."""
        ...


METHODS: dict[Method, Recipe] = {
    Method.SFT: cast(Recipe, sft),
}
