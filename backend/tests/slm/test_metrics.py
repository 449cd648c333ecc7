"""Ratios over rows, macro F1, and intervals against published and simulated truth."""

from __future__ import annotations

import math

import numpy as np
import pytest

from slm import metrics
from slm.metrics import MacroF1, Tally


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


def _hits(yes: int, rows: int) -> metrics.Floats:
    return np.array([1.0] * yes + [0.0] * (rows - yes))


def test_macro_f1_is_scikit_learns() -> None:
    from sklearn.metrics import f1_score

    dice = np.random.default_rng(5)
    for labels in (2, 3, 7):
        truth = [str(number) for number in dice.integers(0, labels, 50)]
        given = [str(number) for number in dice.integers(0, labels + 1, 50)]  # one label is nobody's
        expected = f1_score(truth, given, average="macro", zero_division=0)
        assert MacroF1.of(truth, given).value == pytest.approx(expected)


def test_macro_f1_is_counted_anew_for_each_resample() -> None:
    from sklearn.metrics import f1_score

    truth, given = list("aabbbccccd"), list("abbbacccdd")
    picks = np.random.default_rng(1).integers(0, 10, size=(40, 10))
    found = MacroF1.of(truth, given).resampled(picks)
    for line, value in zip(picks, found, strict=True):
        expected = f1_score([truth[at] for at in line], [given[at] for at in line], average="macro", zero_division=0)
        assert value == pytest.approx(expected)


def test_macro_f1_of_some_rows() -> None:
    metric = MacroF1.of(list("aabb"), list("abbb"))
    assert metric.of_rows(np.array([0, 2, 3])).value == 1.0
    assert metric.rows == 4
    assert not metric.is_rate


def test_macro_f1_intervals_are_paired_and_never_certain() -> None:
    truth = list("ab") * 30
    right, wrong = MacroF1.of(truth, truth), MacroF1.of(truth, list("ba") * 30)
    found = metrics.intervals(wrong, right, seed=1)
    assert found["base"][1] > 0.03
    assert found["tuned"][0] < 0.97
    assert 0.88 < found["difference"][0] < 1
    half = MacroF1.of(truth, list("aa") * 30)
    low, high = metrics.intervals(half, half, seed=1)["difference"]
    assert (low, high) == (0.0, 0.0)  # the very same answers
    assert metrics.intervals(half, half, seed=1) == metrics.intervals(half, half, seed=1)


def test_a_metric_of_some_rows_is_that_of_those_rows_alone() -> None:
    whole = Tally.of([1.0, 5.0, 9.0], [1.0, 2.0, 3.0], exponential=True)
    assert whole.of_rows(np.array([0, 2])).value == Tally.of([1.0, 9.0], [1.0, 3.0], exponential=True).value
    assert whole.of_rows(np.array([2])).rows == 1


def test_each_metric_has_a_sentence_that_says_what_it_is() -> None:
    assert all(note.endswith(".") and len(note) > 30 for note in metrics.METRIC_NOTES.values())
    assert set(metrics.METRIC_NOTES) >= metrics.LOWER_IS_BETTER
