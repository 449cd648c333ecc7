"""What a score is and how far it can be trusted: ratios over rows, intervals by resampling rows, differences in pairs.

Pure functions over numbers; no model, no file, no text (`slm.answers` scores texts, `slm.verdict` sums up). Every
metric can be computed again from any selection of its rows, so that resampling rows gives its interval, dropping rows
shows what they did, and base and tuned, scored on the same rows, are compared pair by pair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
CONFIDENCE = 0.95
_Z = 1.959963984540054
_LARGEST_EXPONENT = 700.0
_BLOCK = 4_000_000
FEWEST_ROWS = 10
"""Below so many rows no verdict is given: the intervals themselves rest on too little."""

LOWER_IS_BETTER = frozenset({"loss", "perplexity"})
Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Interval = list[float]

METRIC_NOTES = {
    "loss": "Mean negative log-likelihood in nats: per learned token, or per row where a row is one decision.",
    "perplexity": "e to the loss: among how many equally likely tokens the model hesitates.",
    "token_accuracy": "Share of learned tokens that the model ranks first, given the true text before them.",
    "exact_match": "Share of answers equal to the expected text, letter by letter, but for blanks around it.",
    "token_f1": "Overlap of words with the expected text as SQuAD defines it; mean over rows.",
    "f1": "Of answers the same as token_f1; of labels macro F1, the plain mean over labels.",
    "rouge_l": "ROUGE-L: F1 of the longest common subsequence of words, without stemming; mean over rows.",
    "chrf": "chrF (character 6-grams, β = 2) of each row, from 0 to 1; mean over rows, not a corpus score.",
    "json_valid": "Share of answers that are one JSON object and nothing else.",
    "json_record_accuracy": "Share of answers whose JSON object is exactly the expected one.",
    "json_field_accuracy": "Share of expected JSON fields that are there with the expected value.",
    "numeric_closeness": "1 − |answer − expected| / |expected|, at least 0; an answer that is no number counts 0.",
    "accuracy": "Share of rows that got the true label.",
    "preference_accuracy": "Share of pairs whose chosen answer is likelier to the model than the rejected one.",
    "reward_margin": "How much more than the base the model prefers the chosen answer, times dpo_beta; 0 for the base.",
    "reward_accuracy": "Share of pairs that the model prefers more rightly than its base; the base itself has 0.5.",
}
"""What each metric means, in a sentence."""


class Metric(Protocol):
    """A number over rows that can be computed again from any selection of them."""

    @property
    def rows(self) -> int: ...

    @property
    def value(self) -> float: ...

    @property
    def is_rate(self) -> bool:
        """Whether it is the mean of `hits`."""
        ...

    @property
    def is_flat(self) -> bool:
        """Whether every row is wholly right, or every row wholly wrong: a bootstrap would see a single point."""
        ...

    @property
    def hits(self) -> Floats:
        """1 for each row that is right, 0 for one that is wrong; only asked of rates and flat metrics."""
        ...

    def resampled(self, picks: Rows) -> Floats:
        """The metric of each resample; `picks` has one resample a line."""
        ...

    def of_rows(self, chosen: Rows) -> Metric:
        """The same metric over some of the rows."""
        ...


@dataclass(frozen=True)
class Tally:
    """One metric over rows: sum of `top` by sum of `bottom`; `exponential` raises e to it (perplexity)."""

    top: Floats
    bottom: Floats
    exponential: bool = False

    @classmethod
    def of(cls, top: Sequence[float], bottom: Sequence[float] | None = None, *, exponential: bool = False) -> Tally:
        """Without `bottom` each row counts 1, and the metric is the mean."""
        weights = np.ones(len(top)) if bottom is None else np.asarray(bottom, dtype=np.float64)
        return cls(np.asarray(top, dtype=np.float64), weights, exponential)

    @property
    def rows(self) -> int:
        return len(self.top)

    @property
    def value(self) -> float:
        return float(self._ratio(self.top.sum(keepdims=True), self.bottom.sum(keepdims=True))[0])

    @property
    def is_rate(self) -> bool:
        return not self.exponential and bool(np.all(self.bottom == 1) and np.all((self.top == 0) | (self.top == 1)))

    @property
    def is_flat(self) -> bool:
        return not self.exponential and bool(np.all(self.top == 0) or np.all(self.top == self.bottom))

    @property
    def hits(self) -> Floats:
        return np.minimum(self.top, 1.0)

    def resampled(self, picks: Rows) -> Floats:
        return self._ratio(self.top[picks].sum(axis=1), self.bottom[picks].sum(axis=1))

    def of_rows(self, chosen: Rows) -> Tally:
        return Tally(self.top[chosen], self.bottom[chosen], self.exponential)

    def _ratio(self, top: Floats, bottom: Floats) -> Floats:
        ratio = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
        return np.exp(np.minimum(ratio, _LARGEST_EXPONENT)) if self.exponential else ratio


@dataclass(frozen=True)
class MacroF1:
    """The mean over labels of each label's F1; labels that neither occur nor are given in the rows do not count.

    No ratio of sums, so every resample counts its labels anew. `truth` and `given` number the labels from 0.
    """

    truth: Rows
    given: Rows

    @classmethod
    def of(cls, truth: Sequence[str], given: Sequence[str]) -> MacroF1:
        numbers = {label: number for number, label in enumerate(sorted({*truth, *given}))}
        first, second = ([numbers[label] for label in labels] for labels in (truth, given))
        return cls(np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64))

    @property
    def rows(self) -> int:
        return len(self.truth)

    @property
    def value(self) -> float:
        return float(self.resampled(np.arange(self.rows)[None, :])[0])

    @property
    def is_rate(self) -> bool:
        return False

    @property
    def is_flat(self) -> bool:
        return bool(np.all(self.truth == self.given) or not np.any(self.truth == self.given))

    @property
    def hits(self) -> Floats:
        return np.asarray(self.truth == self.given, dtype=np.float64)

    def resampled(self, picks: Rows) -> Floats:
        labels = int(max(self.truth.max(), self.given.max())) + 1
        offsets = np.arange(len(picks))[:, None] * labels

        def count(which: Rows, weights: Floats | None = None) -> Floats:
            chosen = weights[picks].ravel() if weights is not None else None
            found = np.bincount((offsets + which[picks]).ravel(), weights=chosen, minlength=len(picks) * labels)
            counts: Floats = found.reshape(len(picks), labels).astype(np.float64)
            return counts

        right, seen = count(self.truth, self.hits), count(self.truth) + count(self.given)
        each = np.divide(2 * right, seen, out=np.zeros_like(right), where=seen > 0)
        return np.asarray(each.sum(axis=1) / (seen > 0).sum(axis=1), dtype=np.float64)

    def of_rows(self, chosen: Rows) -> MacroF1:
        return MacroF1(self.truth[chosen], self.given[chosen])


@dataclass(frozen=True)
class Measured:
    """What a method's own yardstick says of one model on some rows."""

    tallies: dict[str, Tally]
    outputs: list[str] | None = None
    """What the model said to each row, where the method itself decides it (a label)."""


def intervals(base: Metric, tuned: Metric, *, seed: int) -> dict[str, Interval]:
    """95 % intervals of base, tuned and their difference (tuned − base), paired by row.

    Rates of yes or no use Wilson's score interval and Newcombe's for paired differences (Statistics in Medicine 17,
    1998, method 10): a bootstrap would call 0 of 60 certain. All others: percentile bootstrap over rows, seeded; where
    one has every row right or every row wrong, Wilson's over rows stands in for its own (and Newcombe's, where both).
    """
    if (base.is_rate and tuned.is_rate) or (base.is_flat and tuned.is_flat):
        return {
            "base": wilson(base.hits),
            "tuned": wilson(tuned.hits),
            "difference": newcombe_paired(base.hits, tuned.hits),
        }
    rows, generator = base.rows, np.random.default_rng(seed)
    kept: dict[str, list[Floats]] = {"base": [], "tuned": [], "difference": []}
    block = max(1, _BLOCK // max(rows, 1))
    for start in range(0, RESAMPLES, block):
        picks = generator.integers(0, rows, size=(min(block, RESAMPLES - start), rows))
        first, second = base.resampled(picks), tuned.resampled(picks)
        kept["base"].append(first)
        kept["tuned"].append(second)
        kept["difference"].append(second - first)
    found = {name: _percentiles(np.concatenate(parts)) for name, parts in kept.items()}
    for name, metric in (("base", base), ("tuned", tuned)):
        if metric.is_flat:
            found[name] = wilson(metric.hits)
    return found


def interval(metric: Metric, *, seed: int) -> Interval:
    """The 95 % interval of one metric by itself."""
    return intervals(metric, metric, seed=seed)["base"]


def _percentiles(values: Floats) -> Interval:
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return [float(low), float(high)]


def wilson(hits: Floats) -> Interval:
    """Wilson's score interval of a rate; `hits` holds 0 or 1 for each row."""
    rows, share = len(hits), float(hits.mean())
    centre = share + _Z**2 / (2 * rows)
    spread = _Z * math.sqrt(share * (1 - share) / rows + _Z**2 / (4 * rows**2))
    scale = 1 + _Z**2 / rows
    low = 0.0 if share == 0 else (centre - spread) / scale
    high = 1.0 if share == 1 else (centre + spread) / scale
    return [max(0.0, low), min(1.0, high)]


def newcombe_paired(first: Floats, second: Floats) -> Interval:
    """The interval of mean(second) − mean(first) where both answered the same rows with 0 or 1."""
    both = float(np.sum(first * second))
    lost, won = float(np.sum(first)) - both, float(np.sum(second)) - both
    neither = len(first) - both - lost - won
    margins = (both + lost) * (won + neither) * (both + won) * (lost + neither)
    agreement = (both * neither - lost * won) / math.sqrt(margins) if margins > 0 else 0.0
    (low1, high1), (low2, high2) = wilson(first), wilson(second)
    mean1, mean2 = float(first.mean()), float(second.mean())
    difference = mean2 - mean1

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 - 2 * agreement * one * other + other**2))

    low = difference - reach(mean2 - low2, high1 - mean1)
    high = difference + reach(high2 - mean2, mean1 - low1)
    return [max(-1.0, low), min(1.0, high)]
