"""What tests of pages say: `Open` opens one, `text_of` reads it."""

from __future__ import annotations

from collections.abc import Callable

from streamlit.testing.v1 import AppTest

Open = Callable[..., AppTest]


def text_of(page: AppTest) -> str:
    """Every word on the page, in order of kind: what a person could read."""
    kinds = ("title", "header", "subheader", "markdown", "caption", "info", "warning", "error", "success", "metric")
    parts = [str(element.value) for kind in kinds for element in page.get(kind)]
    parts += [str(element.label) for kind in ("button", "metric", "expander") for element in page.get(kind)]
    parts += [element.proto.body for element in page.get("html")]
    parts += [element.proto.label for element in page.get("page_link")]
    return "\n".join(parts)


def links(page: AppTest) -> dict[str, str]:
    """Label → query of every link to a page."""
    return {one.proto.label: one.proto.query_string for one in page.get("page_link")}
