"""Who looks: someone from elsewhere, someone with a telephone, someone whose service is away."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from components.pages import ENTRIES
from flows import QUIET, Visit, key, settled
from stage import Stage, Workbench, staged

pytestmark = pytest.mark.browser


def own_address() -> str | None:
    """An address of this machine that is not loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        found = str(probe.getsockname()[0])
    return None if found.startswith("127.") else found


def test_a_visitor_from_elsewhere_reads_the_services_refusal(browser: Browser, stage: Stage, trained: Any) -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has loopback alone")
    workbench = Workbench(stage.folder, stage.service.url, address=address).start()
    try:
        page = browser.new_page()
        for path in ("/", "/datasets", f"/run?id={trained.id}"):
            page.goto(workbench.url + path)
            page.wait_for_selector(QUIET)
            expect(page.get_by_text("Only callers on the service's own machine may use it.").first).to_be_visible()
            assert "Animals" not in page.content()
        answer = page.request.get(f"{workbench.url}/api/datasets/{trained.training_dataset_id}/download")
        assert answer.status == 401
        page.close()
    finally:
        workbench.close()


@pytest.mark.parametrize("name", [name for name, entry in ENTRIES.items() if entry.listed])
def test_a_telephone_shows_every_page_without_sideways_scrolling(
    name: str, browser: Browser, stage: Stage, trained: Any
) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844}, base_url=stage.url)
    page.goto("/" if name == "home" else f"/{name}")
    settled(page)
    width = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
    page.close()
    assert width <= 390


def test_a_service_that_stops_is_one_sentence_and_the_page_comes_back(browser: Browser, tmp_path: Path) -> None:
    with staged(tmp_path, warm_process="false") as alone:
        page = browser.new_page(base_url=alone.url)
        page.goto("/datasets")
        settled(page)
        alone.service.terminate()
        page.reload()
        settled(page)
        away = page.get_by_text("This page goes on by itself when it is back")
        expect(away).to_be_visible()
        assert page.get_by_role("alert").count() == 1
        alone.service.start()
        expect(away).not_to_be_visible(timeout=30_000)
        expect(page.get_by_text("Drop a file here")).to_be_visible()
        page.close()


def test_a_first_visitor_trains_the_example_with_one_click(browser: Browser, tmp_path: Path) -> None:
    with staged(tmp_path) as alone:
        alone.service.base()
        page = browser.new_page(base_url=alone.url)
        page.goto("/")
        settled(page)
        page.get_by_role("button", name="Train the example").click()
        expect(page.get_by_role("heading", name="Running now")).to_be_visible(timeout=60_000)
        # Nothing is lost by a second window in mid-run.
        page.reload()
        expect(page.get_by_role("link", name="Scored on 64 rows")).to_be_visible(timeout=180_000)
        expect(page.get_by_role("heading", name="Running now")).not_to_be_visible()
        page.close()
        ended = alone.client.experiments.list()
        assert [(run.name, run.status, run.simulated) for run in ended] == [
            ("Support tickets to JSON", "completed", False)
        ]


def test_the_address_bar_is_the_state(page: Page, stage: Stage, trained: Any, visit: Visit) -> None:
    visit("/datasets?q=animals&for=training")
    expect(page.get_by_label("Search by name")).to_have_value("animals")
    visit("/system?doc=data-formats")
    expect(page.get_by_role("heading", level=1, name="Data formats")).to_be_visible()


def test_a_link_from_a_page_to_itself_is_in_the_address_bar(page: Page, trained: Any, visit: Visit) -> None:
    visit(f"/datasets?id={trained.training_dataset_id}")
    key(page, "crumbs").get_by_role("link", name="Datasets").click()
    expect(page.get_by_role("heading", level=1, name="Datasets")).to_be_visible()
    expect(page).to_have_url(re.compile("/datasets$"))
    page.go_back()
    expect(page.get_by_role("heading", level=1, name="Animals", exact=True)).to_be_visible()
