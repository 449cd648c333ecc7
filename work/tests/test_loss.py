"""What of the losses reaches the browser: never more than 2,000 points, outliers named, nothing invented."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import loss
from components.curves import MOST_POINTS
from components.history import Column
from components.loss import COURSE, MEASURED, VALIDATION, Series


def falling(points: int, *, outlier: float | None = None) -> Column:
    values = [2 * math.exp(-3 * at / points) + 0.1 for at in range(points)]
    if outlier is not None:
        values[points // 2] = outlier
    return Column([*range(1, points + 1)], values)


@pytest.mark.parametrize("runs", [1, 2, 6])
@pytest.mark.parametrize("points", [3, 900, 20_000])
def test_all_curves_together_stay_within_what_a_browser_draws(runs: int, points: int) -> None:
    series = [Series(f"run {at}", kind, falling(points)) for at in range(runs) for kind in ("training", "validation")]
    drawn = loss.picture(series, log=False)
    assert len(drawn.points) <= MOST_POINTS
    assert {(name, part) for name, part, _, _ in drawn.points} == {
        (f"run {at}", part) for at in range(runs) for part in (MEASURED, COURSE, VALIDATION)
    }
    last = max(step for _, _, step, _ in drawn.points)
    assert last == points


@given(st.lists(st.floats(), min_size=1, max_size=60), st.booleans())
def test_only_what_can_be_drawn_is_sent(values: list[float], log: bool) -> None:
    series = [Series("training", "training", Column([*range(len(values))], values))]
    drawn = loss.picture(series, log=log)
    assert all(math.isfinite(value) and (value > 0 or not log) for _, _, _, value in drawn.points)
    assert 0 <= drawn.outside <= len(values)


def test_outliers_are_left_out_only_where_they_press_the_rest_flat_and_are_counted() -> None:
    calm = loss.picture([Series("training", "training", falling(300))], log=False)
    assert calm.shown is None
    assert calm.note == ""
    wild = loss.picture([Series("training", "training", falling(300, outlier=400.0))], log=False)
    assert wild.shown is not None
    assert wild.shown[1] < 5
    assert wild.outside == 1
    assert wild.note.startswith("1 outlier outside 0")
    assert any(value == 400.0 for _, _, _, value in wild.points)
    log = loss.picture([Series("training", "training", falling(300, outlier=400.0))], log=True)
    assert log.shown is None


def test_unsmoothed_shows_what_was_measured_alone() -> None:
    drawn = loss.picture([Series("training", "training", falling(50))], log=False, smoothed=False)
    assert [point[3] for point in drawn.points] == falling(50).values
    assert {point[1] for point in drawn.points} == {COURSE}
    many = loss.picture([Series("training", "training", falling(50))], log=False, faint=False)
    assert {point[1] for point in many.points} == {COURSE}


def test_short_curves_are_smoothed_less() -> None:
    weights = [loss.weight_for(points) for points in (1, 20, 200, 100_000)]
    assert weights == sorted(weights)
    assert weights[1] == 0.5
    assert weights[-1] == 0.97


def test_the_chart_is_made_of_the_points_and_says_what_it_shows() -> None:
    drawn = loss.picture([Series("training", "training", falling(30))], log=False)
    made = loss.specification(log=False, names=("training",), shown=drawn.shown, height=320)
    assert len(made["layer"]) == 3
    assert "data" not in made
    assert made is loss.specification(log=False, names=("training",), shown=None, height=320)
    text = loss.described({"training": falling(30)})
    assert text == "Line chart: training loss from 2.1 at step 1 to 0.21 at step 30."
    assert loss.described({}) == "An empty line chart."
    assert loss.picture([], log=False).points == []
