"""What flows say: wait until a page is drawn, find a widget by its key."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Locator, Page

QUIET = "[data-testid=stApp][data-test-script-state=notRunning]"
Visit = Callable[..., Page]


def settled(page: Page) -> Page:
    """Wait until the script has ended; parts that look again by themselves do not count."""
    page.wait_for_selector(QUIET)
    page.wait_for_selector("h1")
    return page


def key(page: Page, name: str) -> Locator:
    """The element of a widget by its key."""
    return page.locator(f".st-key-{re.sub(r'[^a-zA-Z0-9_-]', '-', name)}")


def choose(page: Page, name: str, option: str) -> None:
    """Choose in a select box by keyboard, as someone without a mouse does."""
    box = key(page, name).get_by_role("combobox")
    wanted = page.get_by_role("option", name=option, exact=True)
    box.focus()
    for _ in range(20):  # in a fold that is still opening, a box hears no key
        box.press("ArrowDown")
        page.wait_for_timeout(250)
        if page.get_by_role("option").count():
            break
    wanted.click()
    settled(page)
