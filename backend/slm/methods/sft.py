"""Supervised fine-tuning: a causal model learns to go on as the data do; every answer is learned, nothing else."""

from __future__ import annotations

from typing import Any

from transformers import AutoModelForCausalLM

from slm.causal import collate, loss_sum, measure, sharing_width
from slm.causal import not_causal as refusal
from slm.data.render import Renderer

__all__ = [
    "ANSWERS",
    "MODEL_CLASS",
    "TASK_TYPE",
    "collate",
    "loss_sum",
    "measure",
    "refusal",
    "renderer",
    "sharing_width",
]

MODEL_CLASS = AutoModelForCausalLM
TASK_TYPE = "CAUSAL_LM"
ANSWERS = True


def renderer(tokenizer: Any, *, max_length: int) -> Renderer:
    return Renderer(tokenizer, max_length=max_length)
