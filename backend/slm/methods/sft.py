"""Supervised fine-tuning: a causal model learns to go on as the data do; every answer is learned, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from slm import causal
from slm.causal import Scored
from slm.data.render import Rendered, Renderer
from slm.methods.recipe import Recipe
from slm.metrics import Measured
from slm.spec import ReadAs


class Sft(Recipe):
    MODEL_CLASS = AutoModelForCausalLM
    TASK_TYPE = "CAUSAL_LM"
    ANSWERS = True

    def renderer(self, tokenizer: Any, *, max_length: int, config: ReadAs | None = None) -> Renderer:
        return Renderer(tokenizer, max_length=max_length)

    def refusal(self, config: Any) -> str | None:
        return causal.not_causal(config)

    def sharing_width(self, config: Any, *, device: str) -> int | None:
        return causal.sharing_width(config, device=device)

    def collate(
        self, rows: Sequence[Rendered], *, pad_id: int, config: Any = None, multiple: int = 1, share: int | None = None
    ) -> dict[str, torch.Tensor]:
        return causal.collate(rows, pad_id=pad_id, multiple=multiple, share=share)

    def loss_sum(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return causal.loss_sum(model, inputs)

    def measure(self, model: Any, rows: Sequence[Rendered], *, scored: Scored | None = None) -> Measured:
        """Loss, perplexity and token accuracy over learned tokens."""
        return causal.measure(model, rows, scored=scored)
