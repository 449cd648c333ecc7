"""A page at rest asks nothing. It looks again when its visitor comes back from where something may have been started.

While nothing runs there is no polling: what begins elsewhere was begun by someone, on the command line or in another
window, who had to leave this page for it (or was never on it). So the way back is the moment to look, and it costs one
run of the page, where a poll of every five seconds would cost 17,000 a day for each forgotten tab.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from settings import HERE

_mount: Any = st.components.v2.component(
    "slm_returning", html="<span hidden></span>", js=(HERE / "assets" / "returning.js").read_text(encoding="utf-8")
)


def look_again(*, key: str) -> None:
    """Draw the whole page anew whenever its window is looked at again."""
    _mount(key=key, on_back_change=_heard)


def _heard() -> None:
    """Without a listener Streamlit would not redraw the page."""
