"""How labels compare with the true ones: accuracy and macro F1, a table by label, who is taken for whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from slm.metrics import MacroF1, Metric, Tally

MOST_LABELS = 100
"""Beyond so many the matrix of confusions is left out: nobody reads it, and it grows with the square."""


def label_metrics(expected: Sequence[str], given: Sequence[str]) -> dict[str, Metric]:
    """Accuracy and macro F1, row by row."""
    hits = [float(one == other) for one, other in zip(expected, given, strict=True)]
    return {"accuracy": Tally.of(hits), "f1": MacroF1.of(expected, given)}


def by_label(expected: Sequence[str], outputs: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """For each label that occurs or was given: its rows (support), and precision, recall, F1 of each model."""
    support = Counter(expected)
    right = {
        name: Counter(true for true, said in zip(expected, given, strict=True) if true == said)
        for name, given in outputs.items()
    }
    said = {name: Counter(given) for name, given in outputs.items()}
    return [
        {"label": label, "support": support[label]}
        | {name: _scores(right[name][label], said[name][label], support[label]) for name in outputs}
        for label in _labels(expected, outputs)
    ]


def _scores(right: int, given: int, true: int) -> dict[str, float]:
    """0 where nothing was given or nothing is true, as is scikit-learn's custom."""
    return {
        "precision": right / given if given else 0.0,
        "recall": right / true if true else 0.0,
        "f1": 2 * right / (given + true) if given + true else 0.0,
    }


def confusion(expected: Sequence[str], outputs: Mapping[str, Sequence[str]]) -> dict[str, Any] | None:
    """Counts of rows by true label (lines) and given label (columns) for each model; None beyond `MOST_LABELS`."""
    labels = _labels(expected, outputs)
    if len(labels) > MOST_LABELS:
        return None
    found: dict[str, Any] = {"labels": labels}
    for name, given in outputs.items():
        counts = Counter(zip(expected, given, strict=True))
        found[name] = [[counts[true, said] for said in labels] for true in labels]
    return found


def _labels(expected: Sequence[str], outputs: Mapping[str, Sequence[str]]) -> list[str]:
    return sorted({*expected, *(label for given in outputs.values() for label in given)})
