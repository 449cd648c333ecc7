"""What a score is and how far it can be trusted: definitions, intervals and the sentence that sums them up.

Pure functions over numbers and text; no model, no file. Every metric is a ratio of sums over rows (`Tally`), so that
resampling rows gives its interval, and base and tuned, scored on the same rows, are compared pair by pair.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
Interval = list[float]
Scores = list[dict[str, float]]
"""For each answered row, its scores by name."""


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
    def value(self) -> float:
        return float(self._ratio(self.top.sum(keepdims=True), self.bottom.sum(keepdims=True))[0])

    @property
    def is_rate(self) -> bool:
        """Whether every row is a plain yes or no."""
        return not self.exponential and bool(np.all(self.bottom == 1) and np.all((self.top == 0) | (self.top == 1)))

    @property
    def is_flat(self) -> bool:
        """Whether every row is wholly right, or every row wholly wrong: a bootstrap would see a single point."""
        return not self.exponential and bool(np.all(self.top == 0) or np.all(self.top == self.bottom))

    def resampled(self, picks: NDArray[np.int64]) -> Floats:
        """The metric of each resample; `picks` has one resample a line."""
        return self._ratio(self.top[picks].sum(axis=1), self.bottom[picks].sum(axis=1))

    def _ratio(self, top: Floats, bottom: Floats) -> Floats:
        ratio = np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
        return np.exp(np.minimum(ratio, _LARGEST_EXPONENT)) if self.exponential else ratio


@dataclass(frozen=True)
class Measured:
    """What a method's own yardstick says of one model on some rows."""

    tallies: dict[str, Tally]
    outputs: list[str] | None = None
    """What the model said to each row, where the method itself decides it (a label)."""


def intervals(base: Tally, tuned: Tally, *, seed: int) -> dict[str, Interval]:
    """95 % intervals of base, tuned and their difference (tuned − base), paired by row.

    Rates of yes or no use Wilson's score interval and Newcombe's for paired differences (Statistics in Medicine 17,
    1998, method 10): a bootstrap would call 0 of 60 certain. All others: percentile bootstrap over rows, seeded;
    where one of the two has every row right or every row wrong, Wilson's over rows stands in for its own.
    """
    if base.is_rate and tuned.is_rate:
        return {
            "base": wilson(base.top),
            "tuned": wilson(tuned.top),
            "difference": newcombe_paired(base.top, tuned.top),
        }
    rows, generator = len(base.top), np.random.default_rng(seed)
    kept: dict[str, list[Floats]] = {"base": [], "tuned": [], "difference": []}
    block = max(1, _BLOCK // max(rows, 1))
    for start in range(0, RESAMPLES, block):
        picks = generator.integers(0, rows, size=(min(block, RESAMPLES - start), rows))
        first, second = base.resampled(picks), tuned.resampled(picks)
        kept["base"].append(first)
        kept["tuned"].append(second)
        kept["difference"].append(second - first)
    found = {name: _percentiles(np.concatenate(parts)) for name, parts in kept.items()}
    for name, tally in (("base", base), ("tuned", tuned)):
        if tally.is_flat:
            found[name] = wilson(np.minimum(tally.top, 1.0))
    return found


def interval(tally: Tally, *, seed: int) -> Interval:
    """The 95 % interval of one metric by itself."""
    return intervals(tally, tally, seed=seed)["base"]


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


def exact_match(expected: str, output: str) -> float:
    """1 where the answer is the expected text, letter by letter, but for blanks around it."""
    return float(expected.strip() == output.strip())


def token_f1(expected: str, output: str) -> float:
    """Overlap of words, as SQuAD's evaluation script defines it (Rajpurkar et al. 2016): lower case, without
    punctuation and articles; harmonic mean of precision and recall. Two texts without words are equal."""
    wanted, given = _words(expected), _words(output)
    if not wanted or not given:
        return float(wanted == given)
    common = (Counter(wanted) & Counter(given)).total()
    return 2 * common / (len(wanted) + len(given))


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


@dataclass(frozen=True)
class JsonScore:
    """How one answer compares to the expected JSON object. `fields_right` of `fields` have the expected value."""

    valid: float
    fields_right: float
    fields: float
    record: float


def json_object(text: str) -> dict[str, Any] | None:
    """The whole text as one JSON object, or None. Strict: no NaN, nothing before or after, no code fence."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def json_score(expected: Mapping[str, Any], output: str) -> JsonScore:
    """An answer that is no JSON object has no field right; a record is right when nothing is missing or added."""
    given = json_object(output)
    if given is None:
        return JsonScore(0.0, 0.0, float(len(expected)), 0.0)
    right = sum(key in given and _canonical(given[key]) == _canonical(value) for key, value in expected.items())
    record = right == len(expected) and len(given) == len(expected)
    return JsonScore(1.0, float(right), float(len(expected)), float(record))


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def score_answers(expected: Sequence[str], outputs: Sequence[str]) -> Scores:
    """Each row's scores; the JSON ones only where *every* expected answer is a JSON object with fields."""
    objects = [json_object(text) for text in expected]
    as_json = bool(objects) and all(objects)
    scores = []
    for wanted, record, given in zip(expected, objects, outputs, strict=True):
        row = {"exact_match": exact_match(wanted, given), "token_f1": token_f1(wanted, given)}
        if as_json and record:
            found = json_score(record, given)
            row |= {"json_valid": found.valid, "json_record": found.record}
            row |= {"json_fields_right": found.fields_right, "json_fields": found.fields}
        scores.append(row)
    return scores


def answer_tallies(scores: Scores) -> dict[str, Tally]:
    """Metrics of generated answers; `f1` repeats `token_f1` under the name that clients look for.

    There is no `accuracy`: `exact_match` and `token_accuracy` are both accuracies of something, and say of what.
    """
    if not scores:
        return {}
    mean = {"exact_match": "exact_match", "token_f1": "token_f1", "f1": "token_f1"}
    as_json = "json_valid" in scores[0]
    if as_json:
        mean |= {"json_valid": "json_valid", "json_record_accuracy": "json_record"}
    tallies = {name: Tally.of([row[key] for row in scores]) for name, key in mean.items()}
    if as_json:
        right, fields = [row["json_fields_right"] for row in scores], [row["json_fields"] for row in scores]
        tallies["json_field_accuracy"] = Tally.of(right, fields)
    return tallies


_HEADLINES = (
    ("json_field_accuracy", "JSON fields right"),
    ("token_f1", "token F1"),
)


def judge(metric: str, difference: Interval) -> str:
    """`better`, `worse`, or `unclear` where the interval of the difference (tuned − base) holds zero."""
    low, high = difference
    if low <= 0 <= high:
        return "unclear"
    return "better" if (low > 0) != (metric in LOWER_IS_BETTER) else "worse"


def verdict(card: Mapping[str, Any], *, rows: int, answered: int) -> str:
    """One or two sentences on a scorecard: the loss over `rows`, then the task's own score over the `answered` ones.

    Says "better" only where the 95 % interval of the difference excludes zero and at least ten rows were scored.
    """
    sentences = [_sentence("loss", "loss", card, rows)]
    headline = next(((metric, words) for metric, words in _HEADLINES if metric in card["metrics"]), None)
    if headline is not None:
        sentences.append(_sentence(*headline, card, answered))
    return " ".join(sentences)


def _sentence(metric: str, words: str, card: Mapping[str, Any], rows: int) -> str:
    difference = card["intervals"][metric]["difference"]
    change = f"{words} {card['base_metrics'][metric]:.3f} → {card['metrics'][metric]:.3f} on {rows} held-out rows"
    if rows < FEWEST_ROWS:
        return f"Too few rows to judge: {change}."
    by = f"95 % interval of the difference {difference[0]:+.3f} to {difference[1]:+.3f}"
    judged = judge(metric, difference)
    if judged == "unclear":
        return f"No clear difference: {change} ({by}, which holds zero)."
    return f"The tuned model is {judged}: {change} ({by})."
