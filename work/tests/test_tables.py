"""Every table as CSV: exact, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

from components import badges, tables


def read(rows: list[dict[str, object]]) -> list[dict[str, str]]:
    return [*csv.DictReader(io.StringIO(tables.as_csv(rows).decode()))]


def test_values_come_back_whole() -> None:
    then = datetime(2026, 11, 24, 12, 0, 5, tzinfo=UTC)
    row = {"name": 'He said "no",\nthen', "rows": 12345, "then": then, "tags": ["a", "b"], "none": None}
    assert read([row]) == [
        {
            "name": 'He said "no",\nthen',
            "rows": "12345",
            "then": "2026-11-24T12:00:05+00:00",
            "tags": "a; b",
            "none": "",
        }
    ]


def test_formulas_stay_texts() -> None:
    assert read([{"name": "=HYPERLINK(1)", "loss": -1.5}]) == [{"name": "'=HYPERLINK(1)", "loss": "-1.5"}]


def test_no_rows_are_no_file() -> None:
    assert tables.as_csv([]) == b""


def test_a_status_is_a_word_with_a_mark_everywhere() -> None:
    for name in ("created", "running", "completed", "failed", "cancelled"):
        assert badges.words(name)[0].endswith(name)
        assert name in badges.inline(name)
    assert badges.words("completed", simulated=True)[1] == badges.SIMULATED
    assert badges.SIMULATED in badges.inline("completed", simulated=True)
    assert badges.look("queued") == badges.STATUSES["created"]
    assert badges.look("unheard of").glyph == "?"
