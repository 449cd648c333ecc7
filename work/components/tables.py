"""Tables: the same look everywhere, a row that can be chosen, and each as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

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
) -> list[int]:
    """Draw rows (all with the same keys) and a CSV button; the positions of the chosen rows, none where none may be.

    `columns` configures columns by key (`st.column_config`); a key that is absent shows as it is.
    """
    frame = pd.DataFrame([{name: _cell(value) for name, value in row.items()} for row in rows])
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


def _cell(value: Any) -> Any:
    return pd.Timestamp(value) if isinstance(value, datetime) else value


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    text = "; ".join(map(str, value)) if isinstance(value, list | tuple) else value
    # A spreadsheet takes these for formulas; a quote in front keeps them text.
    return f"'{text}" if isinstance(text, str) and text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
