"""A scorecard as a person reads it: base → tuned, what anyone should beat, labels, overlap, the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.cli.tables import console, figure, print_table

if TYPE_CHECKING:
    from slm_client import EvaluationDetail

MOST_LABELS = 30
"""Lines of the table by label; the commonest labels are shown."""


def print_scorecard(evaluation: EvaluationDetail) -> None:
    """Everything that was measured, and the verdict last."""
    _print_metrics(evaluation)
    _print_baselines(evaluation)
    _print_labels(evaluation)
    out = console()
    for line in (*_rows(evaluation), *_overlap(evaluation)):
        out.print(line, markup=False)
    if evaluation.verdict:
        out.print(evaluation.verdict, markup=False)
    if evaluation.simulated:
        out.print("Simulated: these numbers are made up.", markup=False)


def _print_metrics(evaluation: EvaluationDetail) -> None:
    metrics, base, intervals = evaluation.metrics, evaluation.base_metrics, evaluation.intervals
    if not metrics:
        return
    if base:
        header = ("metric", "base", "tuned", "difference (95 %)")
        rows = [
            (
                _words(name),
                figure(base[name]) if name in base else None,
                figure(value),
                _bounds(intervals.get(name), "difference"),
            )
            for name, value in metrics.items()
        ]
        print_table(header, rows, right=header[1:])
    else:
        shown = ("metric", "value", "interval (95 %)")
        alone = [
            (_words(name), figure(value), _bounds(intervals.get(name), "tuned", signed=False))
            for name, value in metrics.items()
        ]
        print_table(shown, alone, right=shown[1:])


def _print_baselines(evaluation: EvaluationDetail) -> None:
    """Each simple baseline's metrics beside the tuned model's."""
    header = ("baseline", "metric", "baseline's", "tuned", "difference (95 %)")
    rows = [
        (
            _words(name),
            _words(metric),
            figure(value),
            figure(evaluation.metrics[metric]) if metric in evaluation.metrics else None,
            _bounds(baseline.get("differences"), metric),
        )
        for name, baseline in evaluation.baselines.items()
        for metric, value in (baseline.get("metrics") or {}).items()
    ]
    if rows:
        print_table(header, rows, right=header[2:])


def _print_labels(evaluation: EvaluationDetail) -> None:
    found = sorted(evaluation.per_class or [], key=lambda row: -row["support"])[:MOST_LABELS]
    if not found:
        return
    header = ("label", "rows", "precision", "recall", "F1", "base F1")
    rows = [
        (
            row["label"],
            row["support"],
            *(figure(row["tuned"][key]) for key in ("precision", "recall", "f1")),
            figure(row["base"]["f1"]) if row.get("base") else None,
        )
        for row in found
    ]
    print_table(header, rows, right=header[1:])


def _rows(evaluation: EvaluationDetail) -> list[str]:
    if evaluation.rows_scored is None:
        return []
    available = evaluation.rows_available
    of = f" of {available}" if available not in (None, evaluation.rows_scored) else ""
    how = f", {evaluation.rows_chosen}" if of and evaluation.rows_chosen else ""
    answered = f"; {evaluation.rows_generated} were answered in words" if evaluation.rows_generated else ""
    return [f"Scored on {evaluation.rows_scored}{of} rows{how}{answered}."]


def _overlap(evaluation: EvaluationDetail) -> list[str]:
    overlap = evaluation.overlap
    if overlap is None:
        return []
    kinds = [(kind, int(overlap.get(kind) or 0)) for kind in ("exact", "normalised", "near")]
    found = ", ".join(f"{count} {kind}" for kind, count in kinds if count)
    if not found:
        return [f"Overlap with the training rows: none among {overlap.get('rows')}."]
    left = overlap.get("rows_without")
    without = f"; {left} scored rows are without" if left is not None else ""
    return [f"Overlap with the training rows: {found} of {overlap.get('rows')}{without}."]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _bounds(intervals: Any, key: str, *, signed: bool = True) -> str | None:
    bounds = intervals.get(key) if isinstance(intervals, Mapping) else None
    if not isinstance(bounds, Sequence) or len(bounds) != 2 or None in bounds:
        return None
    return " to ".join(f"{float(bound):+.3g}" if signed else f"{float(bound):.3g}" for bound in bounds)
