"""Short facts side by side: a name above, a value below, as a list that screen readers know as one."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from components import words


def show(facts: Mapping[str, str | None], *, hints: Mapping[str, str] | None = None) -> None:
    """Draw what is known; the values are HTML made by `words` (escape what users wrote), None is left out."""
    st.html(as_html(facts, hints=hints))


def as_html(facts: Mapping[str, str | None], *, hints: Mapping[str, str] | None = None) -> str:
    parts = []
    for name, value in facts.items():
        if value is not None:
            hint = (hints or {}).get(name)
            title = f' title="{words.escaped(hint)}"' if hint else ""
            parts.append(f"<div{title}><dt>{words.escaped(name)}</dt><dd>{value}</dd></div>")
    return f'<dl class="facts">{"".join(parts)}</dl>'
