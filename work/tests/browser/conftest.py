"""A real Chromium, the real service with one short real training, the workbench: started once for all flows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from flows import Visit, settled
from stage import Stage, real, staged

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
PATIENCE = 60_000
"""Milliseconds: the machine that tests may be as busy as it likes."""
expect.set_options(timeout=PATIENCE)
SIZE = {"width": 1280, "height": 720}
# What the task's rows hold and how they are trained, so that a tiny model ends within seconds.
TINY: dict[str, Any] = {"max_length": 64, "batch_size": 8, "epochs": 2, "generate_max_rows": 4, "max_new_tokens": 4}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        reason = f"There is no Chromium at {CHROMIUM}; install it with apt, or set CHROMIUM."
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Service and workbench, with nothing in them yet but the seeded bases."""
    with staged(tmp_path_factory.mktemp("stage")) as started:
        yield started


@pytest.fixture(scope="session")
def base(stage: Stage) -> str:
    """The id of a tiny llama-like base model whose weights are here."""
    return str(stage.service.base())


@pytest.fixture(scope="session")
def trained(stage: Stage, base: str) -> Any:
    """The one short real training that all flows share: the ended experiment."""
    dataset = stage.service.upload(real.rows(60), name="Animals")
    asked = stage.service.experiment("Animals by colour", base, dataset, **TINY)
    return stage.service.ended(asked.id, seconds=240)


@pytest.fixture
def page(browser: Browser, stage: Stage) -> Iterator[Page]:
    """A fresh visitor: own cookies, own session, a laptop's window."""
    context = browser.new_context(viewport=SIZE, base_url=stage.url)  # type: ignore[arg-type]
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE)
    yield opened
    context.close()


@pytest.fixture
def visit(page: Page) -> Visit:
    """`visit("/datasets?id=…")`: open and wait until the page is drawn."""

    def opened(path: str = "/") -> Page:
        page.goto(path)
        return settled(page)

    return opened
