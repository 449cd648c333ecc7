"""The five statuses and SIMULATED, the same everywhere: an icon, a word, a colour; never colour alone."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import streamlit as st

Colour = Literal["blue", "green", "red", "orange", "gray", "violet"]


class Look(NamedTuple):
    icon: str
    colour: Colour
    glyph: str
    """For tables, which draw text alone."""
    hint: str


STATUSES: dict[str, Look] = {
    "created": Look(":material/schedule:", "violet", "◷", "waits for its turn"),
    "running": Look(":material/play_circle:", "blue", "▶", "works now"),
    "completed": Look(":material/check_circle:", "green", "✓", "ended well"),
    "failed": Look(":material/error:", "red", "✕", "ended with an error"),
    "cancelled": Look(":material/block:", "gray", "⊘", "was stopped"),
}
_RUN_STATES = {"queued": "created", "starting": "running", "pulling": "running", "interrupted": "created"}
SIMULATED = "SIMULATED"
SIMULATED_HINT = "Made-up numbers: nothing was trained, and there are no weights."


def look(status: str) -> Look:
    """Of an experiment's status or a run's state."""
    return STATUSES.get(_RUN_STATES.get(status, status), Look(":material/help:", "gray", "?", "not known here"))


def status(name: str, *, simulated: bool = False) -> None:
    """Draw a status, and SIMULATED beside it where numbers are made up."""
    with st.container(horizontal=True, gap="xsmall", width="content"):
        st.badge(name, icon=look(name).icon, color=look(name).colour, help=f"{name}: {look(name).hint}")
        if simulated:
            st.badge(SIMULATED, icon=":material/science:", color="orange", help=SIMULATED_HINT)


def inline(name: str, *, simulated: bool = False) -> str:
    """The same as Markdown, to stand in a line of text."""
    shown = look(name)
    text = f":{shown.colour}-badge[{shown.icon} {name}]"
    return f"{text} :orange-badge[:material/science: {SIMULATED}]" if simulated else text


def words(name: str, *, simulated: bool = False) -> list[str]:
    """The same for a table's cell drawn by `column`."""
    return [f"{look(name).glyph} {name}", *([SIMULATED] if simulated else [])]


def column(label: str = "Status") -> Any:
    """The column configuration that draws cells made by `words` as coloured labels."""
    options = {f"{shown.glyph} {name}": shown.colour for name, shown in STATUSES.items()} | {SIMULATED: "orange"}
    return st.column_config.MultiselectColumn(label, options=[*options], color=[*options.values()])
