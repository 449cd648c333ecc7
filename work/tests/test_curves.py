"""What is done to curves before they are drawn."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.curves import counted, smooth, thin, without_outliers

values_of = st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=400)


@given(values=values_of, most=st.integers(4, 50))
def test_thinning_keeps_ends_and_extremes(values: list[float], most: int) -> None:
    steps, kept = thin(range(len(values)), values, most)
    assert len(steps) <= max(most, len(values) if len(values) <= most else most)
    assert steps[0] == 0
    assert steps[-1] == len(values) - 1
    assert steps == sorted(set(steps))
    assert max(kept) == max(values)
    assert min(kept) == min(values)
    assert all(values[step] == value for step, value in zip(steps, kept, strict=True))


def test_a_hundred_thousand_points_become_two_thousand() -> None:
    values = [math.sin(step / 900) for step in range(100_000)]
    values[70_001] = 9.0
    steps, kept = thin(range(100_000), values)
    assert len(steps) <= 2000
    assert kept[steps.index(70_001)] == 9.0


@given(values=values_of)
def test_a_smoothed_curve_stays_within_what_was_measured(values: list[float]) -> None:
    course = smooth(values)
    assert len(course) == len(values)
    assert course[0] == pytest.approx(values[0])
    slack = 1e-6 * max(1.0, *map(abs, values))
    assert min(values) - slack <= min(course)
    assert max(course) <= max(values) + slack


def test_smoothing_calms_noise_and_leaves_gaps() -> None:
    noisy = [1.0, -1.0] * 100
    assert abs(smooth(noisy)[-1]) < 0.2
    assert math.isnan(smooth([1.0, math.nan, 1.0])[1])
    assert smooth([1.0, math.nan, 1.0])[2] == pytest.approx(1.0)


def test_outliers_do_not_press_the_rest_flat() -> None:
    low, high = without_outliers([900.0, *[1 + step / 1000 for step in range(500)]]) or (0, 0)
    assert 0 <= low <= 1.02
    assert 1.48 <= high < 2
    assert without_outliers([]) is None
    assert without_outliers([2.0]) == pytest.approx((1.9, 2.1))


def test_a_histogram_says_how_many_rows_a_limit_cuts() -> None:
    lengths = [(1, 10, 5), (11, 20, 10), (21, 30, 5)]
    assert counted(lengths, 20) == (15, 5)
    assert counted(lengths, 15) == (10, 10)
    assert counted(lengths, 500) == (20, 0)
