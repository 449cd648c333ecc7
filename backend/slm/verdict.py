"""One sentence that sums a scorecard up, and cannot flatter.

A pure function of the card. It says "better" only where the 95 % interval of the difference excludes zero on at least
ten rows, and never of rows that were learned from; a simple baseline that does as well is named in the same breath.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slm.metrics import FEWEST_ROWS, LOWER_IS_BETTER, Interval
from slm.spec import Method

HEADLINES: dict[Method, tuple[str, ...]] = {
    Method.CLASSIFY: ("accuracy",),
    Method.DPO: ("preference_accuracy",),
    Method.SFT: ("json_field_accuracy", "numeric_closeness", "token_f1", "loss"),
    Method.PRETRAIN: ("loss",),
    Method.MASK: ("loss",),
}
"""What a method is judged by: the first of these that was measured."""
GENERATED = frozenset(
    {
        "exact_match", "token_f1", "rouge_l", "chrf", "json_valid", "json_record_accuracy", "json_field_accuracy",
        "numeric_closeness",
    }
)  # fmt: skip
"""Metrics over the rows that were answered, not over all that were scored."""
_WORDS = {
    "json_field_accuracy": "JSON fields right",
    "numeric_closeness": "closeness of numbers",
    "token_f1": "token F1",
    "preference_accuracy": "preference accuracy",
}
BASELINES = {
    "few_shot": "few-shot prompting of the base",
    "majority": "always giving the commonest label",
    "tfidf_logreg": "TF-IDF with logistic regression",
    "unigram": "word frequencies alone (unigram)",
}
MEMORY = "Memory was measured, not learning"


def headline(card: Mapping[str, Any], method: Method) -> str | None:
    """The metric that the verdict is about."""
    return next((metric for metric in HEADLINES[method] if metric in card["metrics"]), None)


def copies(card: Mapping[str, Any]) -> int:
    """Evaluation rows that are training rows, letter by letter or but for case and punctuation."""
    overlap = card.get("overlap") or {}
    return int(overlap.get("exact") or 0) + int(overlap.get("normalised") or 0)


def is_memory(card: Mapping[str, Any]) -> bool:
    """Whether most rows were learned from, so that nothing can be said about others."""
    return 2 * copies(card) > int((card.get("overlap") or {}).get("rows") or 0)


def judge(metric: str, difference: Interval) -> str:
    """`better`, `worse`, or `unclear` where the interval of the difference (tuned − other) holds zero."""
    low, high = difference
    if low <= 0 <= high:
        return "unclear"
    return "better" if (low > 0) != (metric in LOWER_IS_BETTER) else "worse"


def verdict(card: Mapping[str, Any], method: Method) -> str:
    """The sentence on a card with `metrics`, `base_metrics`, `intervals`, `baselines`, `overlap` and its row counts.

    Where some of the rows were learned from, it judges by the others, beside base and baselines alike.
    """
    metric = headline(card, method)
    if metric is None:
        return "Nothing was scored, so nothing can be said."
    found = _View.of(card, metric)
    if not card["base_metrics"]:
        clauses = [_alone(card, found)]
    elif is_memory(card):
        clauses = [f"{MEMORY}: {_learned(card)}", found.change]
    else:
        clauses = [_compared(card, found), *_beside(found), *_shared(card, found)]
    return "; ".join(clauses) + "."


@dataclass(frozen=True)
class _View:
    """The headline metric on the rows that count."""

    metric: str
    base: float | None
    tuned: float | None
    difference: Interval | None
    baselines: Mapping[str, Any]
    """What anyone should beat, on these very rows: name → metrics, differences."""
    rows: int
    whole: bool
    """Whether these are all rows that were scored."""

    @classmethod
    def of(cls, card: Mapping[str, Any], metric: str) -> _View:
        generated, overlap = metric in GENERATED, card.get("overlap") or {}
        if copies(card) and not is_memory(card):
            return cls(
                metric,
                (overlap.get("base_metrics_without") or {}).get(metric),
                (overlap.get("metrics_without") or {}).get(metric),
                (overlap.get("differences_without") or {}).get(metric),
                overlap.get("baselines_without") or {},
                int(overlap.get("rows_generated_without" if generated else "rows_without") or 0),
                whole=False,
            )
        return cls(
            metric,
            card["base_metrics"].get(metric),
            card["metrics"][metric],
            (card["intervals"].get(metric) or {}).get("difference"),
            card.get("baselines") or {},
            int(card["rows_generated" if generated else "rows_scored"]),
            whole=True,
        )

    @property
    def words(self) -> str:
        return _WORDS.get(self.metric, self.metric)

    @property
    def change(self) -> str:
        return f"{self.words} {_figure(self.base)} → {_figure(self.tuned)} on {_rows(self.rows)}"


def _alone(card: Mapping[str, Any], found: _View) -> str:
    low, high = card["intervals"][found.metric]["tuned"]
    return (
        f"The model by itself: {found.words} {_figure(found.tuned)} on {_rows(found.rows)} "
        f"(95 % interval {_figure(low)} to {_figure(high)}), with no other model to compare it with"
    )


def _compared(card: Mapping[str, Any], found: _View) -> str:
    where = "" if found.whole else " that were not learned from"
    if found.rows < FEWEST_ROWS or found.difference is None:
        return f"Too few rows to judge: {found.change}{where}"
    by = f"95 % interval of the difference {_signed(found.difference)}"
    judged = judge(found.metric, found.difference)
    if judged == "unclear":
        return f"No clear difference from the base: {found.change}{where} ({by}, which holds zero)"
    if not found.whole and judge(found.metric, card["intervals"][found.metric]["difference"]) != judged:
        return f"No clear difference from the base: {found.change}{where}, and on all rows the interval says otherwise"
    return f"The tuned model is {judged} than its base: {found.change}{where} ({by})"


def _beside(found: _View) -> list[str]:
    """A clause on each simple baseline that the tuned model does not clearly beat; one on all where it beats them."""
    if found.rows < FEWEST_ROWS:
        return []
    beaten, clauses = [], []
    for name, baseline in found.baselines.items():
        difference = baseline["differences"].get(found.metric)
        if difference is None:
            continue
        words, value = BASELINES.get(name, name), _figure(baseline["metrics"][found.metric])
        judged = judge(found.metric, difference)
        if judged == "better":
            beaten.append(f"{words} ({value})")
        elif judged == "worse":
            clauses.append(f"a simple baseline beats it: {words} reaches {value}")
        else:
            clauses.append(f"it does not clearly beat a simple baseline: {words} reaches {value}")
    if beaten:
        clauses.append(f"it beats {' and '.join(beaten)}")
    return clauses


def _shared(card: Mapping[str, Any], found: _View) -> list[str]:
    if copies(card):
        return [_learned(card)]
    overlap = card.get("overlap") or {}
    if not overlap.get("near"):
        return []
    value = (overlap.get("metrics_without") or {}).get(found.metric)
    then = f", without which {found.words} is {_figure(value)}" if value is not None else ""
    return [f"{overlap['near']} of {_rows(overlap['rows'])} share a phrase with training rows{then}"]


def _learned(card: Mapping[str, Any]) -> str:
    return f"{copies(card)} of {_rows(card['overlap']['rows'])} are training rows"


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _signed(interval: Interval) -> str:
    return f"{interval[0]:+.3f} to {interval[1]:+.3f}"
