"""A row as it stands in the file beside the example that a model sees: HTML, made by pure functions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from slm_client import Row

from components.words import escaped

_SPEAKERS = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}
_SHOWN = 4000
"""Characters of one value; a page of rows must stay light."""


def cards(rows: Sequence[Row]) -> str:
    """Each row as a card of two halves: as in the file, as an example or why it becomes none."""
    return f'<div class="rows">{"".join(map(_card, rows))}</div>'


def _card(row: Row) -> str:
    if row.fault is not None:
        right = f'<p class="fault">{escaped(row.fault)}</p>'
    elif row.example is None:
        right = '<p class="quiet">No example yet: the columns need a mapping.</p>'
    else:
        right = as_example(row.example)
    left = "".join(_field(name, value) for name, value in row.values.items()) or '<p class="quiet">empty</p>'
    state = " broken" if row.fault is not None else ""
    return (
        f'<section class="row{state}" aria-label="Line {row.line}">'
        f"<div><h3>Line {row.line}, as in the file</h3>{left}</div>"
        f"<div><h3>As an example</h3>{right}</div></section>"
    )


def as_example(example: Mapping[str, Any]) -> str:
    """Turns of a conversation as turns, answers to compare marked, everything else by name."""
    return "".join(_part(name, value) for name, value in example.items() if value not in (None, "", []))


def _part(name: str, value: Any) -> str:
    if isinstance(value, list) and all(isinstance(turn, Mapping) and "role" in turn for turn in value):
        return "".join(_turn(str(turn["role"]), turn.get("content", "")) for turn in value)
    return _turn(name, value)


def _turn(who: str, what: Any) -> str:
    name = _SPEAKERS.get(who, who.capitalize())
    return f'<div class="turn {escaped(who)}"><span class="who">{escaped(name)}</span><p>{_text(what)}</p></div>'


def _field(name: str, value: Any) -> str:
    return f'<div class="field"><span class="who">{escaped(name)}</span><p>{_text(value)}</p></div>'


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > _SHOWN:
        return f"{escaped(text[:_SHOWN])}<em> … {len(text) - _SHOWN:,} more characters</em>"
    return escaped(text) if text.strip() else '<em class="quiet">empty</em>'
