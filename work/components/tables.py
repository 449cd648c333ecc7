"""Tables: the same look everywhere, a row that can be chosen, and each as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal
from zlib import crc32

import pandas as pd
import streamlit as st

Row = Mapping[str, Any]
_ROW_PIXELS, _FRAME_PIXELS = 35, 38


def show(
    rows: Sequence[Row],
    *,
    key: str,
    columns: Mapping[str, Any] | None = None,
    choose: Literal["single-row", "multi-row"] | None = None,
    file_name: str = "table",
    most_rows: int = 14,
    drawn: Sequence[Row] | None = None,
) -> list[int]:
    """Draw rows (all with the same keys) and a CSV button; the positions of the chosen rows, none where none may be.

    `columns` configures columns by key (`st.column_config`); a key that is absent shows as it is. `drawn` are the same
    rows as people read them, where the file is to have what they stand for.
    """
    frame = pd.DataFrame([{name: _cell(value) for name, value in row.items()} for row in drawn or rows])
    height = _FRAME_PIXELS + _ROW_PIXELS * min(len(rows), most_rows)
    options: dict[str, Any] = {"key": key, "hide_index": True, "column_config": dict(columns or {}), "height": height}
    chosen: list[int] = []
    if choose is None:
        st.dataframe(frame, **options)
    else:
        event = st.dataframe(frame, on_select="rerun", selection_mode=choose, **options)
        chosen = [position for position in event.selection.rows if position < len(rows)]
    csv_button(rows, key=f"{key}_csv", file_name=file_name)
    return chosen


def choose(
    rows: Sequence[Row], identities: Sequence[str], *, key: str, columns: Mapping[str, Any], file_name: str
) -> tuple[list[str], str | None]:
    """Draw rows of which several can be ticked and one be opened by a click on a cell: the ids ticked, the id opened.

    Ticks belong to rows and not to places: when a new row comes on top, they move with theirs.
    """
    ticked: list[str] = st.session_state.setdefault(f"{key}_ticked", [])
    frame = pd.DataFrame([{name: _cell(value) for name, value in row.items()} for row in rows])
    event = st.dataframe(
        frame,
        # Another set of rows is another table; its ticks are those of the rows that stayed.
        key=f"{key}_{crc32(' '.join(identities).encode()):08x}",
        hide_index=True,
        column_config=dict(columns),
        height=_FRAME_PIXELS + _ROW_PIXELS * len(rows),
        on_select="rerun",
        selection_mode=["multi-row", "single-cell"],
        selection_default={"selection": {"rows": [at for at, one in enumerate(identities) if one in ticked]}},
    )
    csv_button(rows, key=f"{key}_csv", file_name=file_name)
    chosen = [identities[place] for place in event.selection.rows if place < len(identities)]
    st.session_state[f"{key}_ticked"] = chosen
    opened = next((identities[place] for place, _ in event.selection.cells if place < len(identities)), None)
    return chosen, opened


def csv_button(rows: Sequence[Row], *, key: str, file_name: str) -> None:
    """The table as a file, with whole numbers and exact times instead of what is easy to read."""
    st.download_button(
        "CSV",
        data=lambda: as_csv(rows),
        file_name=f"{file_name}.csv",
        mime="text/csv",
        key=key,
        icon=":material/download:",
        type="tertiary",
        on_click="ignore",
        help=f"Download these {len(rows):,} rows as CSV",
    )


def as_csv(rows: Sequence[Row]) -> bytes:
    """RFC 4180 with a header; lists are joined by `; `, times are ISO 8601."""
    if not rows:
        return b""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=[*rows[0]], extrasaction="ignore", lineterminator="\r\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _plain(value) for name, value in row.items()})
    return out.getvalue().encode("utf-8")


def moment_column(label: str, hint: str | None = None) -> Any:
    """A relative time; the cell opened shows the exact one."""
    return st.column_config.DatetimeColumn(label, format="distance", help=hint)


def clock(seconds: float | None) -> timedelta | None:
    """A duration for a column of `clock_column`, to the second."""
    return None if seconds is None else timedelta(seconds=round(seconds))


def clock_column(label: str, hint: str | None = None) -> Any:
    """Durations as 01:02:03; they sort by length."""
    return st.column_config.NumberColumn(label, format="compact", help=hint, alignment="right")


def _cell(value: Any) -> Any:
    return pd.Timestamp(value) if isinstance(value, datetime) else value


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    text = "; ".join(map(str, value)) if isinstance(value, list | tuple) else value
    # A spreadsheet takes these for formulas; a quote in front keeps them text.
    return f"'{text}" if isinstance(text, str) and text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
