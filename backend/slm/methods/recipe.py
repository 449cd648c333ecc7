"""What a method has to say for itself; everything that is not said here is the same for all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from slm.causal import Scored
from slm.data.render import BaseRenderer, Rendered
from slm.metrics import Measured
from slm.spec import Hyperparameters, ModelRef, ReadAs

Warn = Callable[[str, str], None]
"""Called with a stable code and a sentence."""


class Recipe(ABC):
    """A method of learning. Each is one module with one subclass, a stranger to the others, and keeps no state:
    what differs between runs stands in the rows, in the model's configuration and in the hyperparameters."""

    MODEL_CLASS: Any
    """The `transformers` auto class that loads the base with the right head."""
    TASK_TYPE: str
    """PEFT's name for the task."""
    ANSWERS = False
    """Whether a model trained so is also judged by the text it generates."""
    OWN_HEAD = False
    """Whether it puts a head of its own on the base, so that it can follow a training by any other method."""

    COMPARES = False
    """Whether it compares the model with its base, so that rows need `refer`."""

    def ground(
        self, reference: ModelRef, base: Any, *, config: Hyperparameters, texts: Callable[[], Iterable[str]],
        directory: Path,
    ) -> ModelRef:  # fmt: skip
        """The weights to start from, where a method makes them itself: from `base`, the configuration of what was
        asked for, and the `texts` of the training data, in the run's `directory`. Repeated, it gives the same."""
        return reference

    @abstractmethod
    def renderer(self, tokenizer: Any, *, max_length: int, config: ReadAs | None = None) -> BaseRenderer:
        """Turns examples into tokens and labels; without `config` as for a row that is only looked at."""

    @abstractmethod
    def refusal(self, config: Any) -> str | None:
        """Why a model of this configuration cannot learn by this method, or None."""

    def fit(
        self, train: Sequence[Rendered], held_out: Sequence[Rendered], *, tokenizer: Any, head: Mapping[str, Any],
        warn: Warn,
    ) -> dict[str, Any]:  # fmt: skip
        """What the rows decide about the model, before it is loaded: keywords of `MODEL_CLASS.from_pretrained`.

        `head` holds the keywords that the base was made with by the same method earlier, or nothing. They are kept
        beside an adapter (`checkpoints.HEAD`), so that `checkpoints.load_base` builds the same head again.
        Raises `RunFailure` where the rows show that nothing can be learned.
        """
        return {}

    def refer(
        self, model: Any, rows: Sequence[Rendered], *, beta: float, scored: Scored | None = None
    ) -> list[Rendered]:
        """The rows with what the base `model` says of them, for methods that compare a model with its base.

        Such rows are needed by `loss_sum` and, of any model that is not its own base, by `measure`.
        """
        return list(rows)

    def sharing_width(self, config: Any, *, device: str) -> int | None:
        """The hidden size of a model to which `collate` may give rows that begin alike as one sequence, or None."""
        return None

    @abstractmethod
    def collate(
        self, rows: Sequence[Rendered], *, pad_id: int, config: Any = None, multiple: int = 1, share: int | None = None
    ) -> dict[str, torch.Tensor]:
        """A micro-batch of rendered rows as tensors; `config` is the model's own, where its labels stand.

        `tokens`: how many they have in all, without padding; `units`: how many things (learned tokens, texts, pairs)
        the loss is averaged over.
        """

    @abstractmethod
    def loss_sum(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss summed (not averaged) over the micro-batch's units."""

    @abstractmethod
    def measure(self, model: Any, rows: Sequence[Rendered], *, scored: Scored | None = None) -> Measured:
        """The method's own yardstick on held-out rows, in the rows' order; `scored(n)` after each batch of n rows.

        The model should be in evaluation mode. Raises `RunFailure` (loss_not_finite) naming the row.
        """
