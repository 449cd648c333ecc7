"""The picture of losses: what was measured faint, its smoothed course on top, validation as points on a line.

Whatever a run's length, at most `MOST_POINTS` points of all curves together reach the browser.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from components import charts, words
from components.curves import MOST_POINTS, smooth, thin, without_outliers
from components.history import Column

MEASURED, COURSE, VALIDATION = "measured", "smoothed", "validation"
_PARTS = {"training": (MEASURED, COURSE), "validation": (VALIDATION,)}
_FLATTENED = 3.0
"""Outliers are left out only where they would press all the rest into less than a third of the height."""
_Point = tuple[str, str, int, float]


@dataclass(frozen=True)
class Series:
    """A curve to draw: whose it is (`name`) and which (`training`, `validation`)."""

    name: str
    kind: str
    column: Column


@dataclass(frozen=True)
class Picture:
    """What is drawn: points, the range of the losses (None shows all), and how many measured points lie outside."""

    points: Sequence[_Point]
    shown: tuple[float, float] | None
    outside: int

    @property
    def note(self) -> str:
        """What the picture leaves out, in words; empty where it shows all."""
        if not self.outside or self.shown is None:
            return ""
        low, high = map(words.number, self.shown)
        return (
            f"{words.count(self.outside, 'outlier')} outside {low} to {high} not drawn; the logarithmic scale has all."
        )


def weight_for(points: int) -> float:
    """How strongly a curve of so many points is smoothed: a mean over about a twentieth of it."""
    return min(0.97, 1 - 1 / (1 + points / 20))


def picture(series: Sequence[Series], *, log: bool, smoothed: bool = True, faint: bool = True) -> Picture:
    """The points to draw, thinned so that all together stay within `MOST_POINTS`.

    Smoothed curves have the measured ones `faint` behind them, unless there are too many to tell apart.
    """
    drawn = [one for one in series if one.column.steps]
    parts = sum(len(_PARTS[one.kind]) for one in drawn) or 1
    faint = faint and smoothed
    points = [
        point for one in drawn for point in _points(one, most=MOST_POINTS // parts, smoothed=smoothed, faint=faint)
    ]
    points = [point for point in points if math.isfinite(point[3]) and not (log and point[3] <= 0)]
    shown = None if log else _range([value for one in drawn for value in one.column.values if math.isfinite(value)])
    low, high = shown or (-math.inf, math.inf)
    outside = sum(
        not low <= value <= high for one in drawn for value in one.column.values if math.isfinite(value) and shown
    )
    return Picture(points, shown, outside)


def _points(series: Series, *, most: int, smoothed: bool, faint: bool) -> list[_Point]:
    steps, values = series.column.steps, series.column.values
    if series.kind == "validation":
        return [(series.name, VALIDATION, *point) for point in zip(*thin(steps, values, most), strict=True)]
    course = smooth(values, weight_for(len(values))) if smoothed else values
    measured = zip(*thin(steps, values, most), strict=True) if faint else ()
    return [
        *((series.name, MEASURED, *point) for point in measured),
        *((series.name, COURSE, *point) for point in zip(*thin(steps, course, most), strict=True)),
    ]


def _range(values: Sequence[float]) -> tuple[float, float] | None:
    usual = without_outliers(values)
    if usual is None:
        return None
    span = usual[1] - usual[0]
    if max(values) - min(values) <= _FLATTENED * span:
        return None
    # What lies a little outside the usual range is no outlier: a curve's beginning is always high.
    inside = [value for value in values if usual[0] - span / 2 <= value <= usual[1] + span / 2]
    air = 0.05 * (max(inside) - min(inside)) or span / 2
    low = max(min(inside) - air, 0.0) if min(inside) >= 0 else min(inside) - air
    return _rounded(low, max(inside) + air)


def _rounded(low: float, high: float) -> tuple[float, float]:
    """Outwards to a twentieth of the range or less: an axis that does not move at every step."""
    unit = 10.0 ** math.floor(math.log10((high - low) / 2))
    unit = unit / 5 if (high - low) / unit < 10 else unit
    return math.floor(low / unit) * unit, math.ceil(high / unit) * unit


@lru_cache(maxsize=32)
def specification(
    *, log: bool, names: tuple[str, ...], shown: tuple[float, float] | None, height: int
) -> dict[str, Any]:
    """The chart of one run (`names` are training and validation) or of several, each in its colour, without its points.

    Altair takes fifty times as long to check a chart as points take to be sent, and a watched run is drawn every other
    second: what does not change is made once.
    """
    scale = alt.Scale(type="log") if log else alt.Scale(zero=False, domain=shown or alt.Undefined, nice=shown is None)
    base = alt.Chart().encode(
        x=alt.X("step:Q", title="Step", axis=alt.Axis(format=",d", tickMinStep=1)),
        y=alt.Y("loss:Q", title="Loss", scale=scale),
        color=alt.Color(
            "curve:N",
            title=None,
            scale=alt.Scale(domain=[*names], range=[*charts.PALETTE[: len(names)]]),
            legend=alt.Legend(orient="top", labelLimit=260, symbolType="stroke", symbolStrokeWidth=3, symbolOpacity=1),
        ),
        tooltip=[
            alt.Tooltip("curve:N", title="Curve"),
            alt.Tooltip("part:N", title="What"),
            alt.Tooltip("step:Q", title="Step", format=",d"),
            alt.Tooltip("loss:Q", title="Loss", format=".4~g"),
        ],
    )
    part = alt.datum.part
    faint = base.transform_filter(part == MEASURED).mark_line(opacity=0.3, strokeWidth=1, clip=True)
    course = base.transform_filter(part == COURSE).mark_line(strokeWidth=2.2, clip=True)
    held_out = base.transform_filter(part == VALIDATION).mark_line(
        strokeWidth=1.8,
        strokeDash=[5, 3] if _several(names) else alt.Undefined,
        point=alt.OverlayMarkDef(size=36, filled=True),
        clip=True,
    )
    made: dict[str, Any] = alt.layer(faint, course, held_out).properties(height=height).to_dict()
    return made


def _several(names: Sequence[str]) -> bool:
    return [*names] != ["training", "validation"]


def draw(drawn: Picture, *, log: bool, names: Sequence[str], alt_text: str, height: int = 320) -> None:
    """Draw the chart; `alt_text` is what a screen reader says of it."""
    made = specification(log=log, names=tuple(names), shown=drawn.shown, height=height)
    frame = pd.DataFrame(drawn.points, columns=["curve", "part", "step", "loss"])
    with st.container(key="losses"):
        st.vega_lite_chart(frame, {**made, "description": alt_text})


def switches() -> tuple[str, bool]:
    """Scale (`linear`, `log`) and smoothing, as the address has them."""
    scale = st.segmented_control(
        "Scale of the losses", ("linear", "log"), default="linear", required=True, key="scale", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    smoothed = st.toggle("Smoothed", value=True, key="smooth", bind="query-params")
    return str(scale), bool(smoothed)


def described(columns: dict[str, Column]) -> str:
    """What a screen reader says of the picture."""
    parts = [
        f"{name} loss from {words.number(column.values[0])} at step {column.steps[0]:,} "
        f"to {words.number(column.values[-1])} at step {column.steps[-1]:,}"
        for name, column in columns.items()
        if column.steps
    ]
    return f"Line chart: {'; '.join(parts)}." if parts else "An empty line chart."
