"""How an answer in words compares with the expected one: equality, overlap, JSON fields, numbers.

Pure functions over two texts. What is heavy to import (rouge-score brings NLTK along) is imported where it is used;
none of it needs the network.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from slm.metrics import Tally

Scores = list[dict[str, float]]
"""For each answered row, its scores by name."""
MOST_WORDS = 2000
"""ROUGE-L looks at so many words of either text: its time grows with their product."""
TINY = 1e-9
"""Where the expected number is zero, only zero is close to it."""


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


_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:[eE][-+]?\d+)?")


def number(text: str) -> float | None:
    """The whole text as one finite number, or None; commas may part thousands."""
    text = text.strip()
    if not _NUMBER.fullmatch(text):
        return None
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def numeric_closeness(expected: float, output: str) -> float:
    """1 − |answer − expected| / |expected|, never below 0; an answer that is not one number scores 0."""
    given = number(output)
    return 0.0 if given is None else 1 - min(1.0, abs(given - expected) / max(abs(expected), TINY))


class _Words:
    """Splits as rouge-score does by itself, but in any script: lower-case runs of letters and digits, no stemming."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())[:MOST_WORDS]


def rouge_l(expected: Sequence[str], outputs: Sequence[str]) -> list[float]:
    """ROUGE-L (Lin 2004) F1 of each pair; two texts without words are as equal as their signs."""
    from rouge_score.rouge_scorer import RougeScorer

    words = _Words()
    scorer = RougeScorer(["rougeL"], tokenizer=words)
    return [
        float(scorer.score(wanted, given)["rougeL"].fmeasure) if words.tokenize(wanted) else exact_match(wanted, given)
        for wanted, given in zip(expected, outputs, strict=True)
    ]


def chrf(expected: Sequence[str], outputs: Sequence[str]) -> list[float]:
    """chrF (Popović 2015) of each pair by sacrebleu's defaults (6-grams of characters, β = 2), from 0 to 1."""
    from sacrebleu.metrics.chrf import CHRF

    scorer = CHRF()
    return [scorer.sentence_score(given, [wanted]).score / 100 for wanted, given in zip(expected, outputs, strict=True)]


def score_answers(expected: Sequence[str], outputs: Sequence[str]) -> Scores:
    """Each row's scores; JSON ones only where *every* expected answer is a JSON object with fields, closeness only
    where every one is a number."""
    if not expected:
        return []
    columns: dict[str, Sequence[float]] = {
        "exact_match": _each(exact_match, expected, outputs),
        "token_f1": _each(token_f1, expected, outputs),
        "rouge_l": rouge_l(expected, outputs),
        "chrf": chrf(expected, outputs),
    }
    objects = [found for text in expected if (found := json_object(text))]
    if len(objects) == len(expected):
        records = [json_score(record, given) for record, given in zip(objects, outputs, strict=True)]
        columns["json_valid"] = [found.valid for found in records]
        columns["json_record"] = [found.record for found in records]
        columns["json_fields_right"] = [found.fields_right for found in records]
        columns["json_fields"] = [found.fields for found in records]
    numbers = [value for text in expected if (value := number(text)) is not None]
    if len(numbers) == len(expected):
        columns["numeric_closeness"] = [numeric_closeness(*pair) for pair in zip(numbers, outputs, strict=True)]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _each(score: Callable[[str, str], float], expected: Sequence[str], outputs: Sequence[str]) -> list[float]:
    return [score(wanted, given) for wanted, given in zip(expected, outputs, strict=True)]


_MEANS = {
    "exact_match": "exact_match",
    "token_f1": "token_f1",
    "f1": "token_f1",
    "rouge_l": "rouge_l",
    "chrf": "chrf",
    "json_valid": "json_valid",
    "json_record_accuracy": "json_record",
    "numeric_closeness": "numeric_closeness",
}
"""Metric → the score whose mean it is. `f1` repeats `token_f1` under the name that clients look for."""


def answer_tallies(scores: Scores) -> dict[str, Tally]:
    """Metrics of generated answers, those whose scores there are.

    There is no `accuracy`: `exact_match` and `token_accuracy` are both accuracies of something, and say of what.
    """
    if not scores:
        return {}
    tallies = {name: Tally.of([row[key] for row in scores]) for name, key in _MEANS.items() if key in scores[0]}
    if "json_fields" in scores[0]:
        right, fields = [row["json_fields_right"] for row in scores], [row["json_fields"] for row in scores]
        tallies["json_field_accuracy"] = Tally.of(right, fields)
    return tallies
