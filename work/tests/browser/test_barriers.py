"""Barriers for people who do not see, or do not use a mouse: axe-core looks at every page, light and dark.

Rules that Streamlit's own markup breaks, and that no code of ours can mend, are listed with the reason.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from components.pages import ENTRIES
from flows import settled
from stage import Stage

pytestmark = pytest.mark.browser
AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
STREAMLITS_OWN: dict[str, str] = {}
"""Rule → why it is not ours."""


@pytest.fixture(scope="module")
def axe() -> str:
    if not AXE.is_file():
        reason = "axe-core is missing; `npm ci` in work/tests/browser brings it."
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return AXE.read_text(encoding="utf-8")


def address(name: str, trained: Any, evaluation: str) -> str:
    return {
        "home": "/",
        "run": f"/run?id={trained.id}",
        "evaluations": f"/evaluations?id={evaluation}",
        "models": f"/models?id={trained.resulting_model_id}",
        "datasets": f"/datasets?id={trained.training_dataset_id}",
    }.get(name, f"/{name}")


def serious(page: Page, axe: str) -> list[str]:
    page.evaluate(axe)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{violation['id']} ({violation['impact']}): {violation['help']}: "
        + " | ".join(node["html"][:160] for node in violation["nodes"][:3])
        for violation in found["violations"]
        if violation["impact"] in {"serious", "critical"} and violation["id"] not in STREAMLITS_OWN
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_a_serious_barrier(scheme: Any, browser: Browser, stage: Stage, trained: Any, axe: str) -> None:
    evaluation = stage.client.evaluations.list(experiment_id=trained.id)[0].id
    context = browser.new_context(base_url=stage.url, color_scheme=scheme, viewport={"width": 1280, "height": 720})
    page = context.new_page()
    page.set_default_timeout(90_000)  # the token view starts a process of its own here
    found: dict[str, list[str]] = {}
    for name in ENTRIES:
        page.goto(address(name, trained, evaluation))
        settled(page)
        if barriers := serious(page, axe):
            found[name] = barriers
    context.close()
    assert found == {}
