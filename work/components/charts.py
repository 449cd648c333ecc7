"""Charts in Altair, readable in light and in dark: Streamlit's theme gives text and lines, the palette the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import streamlit as st

from components.curves import smooth, thin, without_outliers

# Each stands out on white and on near-black (contrast of 3 to 1 or more on both).
PALETTE = ("#5b7cf0", "#d07a12", "#1f9d78", "#c2558f", "#8a6fd1", "#7b8794")
BASE, TUNED, BASELINE = PALETTE[5], PALETTE[0], PALETTE[1]
LEARNED, MUTED, ALARM = PALETTE[2], PALETTE[5], "#d9534f"
Points = tuple[Sequence[int], Sequence[float]]
_FAR = 1.5


def draw(chart: Any, *, key: str | None = None, alt_text: str = "") -> None:
    """Draw with the page's theme; `alt_text` says to a screen reader what the picture shows."""
    st.altair_chart(chart.properties(description=alt_text) if alt_text else chart, theme="streamlit", key=key)


def is_dark() -> bool:
    """Whether the visitor looks at a dark page."""
    return bool(st.context.theme.type == "dark")


def lines(
    curves: Mapping[str, Points],
    *,
    y_title: str = "Loss",
    log: bool = False,
    smoothing: float = 0.9,
    clip: bool = True,
    height: int = 320,
) -> Any:
    """Curves by name over steps: what was measured faint, its smoothed course on top.

    At most 2,000 points a curve reach the browser. `clip` leaves out of the picture (not of the data) what would
    press all the rest flat.
    """
    rows: list[dict[str, Any]] = []
    for name, (steps, values) in curves.items():
        course = smooth(values, smoothing) if smoothing > 0 else values
        measured = dict(zip(*thin(steps, values), strict=True))
        smoothed = dict(zip(*thin(steps, course), strict=True))
        rows += [{"step": step, "value": value, "curve": name, "part": "measured"} for step, value in measured.items()]
        rows += [{"step": step, "value": value, "curve": name, "part": "course"} for step, value in smoothed.items()]
    rows = [row for row in rows if math.isfinite(row["value"]) and not (log and row["value"] <= 0)]
    shown = without_outliers([row["value"] for row in rows]) if clip and not log else None
    scale = alt.Scale(type="log") if log else alt.Scale(zero=False, nice=shown is None, **_domain(shown))
    colour = alt.Color("curve:N", title=None, sort=[*curves], scale=alt.Scale(range=[*PALETTE]))
    base = alt.Chart(_rows(rows)).encode(
        x=alt.X("step:Q", title="Step", axis=alt.Axis(format=",d", tickMinStep=1)),
        y=alt.Y("value:Q", title=y_title, scale=scale),
        color=colour,
        tooltip=[
            alt.Tooltip("curve:N", title="Curve"),
            alt.Tooltip("step:Q", title="Step", format=",d"),
            alt.Tooltip("value:Q", title=y_title, format=".4~g"),
        ],
    )
    faint = base.transform_filter(alt.datum.part == "measured").mark_line(opacity=0.28, strokeWidth=1, clip=True)
    course = base.transform_filter(alt.datum.part == "course").mark_line(strokeWidth=2.2, clip=True)
    return (faint + course).properties(height=height)


def _rows(values: Sequence[Mapping[str, Any]]) -> Any:
    return alt.InlineData(values=[*values])


def _domain(shown: tuple[float, float] | None) -> dict[str, Any]:
    return {} if shown is None else {"domain": [*shown]}


def histogram(buckets: Sequence[Mapping[str, Any]], *, limit: int | None = None, height: int = 200) -> Any:
    """Rows by length: `buckets` have `from`, `to` and `count`; what lies beyond `limit` is drawn in another colour.

    A limit far beyond the longest row is left out: it would press all bars into a corner.
    """
    longest = max((bucket["to"] for bucket in buckets), default=0)
    if limit is not None and limit > _FAR * longest:
        limit = None
    rows = [
        {"start": bucket["from"], "end": bucket["to"] + 1, "rows": bucket["count"], "fits": _fits(bucket, limit)}
        for bucket in buckets
    ]
    bars = (
        alt.Chart(_rows(rows))
        .mark_bar(binSpacing=1)
        .encode(
            x=alt.X("start:Q", bin="binned", title="Tokens", axis=alt.Axis(format=",d"), scale=alt.Scale(zero=False)),
            x2="end:Q",
            y=alt.Y("rows:Q", title="Rows", axis=alt.Axis(format=",d", tickMinStep=1)),
            color=alt.Color(
                "fits:N",
                title=None,
                scale=alt.Scale(domain=["whole", "cut"], range=[PALETTE[0], ALARM]),
                legend=None if limit is None else alt.Legend(orient="top"),
            ),
            tooltip=[
                alt.Tooltip("start:Q", title="From", format=",d"),
                alt.Tooltip("end:Q", title="To below", format=",d"),
                alt.Tooltip("rows:Q", title="Rows", format=",d"),
            ],
        )
    )
    if limit is None:
        return bars.properties(height=height)
    rule = alt.Chart(_rows([{"limit": limit}])).mark_rule(color=ALARM, strokeDash=[5, 4], strokeWidth=2)
    return (bars + rule.encode(x="limit:Q")).properties(height=height)


def _fits(bucket: Mapping[str, Any], limit: int | None) -> str:
    return "whole" if limit is None or bucket["from"] <= limit else "cut"


def bars(shares: Mapping[str, float], *, title: str, height: int | None = None) -> Any:
    """Counts by name, the largest first."""
    rows = [{"name": name, "count": value} for name, value in shares.items()]
    return (
        alt.Chart(_rows(rows))
        .mark_bar(color=PALETTE[0], cornerRadiusEnd=3)
        .encode(
            y=alt.Y("name:N", sort="-x", title=None, axis=alt.Axis(labelLimit=220)),
            x=alt.X("count:Q", title=title, axis=alt.Axis(format=",d", tickMinStep=1)),
            tooltip=[alt.Tooltip("name:N", title="Name"), alt.Tooltip("count:Q", title=title, format=",d")],
        )
        .properties(height=height or max(60, 26 * len(rows) + 30))
    )
