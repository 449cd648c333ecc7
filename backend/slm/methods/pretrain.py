"""Pretraining: a causal model goes on learning plain text, or learns it from nothing (`from_scratch`).

Each text is learned as a whole, with the end-of-text token behind it. With `packing` long texts are learned in pieces
of `max_length` instead of being cut, and several texts fill one sequence, in the order of the file. Where the model
takes rows with a common beginning as one (`sharing_width`: Llama, Mistral, Qwen and GPT-2 on a processor), packed texts
do not see each other and count their positions anew: the loss is that of the texts alone. Elsewhere a text sees those
before it in its sequence, as is usual. Held-out texts are never packed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from slm import causal, scratch
from slm.causal import Scored
from slm.data.examples import Example, Text
from slm.data.render import IGNORED, Dropped, Rendered, Renderer
from slm.methods.recipe import Recipe
from slm.metrics import Measured
from slm.spec import Hyperparameters, ModelRef, ReadAs

SCRATCH = "scratch"
_WHOLE = 1 << 30


class TextsRenderer(Renderer):
    """Plain texts; packed where the training was asked to."""

    def __init__(self, tokenizer: Any, *, max_length: int, packing: bool = False) -> None:
        super().__init__(tokenizer, max_length=_WHOLE if packing else max_length)
        self._packing, self._width = packing, max_length

    def render(self, example: Example, line: int) -> Rendered | Dropped:
        if not isinstance(example, Text):
            return Dropped(line, f"{type(example).__name__} examples are not for this method.")
        return super().render(example, line)

    def arrange(self, rows: list[Rendered], *, held_out: bool = False) -> list[Rendered]:
        if not self._packing:
            return rows
        pieces = [piece for row in rows for piece in self._pieces(row)]
        return pieces if held_out else list(self._packed(pieces))

    def _pieces(self, row: Rendered) -> Iterable[Rendered]:
        """The row in pieces that fit; one token alone could not be learned."""
        for start in range(0, row.size, self._width):
            ids = row.input_ids[start : start + self._width]
            if len(ids) > 1:
                yield replace(row, input_ids=ids, labels=[IGNORED, *row.labels[start + 1 : start + self._width]])

    def _packed(self, pieces: Sequence[Rendered]) -> Iterable[Rendered]:
        held: list[Rendered] = []
        for piece in pieces:
            if held and sum(one.size for one in held) + piece.size > self._width:
                yield _joined(held)
                held = []
            held.append(piece)
        if held:
            yield _joined(held)


def _joined(pieces: Sequence[Rendered]) -> Rendered:
    starts = [0]
    for piece in pieces[:-1]:
        starts.append(starts[-1] + piece.size)
    ids = [token for piece in pieces for token in piece.input_ids]
    labels = [label for piece in pieces for label in piece.labels]
    return replace(pieces[0], input_ids=ids, labels=labels, starts=tuple(starts))


class Pretrain(Recipe):
    MODEL_CLASS = AutoModelForCausalLM
    TASK_TYPE = "CAUSAL_LM"

    def ground(
        self, reference: ModelRef, base: Any, *, config: Hyperparameters, texts: Callable[[], Iterable[str]],
        directory: Path,
    ) -> ModelRef:  # fmt: skip
        """With `from_scratch` only the base's architecture is taken; its tokenizer and weights are made anew."""
        if not config.from_scratch:
            return reference
        folder = directory / SCRATCH
        scratch.make(folder, texts(), model_type=base.model_type, max_length=config.max_length, seed=config.seed)
        return reference.model_copy(update={"path": str(folder.resolve()), "adapters": ()})

    def renderer(self, tokenizer: Any, *, max_length: int, config: ReadAs | None = None) -> TextsRenderer:
        return TextsRenderer(tokenizer, max_length=max_length, packing=config is not None and config.packing)

    def refusal(self, config: Any) -> str | None:
        return causal.not_causal(config)

    def sharing_width(self, config: Any, *, device: str) -> int | None:
        return causal.sharing_width(config, device=device)

    def collate(
        self, rows: Sequence[Rendered], *, pad_id: int, config: Any = None, multiple: int = 1, share: int | None = None
    ) -> dict[str, torch.Tensor]:
        packed = any(len(row.starts) > 1 for row in rows)
        inputs = causal.collate(rows, pad_id=pad_id, multiple=multiple, share=None if packed else share)
        if packed and share is not None:
            inputs |= _apart(rows, inputs["input_ids"].shape[1])
        return inputs

    def loss_sum(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return causal.loss_sum(model, inputs)

    def measure(self, model: Any, rows: Sequence[Rendered], *, scored: Scored | None = None) -> Measured:
        """Loss, perplexity and token accuracy over all tokens but each text's first."""
        return causal.measure(model, rows, scored=scored)


def _apart(rows: Sequence[Rendered], width: int) -> dict[str, torch.Tensor]:
    """`position_ids` [rows, width] and an additive `attention_mask` [rows, 1, width, width] that keep texts apart."""
    positions = torch.zeros((len(rows), width), dtype=torch.long)
    owners = torch.full((len(rows), width), -1)
    for at, row in enumerate(rows):
        for text, (start, end) in enumerate(zip(row.starts, (*row.starts[1:], row.size), strict=True)):
            positions[at, start:end] = torch.arange(end - start)
            owners[at, start:end] = text
    seen = (owners[:, :, None] == owners[:, None, :]) & torch.ones((width, width), dtype=torch.bool).tril()
    mask = torch.zeros(seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
    return {"position_ids": positions, "attention_mask": mask[:, None]}
