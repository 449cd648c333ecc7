"""What a finished training is judged by: the rows that were held out, beside those it learned from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from slm import overlap
from slm.evaluate import Evidence
from slm.overlap import Numbered
from slm.spec import Hyperparameters, Scoring, TrainSpec
from slm.train.rows import Prepared


def of(spec: TrainSpec, prepared: Prepared, directory: Path) -> Evidence:
    """The examples are read from the files again, so that none has to be kept in memory during the training."""
    held_out = {row.line for row in prepared.held_out} if spec.eval is None else set()

    def learned() -> Iterator[Numbered]:
        return ((line, example) for line, example in overlap.read(spec.train, directory) if line not in held_out)

    return Evidence(
        held_out=prepared.held_out,
        examples=lambda: overlap.read(spec.eval or spec.train, directory),
        learned=lambda: iter(prepared.train),
        learned_examples=learned,
    )


def scoring(config: Hyperparameters) -> Scoring:
    """As many rows and as long answers as the training was asked for."""
    return Scoring(**{name: getattr(config, name) for name in Scoring.model_fields})
