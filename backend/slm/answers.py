"""How good an answer is, against the expected one. Every score lies between 0 and 1."""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from typing import Any

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def exact_match(expected: str, given: str) -> float:
    """1 where both are the same but for white space at the ends."""
    return float(expected.strip() == given.strip())


def token_f1(expected: str, given: str) -> float:
    """Overlap of normalised words, as SQuAD scores answers (Rajpurkar et al. 2016, evaluate-v1.1)."""
    wanted, got = _words(expected), _words(given)
    if not wanted or not got:
        return float(wanted == got)
    common = sum((Counter(wanted) & Counter(got)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(got), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def as_object(text: str) -> dict[str, Any] | None:
    """The text as one JSON object, or None."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def json_scores(expected: dict[str, Any], given: str) -> dict[str, float]:
    """Whether the answer is a JSON object, the share of expected fields it has right, and whether all of it is."""
    got = as_object(given)
    if got is None:
        return {"json_valid": 0.0, "json_field_accuracy": 0.0, "json_record_accuracy": 0.0}
    right = sum(key in got and got[key] == value for key, value in expected.items())
    return {
        "json_valid": 1.0,
        "json_field_accuracy": right / len(expected) if expected else float(got == expected),
        "json_record_accuracy": float(got == expected),
    }


def score(expected: str, given: str, *, as_json: bool) -> dict[str, float]:
    """All scores of one answer; the JSON ones where every expected answer of the data is a JSON object."""
    scores = {"exact_match": exact_match(expected, given), "token_f1": token_f1(expected, given)}
    wanted = as_object(expected) if as_json else None
    return scores | json_scores(wanted, given) if wanted is not None else scores
