"""Classification: a head on an encoder or a decoder learns to give each text one of the data's labels.

The labels are those of the training rows, sorted; they stand in the model's configuration (`id2label`) and nowhere
else, so that a model knows its own labels wherever it is loaded. An encoder's head reads the first token, a decoder's
the last one that is not padding. The base's own head is drawn at random by the seed: what it scores is chance, which
is what a model that was not trained for the task can do.

A held-out label that was never trained counts as wrong, and has no loss: no number could be given for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoModelForSequenceClassification

from slm.causal import Scored, pad
from slm.data.batches import by_length
from slm.data.render import IGNORED, Dropped, Rendered
from slm.data.texts import TextRenderer
from slm.errors import RunFailure
from slm.methods.recipe import Recipe, Warn
from slm.metrics import Measured, Tally
from slm.spec import ReadAs

_SCORED_TOGETHER = 16
_NAMED = 5
"""Labels named in a sentence; the counts are complete."""


class LabelRenderer(TextRenderer):
    """A text as the model reads it; its label is what is expected of the whole."""

    stratified = True

    def render(self, example: Any, line: int) -> Rendered | Dropped:
        label = getattr(example, "label", None)
        found = self.read(example, line)
        if isinstance(found, Dropped):
            return found
        if label is None:
            return Dropped(line, "It has no label.")
        ids, truncated = found
        return Rendered(line, ids, [IGNORED] * len(ids), [], label, truncated, example.text, labelled=True)


class Classify(Recipe):
    MODEL_CLASS = AutoModelForSequenceClassification
    TASK_TYPE = "SEQ_CLS"
    OWN_HEAD = True

    def renderer(self, tokenizer: Any, *, max_length: int, config: ReadAs | None = None) -> LabelRenderer:
        return LabelRenderer(tokenizer, max_length=max_length)

    def refusal(self, config: Any) -> str | None:
        if getattr(config, "is_encoder_decoder", False):
            return f"{config.model_type} is an encoder-decoder; classification needs an encoder or a causal model."
        if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
            return f"For {config.model_type} models there is no head that classifies texts."
        return None

    def fit(
        self, train: Sequence[Rendered], held_out: Sequence[Rendered], *, tokenizer: Any, head: Mapping[str, Any],
        warn: Warn,
    ) -> dict[str, Any]:  # fmt: skip
        """The labels: those that the base knows already, or those of the training rows, sorted."""
        found = sorted({row.expected or "" for row in train})
        labels = [head["id2label"][number] for number in sorted(head["id2label"])] if head else found
        if new := sorted(set(found) - set(labels)):
            raise RunFailure(
                "data_unusable",
                f"The model was trained for the labels {_named(labels)}; the data also hold {_named(new)}.",
                hint="Start from the base model, which learns any labels, or leave those rows out.",
            )
        if len(found) < 2:
            raise RunFailure("nothing_to_learn", f"All training rows have the same label, {_named(found)}.",
                             hint="Classification needs rows of at least two labels.")  # fmt: skip
        unseen = [row for row in held_out if row.expected not in labels]
        if unseen:
            names = _named(sorted({row.expected or "" for row in unseen}))
            warn("labels_unseen", f"{len(unseen)} held-out rows have labels that no training row has ({names}); "
                                  "they count as wrong.")  # fmt: skip
        return {
            "id2label": dict(enumerate(labels)),
            "label2id": {label: number for number, label in enumerate(labels)},
            # A decoder reads its answer at the last token that is not this one.
            "pad_token_id": tokenizer.pad_token_id,
            # A base that is somebody's classifier already loses its head.
            "ignore_mismatched_sizes": True,
        }

    def collate(
        self, rows: Sequence[Rendered], *, pad_id: int, config: Any = None, multiple: int = 1, share: int | None = None
    ) -> dict[str, torch.Tensor]:
        targets = torch.tensor([_number(row.expected, config) for row in rows])
        return {
            **pad([row.input_ids for row in rows], pad_id=pad_id, multiple=multiple),
            "targets": targets,
            "tokens": torch.tensor(sum(len(row.input_ids) for row in rows)),
            "units": (targets != IGNORED).sum(),
        }

    def loss_sum(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """Cross-entropy in nats, summed over the texts."""
        return functional.cross_entropy(_logits(model, inputs), inputs["targets"], reduction="sum")

    def measure(self, model: Any, rows: Sequence[Rendered], *, scored: Scored | None = None) -> Measured:
        """Accuracy over all rows, the mean loss over those whose label the model knows, and the label given to each."""
        losses, outputs = [0.0] * len(rows), [""] * len(rows)
        for batch in by_length(rows, _SCORED_TOGETHER):
            chosen = [rows[index] for index in batch]
            inputs = self.collate(chosen, pad_id=model.config.pad_token_id or 0, config=model.config)
            with torch.inference_mode():
                logits = _logits(model, {name: value.to(model.device) for name, value in inputs.items()}).cpu()
            costs = functional.cross_entropy(logits, inputs["targets"], reduction="none")
            for index, cost, best in zip(batch, costs.tolist(), logits.argmax(dim=-1).tolist(), strict=True):
                if not math.isfinite(cost):
                    raise RunFailure("loss_not_finite", f"The loss of row {rows[index].line} is not a number.")
                losses[index], outputs[index] = cost, str(model.config.id2label[best])
            if scored is not None:
                scored(len(batch))
        known = [float(_number(row.expected, model.config) != IGNORED) for row in rows]
        right = [float(row.expected == given) for row, given in zip(rows, outputs, strict=True)]
        return Measured({"loss": Tally.of(losses, known), "accuracy": Tally.of(right)}, outputs)


def _logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """[rows, labels] in 32-bit floats."""
    logits: torch.Tensor = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    return logits.float()


def _number(label: str | None, config: Any) -> int:
    return int(config.label2id.get(label, IGNORED)) if config is not None else IGNORED


def _named(labels: Sequence[str]) -> str:
    shown = ", ".join(f"'{label[:60]}'" for label in labels[:_NAMED])
    return shown if len(labels) <= _NAMED else f"{shown} and {len(labels) - _NAMED} more"
