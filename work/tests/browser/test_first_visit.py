"""First visits: every page draws, nothing leaves the machine, no error reaches a person."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from components.pages import ENTRIES
from flows import Visit, key, settled
from stage import Stage

pytestmark = pytest.mark.browser


def test_the_menu_leads_to_every_page_and_nothing_leaves_the_machine(
    page: Page, stage: Stage, trained: Any, visit: Visit
) -> None:
    asked: list[str] = []
    wrong: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    visit("/")
    for name, entry in ENTRIES.items():
        if entry.listed:
            page.get_by_role("link", name=entry.title, exact=True).first.click()
            expect(page.get_by_role("heading", level=1, name=entry.title)).to_be_visible()
            settled(page)
            assert urlsplit(page.url).path == ("/" if name == "home" else f"/{name}")
    visit(f"/run?id={trained.id}")
    expect(page.get_by_role("heading", level=1, name="Animals by colour")).to_be_visible()
    own = {urlsplit(stage.url).netloc, ""}
    assert {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))} <= own
    assert not wrong
    assert not page.get_by_test_id("stException").count()


def test_a_table_can_be_taken_along_as_csv(page: Page, trained: Any, visit: Visit) -> None:
    visit("/runs")
    with page.expect_download() as download:
        key(page, "runs_csv").get_by_role("button").click()
    text = download.value.path().read_text(encoding="utf-8")
    assert text.splitlines()[0].startswith("name,status")
    assert "Animals by colour" in text
