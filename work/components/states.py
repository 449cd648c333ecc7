"""What a page shows when it cannot show itself: one calm sentence, and it goes on by itself when it can.

Every page runs inside `guarded`. Parts that reach the service on their own (fragments) use it again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from slm_client import (
    ApiError,
    Invalid,
    NotFound,
    NotTheService,
    ServiceUnreachable,
    SlmError,
    Unauthorized,
    Unavailable,
)

import service

_log = logging.getLogger("workbench")
RETRY_SECONDS = 3
UNEXPECTED = "Something went wrong in the workbench itself; its log has the details. The service is not affected."


@contextmanager
def guarded() -> Iterator[None]:
    """Draws the sentence for a refusal or an absent service in place of what could not be drawn."""
    try:
        yield
    except (ServiceUnreachable, Unavailable, NotTheService) as error:
        away(error)
    except SlmError as error:
        refused(error)


def away(error: SlmError) -> None:
    """The service does not answer: say so once, look again every few seconds, and redraw when it is back."""
    st.warning(away_sentence(error), icon=":material/cloud_off:")
    _await_return()


def away_sentence(error: SlmError) -> str:
    """What is the matter, and that nothing needs to be done here."""
    if isinstance(error, NotTheService):
        return f"{error} Check API_BASE_URL in the workbench's settings."
    reason = error.detail if isinstance(error, Unavailable) else f"The service at {service.address()} does not answer."
    return f"{reason} This page goes on by itself when it is back; trainings go on meanwhile."


@st.fragment(run_every=RETRY_SECONDS)
def _await_return() -> None:
    try:
        service.client().health()
    except SlmError:
        return
    # The first look is part of the page that just failed: a rerun now could go round in circles.
    if st.session_state.get("_was_away"):
        del st.session_state["_was_away"]
        st.rerun()
    st.session_state["_was_away"] = True


def refused(error: SlmError) -> None:
    """The service answered, but not with what was asked for."""
    if isinstance(error, NotFound):
        st.info(f"{error.detail}. It may have been deleted.".replace("..", "."), icon=":material/search_off:")
    elif isinstance(error, Unauthorized):
        st.error(error.detail, icon=":material/lock:")
    else:
        st.error(sentence(error), icon=":material/error:")


def sentence(error: SlmError) -> str:
    """A refusal as one sentence; the fields it names follow where the sentence does not already say them."""
    if not isinstance(error, ApiError):
        return str(error)
    if isinstance(error, Invalid) and len(error.errors) > 1:
        return "  \n".join([error.detail, *(f"{item.field}: {item.message}" for item in error.errors[1:])])
    return error.detail


def empty(text: str, *, icon: str = ":material/inbox:") -> None:
    """There is nothing yet, and what to do about it."""
    with st.container(border=True, horizontal_alignment="center", key=None):
        st.markdown(f"{icon} {text}", text_alignment="center")


def loading(lines: int = 3) -> None:
    """A place held for what is on its way."""
    st.skeleton(height=lines * 24)


def calm(error: Exception) -> bool:
    """For what no page foresaw: the visitor reads a sentence, the log gets the trace."""
    _log.error("A page failed", exc_info=error)
    st.error(UNEXPECTED, icon=":material/error:")
    return True
