"""The pages' names and addresses, links between them, and what the address bar keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import streamlit as st

from components import words
from components.states import guarded
from settings import HERE


class Entry(NamedTuple):
    title: str
    icon: str
    listed: bool = True


ENTRIES: dict[str, Entry] = {
    "home": Entry("Home", ":material/home:"),
    "datasets": Entry("Datasets", ":material/table_rows:"),
    "train": Entry("Train", ":material/model_training:"),
    "runs": Entry("Runs", ":material/monitoring:"),
    "run": Entry("Run", ":material/timeline:", listed=False),
    "compare": Entry("Compare", ":material/compare_arrows:", listed=False),
    "evaluations": Entry("Evaluations", ":material/scoreboard:"),
    "models": Entry("Models", ":material/deployed_code:"),
    "system": Entry("System", ":material/memory:"),
}
_LOOKED_AT = ("id", "ids", "run")
"""What of an address says which thing a page shows."""
_made: dict[str, Any] = {}


def make(views: dict[str, Callable[[], None]], *, opened: str = "home") -> list[Any]:
    """Streamlit's pages, in the order of `ENTRIES`; `opened` is the one at the bare address."""
    _made.clear()
    for name, entry in ENTRIES.items():
        _made[name] = st.Page(
            _drawn(name, views[name]),
            title=entry.title,
            icon=entry.icon,
            url_path=name,
            default=name == opened,
            visibility="visible" if entry.listed else "hidden",
        )
    return [*_made.values()]


def _drawn(name: str, show: Callable[[], None]) -> Callable[[], None]:
    def draw() -> None:
        with ExitStack() as waiting, guarded():
            with st.container(key="asking"):
                # Shows itself only where the answer takes more than a blink, in a corner, so that nothing jumps.
                waiting.enter_context(st.spinner("Asking the service …"))
            show()

    draw.__name__ = name
    return draw


def link(
    page: str, label: str | None = None, *, icon: str | None = None, hint: str | None = None, **state: str
) -> None:
    """A link to another page in the state that the parameters say: `link("run", "Tickets", id=…)`."""
    st.page_link(_made[page], label=label, icon=icon, help=hint, query_params=state or None)


def header(title: str, *, lead: str = "", crumbs: Sequence[tuple[str, dict[str, str]]] = ()) -> None:
    """The breadcrumbs, the title, and a sentence on what this page is for. `crumbs` are (page, its parameters)."""
    if crumbs:
        with st.container(horizontal=True, gap="xsmall", key="crumbs"):
            for page, state in crumbs:
                link(page, ENTRIES[page].title, icon=":material/chevron_left:", **state)
    st.title(words.plain(title), anchor=False)
    if lead:
        st.caption(lead)


def param(name: str, default: str = "") -> str:
    """What the address says, which survives a refresh and can be shared."""
    return str(st.query_params.get(name, default))


def remember(**state: str | None) -> None:
    """Write into the address; None or an empty text takes it out."""
    for name, value in state.items():
        if value:
            if st.query_params.get(name) != value:
                st.query_params[name] = value
        elif name in st.query_params:
            del st.query_params[name]


def pick(
    label: str,
    options: Mapping[str, str],
    *,
    name: str,
    optional: bool = False,
    hint: str | None = None,
    nothing: str = "Choose one",
) -> str | None:
    """A select box over ids that shows names, whose choice stands in the address under `name`.

    A link to this page wins over what was chosen before it. With `optional` nothing may be chosen, which is called
    `nothing`.
    """
    key, seen = f"pick_{name}", f"_seen_{name}"
    asked = param(name)
    if st.session_state.get(seen) != asked:
        st.session_state[seen] = asked
        st.session_state.pop(key, None)
    identities = [*options]
    index = identities.index(asked) if asked in options else None if optional else 0
    chosen = st.selectbox(
        label, identities, index=index, format_func=lambda identity: options[identity], key=key, help=hint,
        placeholder=nothing,
    )  # fmt: skip
    if chosen != asked:
        st.session_state[seen] = chosen or ""
        remember(**{name: chosen})
    return chosen


def dress() -> None:
    """The style sheet, the icon, the frame around every page. Called once in each run of the script."""
    _tell_address()
    st.set_page_config(
        page_title="SLM Workbench", page_icon=str(HERE / "assets" / "icon.png"), layout="wide", menu_items={}
    )
    st.html(HERE / "assets" / "style.css")
    colours = {"--wb-primary": "primaryColor", "--wb-on-primary": "backgroundColor"}
    st.html(f"<style>:root {{ {'; '.join(f'{name}: {_option(key)}' for name, key in colours.items())} }}</style>")
    st.logo(HERE / "assets" / "icon.png", size="large")


def _tell_address() -> None:
    """Have the address bar follow a link from a page to itself, which Streamlit draws without writing the address.

    Only where what is looked at has changed: a browser that is typing is ahead of what the server knows.
    """
    looked_at = [st.query_params.get(name) for name in _LOOKED_AT]
    if st.session_state.get("_looked_at", looked_at) != looked_at:
        st.query_params.update({})
    st.session_state["_looked_at"] = looked_at


def _option(name: str) -> str:
    """A colour of the theme that the visitor looks at."""
    return str(st.get_option(f"theme.{'dark' if st.context.theme.type == 'dark' else 'light'}.{name}"))
