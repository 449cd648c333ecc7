"""`docs/evaluation.md` defines every metric, names every baseline, and the tests it appeals to exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from slm.baselines import FEATURES, FITTED_ROWS, SHOTS
from slm.metrics import FEWEST_ROWS, METRIC_NOTES, RESAMPLES
from slm.overlap import COMMON, MOST_EXAMPLES, PHRASE
from slm.spec import Hyperparameters
from slm.verdict import BASELINES, HEADLINES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/evaluation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("metric", sorted(METRIC_NOTES))
def test_each_metric_has_a_line_with_its_definition(metric: str) -> None:
    assert re.search(rf"^\| [^|]*`{metric}`[^|]* \|[^|]+\| [^|]{{10,}}", PAGE, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_each_baseline_has_a_line(name: str) -> None:
    assert re.search(rf"^\| `{name}` \|[^|]+\| [^|]{{30,}}", PAGE, re.MULTILINE)


def test_figures_are_those_of_the_code() -> None:
    assert f"{PHRASE} consecutive words" in PAGE
    assert {COMMON: "more than ten training rows", MOST_EXAMPLES: "up to twenty"} == {
        10: "more than ten training rows", 20: "up to twenty"
    }  # fmt: skip
    assert f"{RESAMPLES:,} resamples" in PAGE
    assert f"at most {FITTED_ROWS:,} rows and {FEATURES:,} features" in PAGE
    assert (FEWEST_ROWS, SHOTS) == (10, 4)  # "at least ten rows", "up to four training examples"
    fields = Hyperparameters.model_fields
    for name in ("eval_max_rows", "generate_max_rows"):
        assert f"`{name}` ({fields[name].default})" in PAGE


def test_headlines_are_named() -> None:
    said = PAGE[PAGE.index("## The verdict") :]
    assert {metric for metrics in HEADLINES.values() for metric in metrics} <= set(re.findall(r"`(\w+)`", said))


def test_tests_that_it_appeals_to_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert named
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "backend/tests").rglob("test_*.py"))
    assert all(f"def {name}(" in sources for name in named)
