"""Masked language modelling: an encoder learns to fill in hidden tokens, as BERT was taught (Devlin et al. 2018).

Of each text's tokens 15 % (at least one) are to be found again; 80 % of these are hidden behind the mask token, 10 %
replaced by another at random, 10 % stay. The marks around a text are never hidden. Training rows are masked anew in
each epoch, by a seed made of the run's seed, the epoch and the row, so that a resumed run masks alike. Rows that are
scored are masked by their own text alone: always the same, for any model.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional
from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoModelForMaskedLM

from slm.causal import Scored, pad
from slm.data.batches import by_length
from slm.data.examples import Example
from slm.data.render import IGNORED, Dropped, Rendered
from slm.data.texts import TextRenderer
from slm.errors import RunFailure
from slm.methods.recipe import Recipe
from slm.metrics import Measured, Tally
from slm.spec import ReadAs

SHARE = 0.15
_SCORED_TOGETHER = 16
_HEADS = {"bert": "cls", "roberta": "lm_head", "xlm-roberta": "lm_head", "camembert": "lm_head"}
"""Model types whose logits are `head(backbone(x))`, and the name of the head: it is applied to hidden tokens only."""


class MaskRenderer(TextRenderer):
    """Texts with some of their tokens hidden. Raises `RunFailure` for a tokenizer that has no mask token."""

    def __init__(self, tokenizer: Any, *, max_length: int) -> None:
        super().__init__(tokenizer, max_length=max_length)
        if tokenizer.mask_token_id is None:
            raise RunFailure("model_unsupported", "The model's tokenizer has no mask token to hide words behind.")
        self._mask, self._size = int(tokenizer.mask_token_id), len(tokenizer)
        self._marks = frozenset(map(int, tokenizer.all_special_ids))

    def render(self, example: Example, line: int) -> Rendered | Dropped:
        found = self.read(example, line)
        if isinstance(found, Dropped):
            return found
        ids, truncated = found
        dice = random.Random(",".join(map(str, ids)))
        return self._hidden(Rendered(line, ids, [], [], None, truncated), ids, dice) or Dropped(
            line, "It is too short."
        )

    def again(self, row: Rendered, *, seed: int, epoch: int) -> Rendered:
        text = [token if label == IGNORED else label for token, label in zip(row.input_ids, row.labels, strict=True)]
        return self._hidden(row, text, random.Random(f"{seed}/{epoch}/{row.line}")) or row

    def _hidden(self, row: Rendered, text: Sequence[int], dice: random.Random) -> Rendered | None:
        """The row with tokens of its `text` hidden by the dice; None where there is none to hide."""
        places = [at for at, token in enumerate(text) if at and token not in self._marks]
        if not places:
            return None
        ids, labels = list(text), [IGNORED] * len(text)
        for at in dice.sample(places, max(1, round(SHARE * len(places)))):
            labels[at] = text[at]
            chance = dice.random()
            if chance < 0.8:
                ids[at] = self._mask
            elif chance < 0.9:
                ids[at] = self._any(dice)
        return replace(row, input_ids=ids, labels=labels)

    def _any(self, dice: random.Random) -> int:
        """Any token but a mark."""
        token = dice.randrange(self._size)
        while token in self._marks:
            token = dice.randrange(self._size)
        return token


class Mask(Recipe):
    MODEL_CLASS = AutoModelForMaskedLM
    TASK_TYPE = "FEATURE_EXTRACTION"

    def renderer(self, tokenizer: Any, *, max_length: int, config: ReadAs | None = None) -> MaskRenderer:
        return MaskRenderer(tokenizer, max_length=max_length)

    def refusal(self, config: Any) -> str | None:
        """Encoders only. One without its head for hidden words gets a new one, and the run says so."""
        causal = any("CausalLM" in str(name) or "LMHead" in str(name) for name in config.architectures or [])
        if type(config) not in MODEL_FOR_MASKED_LM_MAPPING or config.is_encoder_decoder or causal:
            return f"{config.model_type} models do not fill in hidden words; method mask needs an encoder such as BERT."
        return None

    def collate(
        self, rows: Sequence[Rendered], *, pad_id: int, config: Any = None, multiple: int = 1, share: int | None = None
    ) -> dict[str, torch.Tensor]:
        inputs = pad([row.input_ids for row in rows], pad_id=pad_id, multiple=multiple)
        labels = torch.full_like(inputs["input_ids"], IGNORED)
        for at, row in enumerate(rows):
            labels[at, : len(row.labels)] = torch.tensor(row.labels)
        units = (labels != IGNORED).sum()
        return {**inputs, "labels": labels, "units": units, "tokens": torch.tensor(sum(row.size for row in rows))}

    def loss_sum(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy in nats, summed over the hidden tokens; what is not hidden carries none."""
        logits, targets, _ = _hidden_logits(model, inputs)
        return functional.cross_entropy(logits, targets, reduction="sum")

    def measure(self, model: Any, rows: Sequence[Rendered], *, scored: Scored | None = None) -> Measured:
        """Loss, perplexity and accuracy over the hidden tokens (among them the tenth that is shown unchanged)."""
        losses, right = [0.0] * len(rows), [0.0] * len(rows)
        for batch in by_length(rows, _SCORED_TOGETHER):
            inputs = self.collate([rows[index] for index in batch], pad_id=model.config.pad_token_id or 0)
            with torch.inference_mode():
                moved = {name: value.to(model.device) for name, value in inputs.items()}
                logits, targets, owners = _hidden_logits(model, moved)
                costs = functional.cross_entropy(logits, targets, reduction="none").double()
                best = logits.argmax(dim=-1) == targets
            for at, index in enumerate(batch):
                mine = owners == at
                losses[index], right[index] = float(costs[mine].sum()), float(best[mine].sum())
                if not math.isfinite(losses[index]):
                    raise RunFailure("loss_not_finite", f"The loss of row {rows[index].line} is not a number.")
            if scored is not None:
                scored(len(batch))
        tokens = [float(row.learned) for row in rows]
        return Measured(
            {
                "loss": Tally.of(losses, tokens),
                "perplexity": Tally.of(losses, tokens, exponential=True),
                "token_accuracy": Tally.of(right, tokens),
            }
        )


def _hidden_logits(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(logits [n, vocabulary] in 32-bit floats, targets [n], row [n]) at the n hidden tokens."""
    chosen = inputs["labels"] != IGNORED
    given = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
    whole = model.get_base_model() if hasattr(model, "peft_config") else model
    if whole.config.model_type in _HEADS:
        hidden = getattr(whole, whole.base_model_prefix)(**given).last_hidden_state
        logits = getattr(whole, _HEADS[whole.config.model_type])(hidden[chosen])
    else:
        logits = whole(**given).logits[chosen]
    return logits.float(), inputs["labels"][chosen], chosen.nonzero()[:, 0]
