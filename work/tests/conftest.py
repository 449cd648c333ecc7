"""A recorded service behind `slm_client`, and pages opened in Streamlit's own test harness."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

import service
from components.pages import ENTRIES
from opening import Open
from recorded import Recorded
from settings import HERE


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    """A service without rows; the test adds what it wants to be seen."""
    # What is kept for all visitors of a process is not kept from one test to the next.
    st.cache_data.clear()
    recorded = Recorded()
    transport = recorded.transport()
    monkeypatch.setattr(service, "_pool", lambda: transport)
    service.client_for.cache_clear()
    st.cache_data.clear()
    yield recorded
    service.client_for.cache_clear()


@pytest.fixture
def open_page(api: Recorded) -> Open:
    """`open_page("datasets", id="d1")`: the page as a visitor of that address gets it."""

    def opened(name: str, /, **query: str) -> AppTest:
        assert name in ENTRIES
        page = AppTest.from_file(str(HERE / "workbench.py"), default_timeout=20)
        page.query_params.update(query)
        # The harness can switch to pages that are files; these are functions, found by the hash of their address.
        page._page_hash = calc_hash("" if name == "home" else name)
        return page.run()

    return opened
