"""Numbers, sizes and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from components import words

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("number", "noun", "shown"),
    [(1, "row", "1 row"), (0, "row", "0 rows"), (12345, "row", "12,345 rows"), (2, "entry", "2 entries"),
     (2, "day", "2 days"), (7, "", "7"), (None, "row", "–")],
)  # fmt: skip
def test_counts_carry_their_noun(number: float | None, noun: str, shown: str) -> None:
    assert words.count(number, noun) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (69164, "69.2 KB"), (999_949, "1.0 MB"), (92_871_040, "92.9 MB"),
     (270_000_000, "270 MB"), (5 * 1024**3, "5.4 GB"), (3e15, "3000 TB"), (None, "–")],
)  # fmt: skip
def test_sizes_have_the_unit_that_fits(number: float | None, shown: str) -> None:
    assert words.size(number) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [(134_515_008, "135 M"), (1_100_000_000, "1.1 B"), (22_700_000, "22.7 M"), (3_000, "3 K"), (0, "–")],
)  # fmt: skip
def test_parameters_are_rounded(number: int, shown: str) -> None:
    assert words.parameters(number) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.8412, "0.841"), (1.84, "1.84"), (2.0, "2"), (1234.5, "1,234"), (0.0002, "0.0002"), (2e-5, "2.00e-05"),
     (0.0, "0"), (-0.25, "-0.25"), (float("nan"), "–"), (None, "–")],
)  # fmt: skip
def test_numbers_keep_three_digits(value: float | None, shown: str) -> None:
    assert words.number(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.42, "0.4 s"), (59.4, "59 s"), (123, "2 min 03 s"), (3599, "59 min 59 s"), (3840, "1 h 04 min"),
     (90_000, "1 d 1 h"), (-1, "–"), (None, "–")],
)  # fmt: skip
def test_durations_have_two_units(seconds: float | None, shown: str) -> None:
    assert words.duration(seconds) == shown


@pytest.mark.parametrize(
    ("before", "shown"),
    [(timedelta(seconds=10), "just now"), (timedelta(seconds=50), "1 min ago"), (timedelta(minutes=59), "59 min ago"),
     (timedelta(minutes=90), "2 h ago"), (timedelta(hours=30), "1 d ago"), (timedelta(days=60), "25 Sep 2026")],
)  # fmt: skip
def test_times_are_relative(before: timedelta, shown: str) -> None:
    assert words.ago(NOON - before, NOON) == shown


def test_a_moment_shows_the_exact_time_on_hover() -> None:
    html = words.moment(NOON - timedelta(minutes=5), NOON)
    assert 'title="2026-11-24 11:55:00 UTC"' in html
    assert html.endswith(">5 min ago</time>")


def test_texts_of_users_stay_texts() -> None:
    assert words.plain("**bold** [x](y) :red[z]") == r"\*\*bold\*\* \[x\]\(y\) \:red\[z\]"
    assert words.plain("two\nlines") == "two lines"
    assert words.escaped("<b>") == "&lt;b&gt;"
    assert words.percent(0.123, 1) == "12.3 %"
