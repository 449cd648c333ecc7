"""Scores by definition, intervals against published and simulated truth, and a verdict that cannot flatter."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slm import metrics
from slm.metrics import Tally


@pytest.mark.parametrize(
    ("expected", "output", "score"),
    [
        ("The cat sat.", "cat sat", 1.0),  # articles, case and punctuation do not count
        ("a red cat", "a blue cat", 0.5),
        ("red cat", "red cat red cat", 2 / 3),  # repeated words are matched once each
        ("cat", "dog", 0.0),
        ("", "", 1.0),
        ("cat", "", 0.0),
        ("the", "a", 1.0),  # both are without words
    ],
)
def test_token_f1_is_squads(expected: str, output: str, score: float) -> None:
    assert metrics.token_f1(expected, output) == pytest.approx(score)


def test_exact_match_forgives_only_blanks_around() -> None:
    assert metrics.exact_match("Yes.", " Yes.\n") == 1.0
    assert metrics.exact_match("Yes.", "yes.") == 0.0
    assert metrics.exact_match("a b", "a  b") == 0.0


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", '"text"', "null", '{"a": NaN}', '{"a": Infinity}', '{"a": 1} and more', '```json\n{"a": 1}\n```',
     "[" * 100_000, '{"a":' * 100_000],
)  # fmt: skip
def test_only_a_whole_object_is_json(text: str) -> None:
    assert metrics.json_object(text) is None


def test_json_fields_and_records() -> None:
    wanted = {"name": "Ann", "age": 3, "ok": True}

    def score(output: str) -> tuple[float, float, float, float]:
        found = metrics.json_score(wanted, output)
        return found.valid, found.fields_right, found.fields, found.record

    assert score('{"age": 3, "ok": true, "name": "Ann"}') == (1, 3, 3, 1)  # order is free
    assert score('{"name": "Ann", "age": "3", "ok": true}') == (1, 2, 3, 0)  # a number is not a text
    assert score('{"name": "Ann", "age": 3, "ok": 1}') == (1, 2, 3, 0)  # nor is 1 true
    assert score('{"name": "Ann"}') == (1, 1, 3, 0)
    assert score('{"name": "Ann", "age": 3, "ok": true, "more": 1}') == (1, 3, 3, 0)  # nothing may be added
    assert score("Ann") == (0, 0, 3, 0)
    assert metrics.json_score({"a": {"b": [1, {"c": 2}]}}, '{"a": {"b": [1, {"c": 2}]}}').record == 1


def test_json_scores_need_every_expected_answer_to_be_an_object() -> None:
    scores = metrics.score_answers(['{"a": 1}', "plain"], ['{"a": 1}', "plain"])
    assert all("json_valid" not in row for row in scores)
    assert all("json_valid" not in row for row in metrics.score_answers(["{}"], ["{}"]))  # no field to be right about
    assert metrics.answer_tallies([]) == {}


def test_field_accuracy_weighs_fields_not_rows() -> None:
    scores = metrics.score_answers(['{"a": 1}', '{"a": 1, "b": 2, "c": 3}'], ['{"a": 1}', '{"a": 9, "b": 9, "c": 9}'])
    values = {name: tally.value for name, tally in metrics.answer_tallies(scores).items()}
    assert values["json_field_accuracy"] == 0.25
    assert values["json_record_accuracy"] == 0.5
    assert values["json_valid"] == 1.0
    assert values["f1"] == values["token_f1"]
    assert "accuracy" not in values


def test_tally_is_weighted_and_perplexity_is_its_exponential() -> None:
    loss = Tally.of([2.0, 30.0], [1.0, 9.0])
    assert loss.value == pytest.approx(3.2)
    assert Tally.of([2.0, 30.0], [1.0, 9.0], exponential=True).value == pytest.approx(math.exp(3.2))
    assert math.isfinite(Tally.of([1e9], [1.0], exponential=True).value)
    assert Tally.of([0.0], [0.0]).value == 0.0


def test_wilson_agrees_with_published_values() -> None:
    """Newcombe (Statistics in Medicine 17, 1998, 857-872), table I: 81/263 and 0/20 and 1/29."""
    assert metrics.wilson(_hits(81, 263)) == pytest.approx([0.2553, 0.3662], abs=5e-5)
    assert metrics.wilson(_hits(0, 20)) == pytest.approx([0.0, 0.1611], abs=5e-5)
    assert metrics.wilson(_hits(1, 29)) == pytest.approx([0.0061, 0.1718], abs=5e-5)
    assert metrics.wilson(_hits(20, 20))[1] == 1.0


def test_newcombe_holds_the_difference_and_is_never_certain() -> None:
    first, second = _hits(0, 60), _hits(60, 60)
    low, high = metrics.newcombe_paired(first, second)
    assert 0.88 < low < 0.95
    assert high == 1.0
    same = metrics.newcombe_paired(_hits(30, 60), _hits(30, 60))
    assert same[0] < 0 < same[1] or same == [0.0, 0.0]
    mirrored = metrics.newcombe_paired(second, first)
    assert mirrored == pytest.approx([-high, -low])


def test_rate_intervals_cover_the_truth_nineteen_times_in_twenty() -> None:
    dice = np.random.default_rng(7)
    covered = 0
    for _ in range(400):
        common = dice.random(60) < 0.5  # half the rows are answered alike by both
        first = np.where(common, dice.random(60) < 0.5, dice.random(60) < 0.3)
        second = np.where(common, first, dice.random(60) < 0.6)
        low, high = metrics.newcombe_paired(first.astype(float), second.astype(float))
        covered += low <= 0.15 <= high
    assert covered >= 400 * 0.93


def test_bootstrap_intervals_cover_the_truth_and_repeat() -> None:
    dice = np.random.default_rng(3)
    covered = 0
    for number in range(60):
        tokens = dice.integers(5, 30, 80).astype(float)
        hard = dice.normal(1.0, 0.3, 80)  # a hard row is hard for both
        base, tuned = Tally(tokens * hard, tokens), Tally(tokens * (hard - 0.2 + dice.normal(0, 0.1, 80)), tokens)
        found = metrics.intervals(base, tuned, seed=number)
        assert found == metrics.intervals(base, tuned, seed=number)
        low, high = found["difference"]
        covered += low <= -0.2 <= high
        paired, alone = high - low, found["base"][1] - found["base"][0]
        assert paired < alone / 2, "pairing by row must take out what rows have in common"
    assert covered >= 51


def test_no_field_right_is_not_called_certain() -> None:
    wrong = metrics.Tally.of([0.0] * 60, [4.0] * 60)
    mixed = metrics.Tally.of([3.0, 4.0] * 30, [4.0] * 60)
    found = metrics.intervals(wrong, mixed, seed=1)
    assert found["base"] == pytest.approx(metrics.wilson(np.zeros(60)))
    assert found["base"][1] > 0.05
    assert 0.84 < found["tuned"][0] < 0.875 < found["tuned"][1] < 0.91
    right = metrics.Tally.of([4.0] * 60, [4.0] * 60)
    assert metrics.intervals(right, mixed, seed=1)["base"][0] < 0.95


def test_interval_of_one_is_its_share_of_the_pair() -> None:
    tally = Tally.of([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 2.0, 1.0])
    low, high = metrics.interval(tally, seed=1)
    assert low < tally.value < high
    assert metrics.interval(Tally.of([0.0] * 60), seed=1)[1] > 0.03


def test_many_rows_are_resampled_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    base, tuned = Tally.of([1.5, 2.5, 3.5]), Tally.of([1.0, 2.0, 3.0])
    whole = metrics.intervals(base, tuned, seed=5)
    monkeypatch.setattr(metrics, "_BLOCK", 300)
    assert metrics.intervals(base, tuned, seed=5) == whole


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
    assert metrics.judge(metric, difference) == judged


def _card(loss: list[float], fields: list[float]) -> dict[str, object]:
    return {
        "metrics": {"loss": 1.0, "token_f1": 0.5, "json_field_accuracy": 0.5},
        "base_metrics": {"loss": 1.2, "token_f1": 0.4, "json_field_accuracy": 0.4},
        "intervals": {"loss": {"difference": loss}, "json_field_accuracy": {"difference": fields},
                      "token_f1": {"difference": [9.0, 9.0]}},
    }  # fmt: skip


def test_the_verdict_never_says_better_where_the_interval_holds_zero() -> None:
    said = metrics.verdict(_card([-0.5, 0.1], [-0.1, 0.3]), rows=60, answered=60)
    assert "better" not in said
    assert said.count("No clear difference") == 2
    assert "JSON fields right 0.400 → 0.500 on 60 held-out rows" in said


def test_the_verdict_judges_loss_and_task_apart() -> None:
    said = metrics.verdict(_card([-0.5, -0.1], [-0.3, -0.1]), rows=200, answered=60)
    assert "better: loss 1.200 → 1.000 on 200 held-out rows" in said
    assert "worse: JSON fields right" in said


def test_the_verdict_refuses_to_judge_few_rows() -> None:
    said = metrics.verdict(_card([-0.5, -0.1], [0.1, 0.3]), rows=9, answered=3)
    assert "better" not in said
    assert said.count("Too few rows to judge") == 2


def _hits(yes: int, rows: int) -> metrics.Floats:
    return np.array([1.0] * yes + [0.0] * (rows - yes))
