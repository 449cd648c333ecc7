"""The sentence that sums up: whatever the numbers, it cannot flatter."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.metrics import FEWEST_ROWS, LOWER_IS_BETTER
from slm.spec import Method
from slm.verdict import HEADLINES, headline, is_memory, judge, verdict

METHODS = [(method, metric) for method, metrics in HEADLINES.items() for metric in metrics]
Bounds = tuple[float, float]


def card(
    metric: str = "accuracy",
    difference: Bounds = (0.1, 0.3),
    *,
    rows: int = 60,
    baselines: dict[str, Bounds] | None = None,
    overlap: dict[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "metrics": {metric: 0.7},
        "base_metrics": {metric: 0.5},
        "intervals": {metric: {"difference": list(difference), "tuned": [0.6, 0.8], "base": [0.4, 0.6]}},
        "rows_scored": rows,
        "rows_generated": rows,
        "overlap": overlap,
        "baselines": {
            name: {"metrics": {metric: 0.65}, "differences": {metric: list(bounds)}}
            for name, bounds in (baselines or {}).items()
        },
    }


def overlapping(
    rows: int, *, exact: int = 0, near: int = 0, metric: str = "accuracy", without: Bounds = (0.1, 0.3)
) -> dict[str, Any]:
    left = rows - exact - near
    return {
        "exact": exact, "normalised": 0, "near": near, "rows": rows, "share": (exact + near) / rows, "examples": [],
        "metrics_without": {metric: 0.6} if left else {}, "base_metrics_without": {metric: 0.5} if left else {},
        "differences_without": {metric: list(without)} if left else {},
        "rows_without": left, "rows_generated_without": left,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "difference", "judged"),
    [
        ("loss", [-0.5, -0.1], "better"),
        ("loss", [0.1, 0.5], "worse"),
        ("perplexity", [-3.0, -1.0], "better"),
        ("token_f1", [0.1, 0.2], "better"),
        ("token_f1", [-0.2, -0.1], "worse"),
        ("token_f1", [-0.1, 0.2], "unclear"),
        ("loss", [-0.1, 0.0], "unclear"),
        ("loss", [0.0, 0.0], "unclear"),
    ],
)
def test_judging(metric: str, difference: list[float], judged: str) -> None:
    assert judge(metric, difference) == judged


bounds = st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(lambda pair: (min(pair), max(pair)))


@given(
    which=st.sampled_from(METHODS),
    difference=bounds,
    rows=st.integers(1, 300),
    baselines=st.dictionaries(st.sampled_from(["few_shot", "majority", "tfidf_logreg", "unigram"]), bounds),
    exact=st.integers(0, 300),
    near=st.integers(0, 300),
    without=bounds,
    known=st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_it_says_better_only_where_that_is_shown(
    which: tuple[Method, str], difference: Bounds, rows: int, baselines: dict[str, Bounds], exact: int, near: int,
    without: Bounds, known: bool,
) -> None:  # fmt: skip
    method, metric = which
    exact = min(exact, rows)
    near = min(near, rows - exact)
    overlap = overlapping(rows, exact=exact, near=near, metric=metric, without=without) if known else None
    made = card(metric, difference, rows=rows, baselines=baselines, overlap=overlap)
    said = verdict(made, method)
    better = re.search(r"\bbetter\b", said) is not None
    excludes = difference[0] > 0 or difference[1] < 0
    right_way = (difference[0] > 0) != (metric in LOWER_IS_BETTER)
    if better:
        assert excludes
        assert right_way
        assert rows >= FEWEST_ROWS
        assert not is_memory(made)
    if known and exact and 2 * exact <= rows and better:
        assert rows - exact - near >= FEWEST_ROWS
        assert judge(metric, list(without)) == "better"
    if not (known and exact) and excludes and right_way and rows >= FEWEST_ROWS:
        assert better
    # One sentence: it ends once, and no full stop stands before another word.
    assert said.endswith(".")
    assert not re.search(r"\.\s", said)


def test_an_interval_that_holds_zero_is_told() -> None:
    said = verdict(card(difference=(-0.1, 0.3)), Method.CLASSIFY)
    assert said == (
        "No clear difference from the base: accuracy 0.500 → 0.700 on 60 rows "
        "(95 % interval of the difference -0.100 to +0.300, which holds zero)."
    )


def test_a_clear_difference_is_told_either_way() -> None:
    assert verdict(card(), Method.CLASSIFY) == (
        "The tuned model is better than its base: accuracy 0.500 → 0.700 on 60 rows "
        "(95 % interval of the difference +0.100 to +0.300)."
    )
    assert "is worse than its base" in verdict(card("loss"), Method.MASK)


def test_a_simple_baseline_is_named_in_the_same_breath() -> None:
    made = card(baselines={"majority": (0.2, 0.4), "tfidf_logreg": (-0.3, -0.1)})
    said = verdict(made, Method.CLASSIFY)
    assert "a simple baseline beats it: TF-IDF with logistic regression reaches 0.650" in said
    assert "it beats always giving the commonest label (0.650)" in said
    unclear = verdict(card(baselines={"tfidf_logreg": (-0.1, 0.1)}), Method.CLASSIFY)
    assert "it does not clearly beat a simple baseline: TF-IDF with logistic regression reaches 0.650" in unclear


def test_a_baseline_that_measures_something_else_is_left_out() -> None:
    made = card(baselines={"few_shot": (0.1, 0.2)})
    made["baselines"]["few_shot"]["differences"] = {}
    assert "few-shot" not in verdict(made, Method.CLASSIFY)


@pytest.mark.parametrize(("exact", "memory"), [(60, True), (31, True), (30, False), (1, False)])
def test_training_rows_show_memory(exact: int, memory: bool) -> None:
    said = verdict(card(overlap=overlapping(60, exact=exact)), Method.CLASSIFY)
    assert said.startswith("Memory was measured, not learning: ") is memory
    assert f"{exact} of 60 rows are training rows" in said
    assert ("better" in said) is not memory


def test_where_some_rows_were_learned_the_others_decide() -> None:
    said = verdict(card(overlap=overlapping(60, exact=20, without=(-0.1, 0.2))), Method.CLASSIFY)
    assert said.startswith("No clear difference from the base: accuracy 0.500 → 0.600 on 40 rows that were not learned")
    few = verdict(card(rows=18, overlap=overlapping(18, exact=9)), Method.CLASSIFY)
    assert few.startswith("Too few rows to judge: accuracy 0.500 → 0.600 on 9 rows that were not learned")


def test_baselines_are_judged_by_the_rows_that_the_verdict_speaks_of() -> None:
    """On all rows the tuned model beats the baseline; on those that it did not learn, the baseline beats it."""
    overlap = overlapping(60, exact=20)
    overlap["baselines_without"] = {
        "majority": {"metrics": {"accuracy": 0.8}, "differences": {"accuracy": [-0.4, -0.1]}}
    }
    said = verdict(card(baselines={"majority": (0.2, 0.4)}, overlap=overlap), Method.CLASSIFY)
    assert "on 40 rows that were not learned from" in said
    assert "a simple baseline beats it: always giving the commonest label reaches 0.800" in said
    assert "it beats" not in said
    # Where the rows were not taken out, all of them count; where nothing is known of the others, nothing is said.
    overlap = overlapping(60, near=20) | {"baselines_without": overlap["baselines_without"]}
    said = verdict(card(baselines={"majority": (0.2, 0.4)}, overlap=overlap), Method.CLASSIFY)
    assert "it beats always giving the commonest label (0.650)" in said
    assert "majority" not in verdict(card(overlap=overlapping(60, exact=20)), Method.CLASSIFY)


def test_rows_that_share_a_phrase_are_told_with_the_score_without_them() -> None:
    said = verdict(card(overlap=overlapping(60, near=5)), Method.CLASSIFY)
    assert "5 of 60 rows share a phrase with training rows, without which accuracy is 0.600" in said
    assert "better" in said


def test_few_rows_are_not_judged() -> None:
    said = verdict(card(rows=9, baselines={"majority": (0.2, 0.4)}), Method.CLASSIFY)
    assert said == "Too few rows to judge: accuracy 0.500 → 0.700 on 9 rows."


def test_a_base_alone_is_measured_not_judged() -> None:
    made = card("loss") | {"base_metrics": {}, "intervals": {"loss": {"tuned": [0.6, 0.8]}}}
    assert verdict(made, Method.SFT) == (
        "The model by itself: loss 0.700 on 60 rows (95 % interval 0.600 to 0.800), "
        "with no other model to compare it with."
    )


def test_the_headline_is_the_tasks_own_score() -> None:
    measured = {"metrics": {"loss": 1.0, "token_f1": 0.5, "numeric_closeness": 0.5, "json_field_accuracy": 0.5}}
    assert headline(measured, Method.SFT) == "json_field_accuracy"
    del measured["metrics"]["json_field_accuracy"]
    assert headline(measured, Method.SFT) == "numeric_closeness"
    assert headline({"metrics": {"loss": 1.0}}, Method.SFT) == "loss"
    assert headline({"metrics": {"loss": 1.0, "preference_accuracy": 1.0}}, Method.DPO) == "preference_accuracy"
    assert headline({"metrics": {}}, Method.SFT) is None
    assert verdict({"metrics": {}}, Method.SFT).startswith("Nothing was scored")


def test_each_metric_counts_its_own_rows() -> None:
    made = card("token_f1") | {"rows_scored": 200, "rows_generated": 60}
    assert "on 60 rows" in verdict(made, Method.SFT)
    made = card("loss", (-0.2, -0.1)) | {"rows_scored": 200, "rows_generated": 0}
    assert "on 200 rows" in verdict(made, Method.SFT)
