"""Parts of a page that look again while something runs, and stop when it has ended."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from components.states import guarded

EVERY = 2.0
"""Seconds between two looks."""


def part(draw: Callable[[], None]) -> None:
    """Draw a part that widgets inside it redraw alone; a refusal there is its own sentence, not the page's end."""

    @st.fragment
    def guarded_part() -> None:
        with guarded():
            draw()

    guarded_part()


def watch(draw: Callable[[], bool], *, active: bool, every: float = EVERY) -> None:
    """Draw a part now and, while `active`, every few seconds again.

    `draw` says whether it is still active. When that ends, the whole page is drawn once more, without a timer; when
    it begins (someone else started a run), the next visit or rerun of the page sees it.
    """

    @st.fragment(run_every=every if active else None)
    def look() -> None:
        still = active
        with guarded():
            still = draw()
        if active and not still:
            st.rerun()

    look()
