"""Direct preference optimisation: a causal model learns to find the better of two answers likelier than the worse.

The loss of a pair is −log σ(β · ((c − c₀) − (r − r₀))) (Rafailov et al. 2023), where c and r are the log-probabilities
of the chosen and the rejected answer, summed over their tokens, and c₀ and r₀ those that the base gave them. The base
is asked once, before the training (`refer`), so that a step costs one pass and no second model is held.

What is measured, of a model and of its base alike:
    preference_accuracy  share of pairs whose chosen answer is likelier to the model than the rejected one. That of the
                         base says how much it preferred already; note that longer answers are less likely to any model
    reward_margin        mean of β · ((c − c₀) − (r − r₀)); 0 for the base by definition
    reward_accuracy      share of pairs with a positive margin, which others call the reward accuracy; a pair that is
                         even to a thousandth of a nat counts one half, so that the base has 0.5
    loss                 ln 2 for the base
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from slm import causal
from slm.causal import Scored
from slm.data.examples import Example, Message, Messages, Preference, PromptCompletion, Text
from slm.data.render import IGNORED, Dropped, Reference, Rendered, Renderer
from slm.errors import RunFailure
from slm.methods.recipe import Recipe
from slm.metrics import Measured, Tally
from slm.spec import ReadAs

_EVEN = 1e-3
"""Nats; the same log-probability comes out so much different in another batch."""


class PairRenderer(Renderer):
    """The chosen answer with its prompt, and beside it (`rejected`) the other; only the last answers are learned."""

    def render(self, example: Example, line: int) -> Rendered | Dropped:
        if not isinstance(example, Preference):
            return Dropped(line, f"{type(example).__name__} examples are not for this method.")
        chosen = self._answered(example.prompt, example.chosen, line)
        rejected = self._answered(example.prompt, example.rejected, line)
        if isinstance(chosen, Dropped):
            return chosen
        if isinstance(rejected, Dropped):
            return rejected
        if chosen.input_ids == rejected.input_ids:
            return Dropped(line, "The two answers differ only beyond max_length.")
        truncated = chosen.truncated or rejected.truncated
        return replace(chosen, rejected=rejected, truncated=truncated, expected=example.chosen)

    def _answered(self, prompt: tuple[Message, ...], answer: str, line: int) -> Rendered | Dropped:
        if not prompt:  # two texts, compared as a whole
            return super().render(Text(answer), line)
        if len(prompt) == 1 and prompt[0].role == "user":
            found = super().render(PromptCompletion(prompt[0].content, answer), line)
        else:
            found = super().render(Messages((*prompt, Message("assistant", answer))), line)
        if isinstance(found, Dropped):
            return found
        asked = len(found.prompt_ids)
        if asked == 0:
            return Dropped(line, f"Its prompt alone fills max_length ({self.max_length} tokens).")
        return replace(found, labels=[IGNORED] * asked + found.labels[asked:])


class Dpo(Recipe):
    MODEL_CLASS = AutoModelForCausalLM
    TASK_TYPE = "CAUSAL_LM"
    COMPARES = True

    def renderer(self, tokenizer: Any, *, max_length: int, config: ReadAs | None = None) -> PairRenderer:
        return PairRenderer(tokenizer, max_length=max_length)

    def refusal(self, config: Any) -> str | None:
        return causal.not_causal(config)

    def refer(
        self, model: Any, rows: Sequence[Rendered], *, beta: float, scored: Scored | None = None
    ) -> list[Rendered]:
        """Each pair with its log-probabilities under the base `model`, which should be in evaluation mode."""
        found = self._log_probabilities(model, rows, scored)
        return [replace(row, reference=Reference(c, r, beta)) for row, (c, r) in zip(rows, found, strict=True)]

    def sharing_width(self, config: Any, *, device: str) -> int | None:
        return causal.sharing_width(config, device=device)

    def collate(
        self, rows: Sequence[Rendered], *, pad_id: int, config: Any = None, multiple: int = 1, share: int | None = None
    ) -> dict[str, torch.Tensor]:
        """Chosen and rejected answers in turn, two sequences a pair; `reference` [pairs, 2] and `beta` [pairs]."""
        inputs = causal.collate(_sides(rows), pad_id=pad_id, multiple=multiple, share=share)
        inputs["units"] = torch.tensor(len(rows))
        if references := [row.reference for row in rows if row.reference is not None]:
            inputs["reference"] = torch.tensor([[reference.chosen, reference.rejected] for reference in references])
            inputs["beta"] = torch.tensor([reference.beta for reference in references])
        return inputs

    def loss_sum(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The loss summed over the pairs."""
        gained = _sums(model, inputs, len(inputs["beta"])) - inputs["reference"]
        return -functional.logsigmoid(inputs["beta"] * (gained[:, 0] - gained[:, 1])).sum()

    def measure(self, model: Any, rows: Sequence[Rendered], *, scored: Scored | None = None) -> Measured:
        """See the module. Rows without a reference (nobody called `refer`) take the model for its own base."""
        said = self._log_probabilities(model, rows, scored)
        margins, gains = [], []
        for row, (chosen, rejected) in zip(rows, said, strict=True):
            base = row.reference or Reference(chosen, rejected, 0.0)
            gains.append((chosen - base.chosen) - (rejected - base.rejected))
            margins.append(base.beta * gains[-1])
        return Measured(
            {
                "loss": Tally.of([_cost(margin) for margin in margins]),
                "preference_accuracy": Tally.of([float(chosen > rejected) for chosen, rejected in said]),
                "reward_margin": Tally.of(margins),
                "reward_accuracy": Tally.of([0.5 if abs(gain) <= _EVEN else float(gain > 0) for gain in gains]),
            }
        )

    def _log_probabilities(
        self, model: Any, rows: Sequence[Rendered], scored: Scored | None
    ) -> list[tuple[float, float]]:
        """(chosen, rejected) of each pair, in the rows' order."""
        found: dict[int, tuple[float, float]] = {}
        share = self.sharing_width(model.config, device=model.device.type)
        for batch in causal.loss_batches(rows, int(model.config.get_text_config().vocab_size)):
            inputs = causal.collate(_sides([rows[index] for index in batch]), pad_id=0, share=share)
            with torch.inference_mode():
                sums = _sums(model, {name: value.to(model.device) for name, value in inputs.items()}, len(batch))
            for index, (chosen, rejected) in zip(batch, sums.tolist(), strict=True):
                if not math.isfinite(chosen + rejected):
                    raise RunFailure("loss_not_finite", f"The loss of row {rows[index].line} is not a number.")
                found[index] = (chosen, rejected)
            if scored is not None:
                scored(len(batch))
        return [found[index] for index in range(len(rows))]


def _sides(rows: Sequence[Rendered]) -> list[Rendered]:
    return [side for row in rows for side in (row, row.rejected) if side is not None]


def _sums(model: Any, inputs: dict[str, torch.Tensor], pairs: int) -> torch.Tensor:
    """Log-probability of each answer, [pairs, 2]."""
    logits, targets, owners = causal.learned_logits(model, inputs)
    each = -functional.cross_entropy(logits.float(), targets, reduction="none")
    return torch.zeros(2 * pairs, device=each.device).index_add(0, owners, each).view(pairs, 2)


def _cost(margin: float) -> float:
    """−log σ(margin), without overflow."""
    return math.log1p(math.exp(-abs(margin))) + max(0.0, -margin)
