"""Answers from a model: batched, greedy or sampled, trimmed at the stop token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

BATCH = 8


def stop_tokens(tokenizer: Any, model: Any) -> list[int]:
    """Every token that ends an answer: the tokenizer's and the model's own end-of-text."""
    configured = getattr(model.generation_config, "eos_token_id", None)
    known = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in [tokenizer.eos_token_id, *known] if isinstance(token, int)})


@torch.no_grad()
def answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    progress: Callable[[int], None],
    batch: int = BATCH,
) -> list[str]:
    """The greedy continuation of each prompt, in the order given, without its stop token.

    Prompts of like length share a batch and are padded on the left. `progress` gets how many are done; it may raise
    to stop.
    """
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    texts: dict[int, str] = {}
    stops = stop_tokens(tokenizer, model)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    for start in range(0, len(order), batch):
        chosen = order[start : start + batch]
        width = max(len(prompts[number]) for number in chosen)
        ids = torch.full((len(chosen), width), tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros((len(chosen), width), dtype=torch.long)
        for row, number in enumerate(chosen):
            length = len(prompts[number])
            ids[row, width - length :] = torch.tensor(prompts[number])
            mask[row, width - length :] = 1
        output = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            top_k=None,
            eos_token_id=stops,
            pad_token_id=tokenizer.pad_token_id,
        )
        for row, number in enumerate(chosen):
            texts[number] = _text(output[row, width:].tolist(), stops, tokenizer)
        progress(len(texts))
    if was_training:
        model.train()
    return [texts[number] for number in range(len(prompts))]


def _text(tokens: list[int], stops: list[int], tokenizer: Any) -> str:
    end = next((position for position, token in enumerate(tokens) if token in stops), len(tokens))
    return str(tokenizer.decode(tokens[:end], skip_special_tokens=True)).strip()
