"""The upload form: the browser sends the file straight through `/api` to the service, so no size matters here."""

from __future__ import annotations

from typing import Any

import streamlit as st

from settings import HERE

_NAME = "slm_upload"


def _part(ending: str) -> str:
    return (HERE / "assets" / f"upload.{ending}").read_text(encoding="utf-8")


_mount: Any = st.components.v2.component(_NAME, html=_part("html"), css=_part("css"), js=_part("js"))


def form(*, key: str) -> str | None:
    """Draw it; the id of a dataset in the very run of the page that follows its upload, else None."""
    result = _mount(key=key, on_uploaded_change=_heard)
    uploaded = result.get("uploaded")
    return str(uploaded) if uploaded else None


def _heard() -> None:
    """Without a listener Streamlit would not redraw the page."""
