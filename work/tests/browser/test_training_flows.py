"""From data to a verdict, and everything that may come between: queue, stop, failure, refresh, restart, comparison."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from flows import Visit, key, settled
from stage import Stage, real, until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]
SLOW = 240_000
"""Milliseconds until something that the service has to do first: a step, an end, a restart. Machines are busy."""
LONG: dict[str, Any] = {"epochs": 1000, "batch_size": 8, "save_steps": 40, "eval_max_rows": 2}
"""Minutes, unless somebody stops it."""


@pytest.fixture(scope="module")
def animals(stage: Stage) -> str:
    return str(stage.service.upload(real.rows(60), name="Animals to watch"))


Begin = Callable[..., Any]


@pytest.fixture
def begin(stage: Stage, base: str, animals: str) -> Iterator[Begin]:
    """`begin("Name", epochs=…)`: ask for a training; whatever still runs when the flow is over is stopped."""
    made: list[str] = []

    def asked(name: str, **config: Any) -> Any:
        experiment = stage.service.experiment(name, base, animals, **{**LONG, **config})
        made.append(experiment.id)
        return experiment

    yield asked
    for identity in made:
        if not stage.client.experiments.get(identity).ended:
            stage.client.experiments.cancel(identity, save=False)
    for identity in made:
        stage.service.ended(identity)


def steps(page: Page) -> int:
    """The step that the page shows, 0 where it shows none yet."""
    shown = page.locator("dl.facts div", has_text=re.compile("^Step")).locator("dd")
    text = shown.first.inner_text() if shown.count() else "0"
    return int(text.split(" ")[0].replace(",", ""))


def reaches(page: Page, step: int) -> None:
    until(lambda: steps(page) >= step, seconds=SLOW / 1000, what=f"step {step} on the page")


def watched(page: Page, stage: Stage, identity: str, *, step: int = 3) -> Page:
    """Open a run once it has taken so many steps."""
    until(lambda: stage.service.reached(identity, step=step), seconds=SLOW / 1000, what="its first steps")
    page.goto(f"/run?id={identity}")
    drawn(page)
    reaches(page, step)
    return page


def stands(page: Page, status: str) -> None:
    """The page says so, now or as soon as it has come about."""
    expect(key(page, "about")).to_contain_text(status, timeout=SLOW)


def drawn(page: Page) -> Page:
    """Wait for the heading: a page that looks again by itself is never long at rest."""
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    return page


def picture(page: Page) -> Any:
    return key(page, "losses").locator("canvas, svg").first


def test_from_the_plan_to_the_verdict(page: Page, visit: Visit, base: str, animals: str) -> None:
    visit(
        f"/train?data={animals}&base={base}&epochs=2&max_length=64&generate_max_rows=2&max_new_tokens=4&name=Whole way"
    )
    expect(key(page, "train_plan").get_by_text("Steps", exact=True)).to_be_visible(timeout=SLOW)
    expect(key(page, "train_plan").get_by_text("generate_max_rows", exact=True)).to_be_visible()
    key(page, "start").get_by_role("button").click()
    page.get_by_role("link", name="Watch it").click()
    expect(page.get_by_role("heading", level=1, name="Whole way")).to_be_visible()
    stands(page, "completed")
    expect(picture(page)).to_be_visible()
    expect(page.get_by_role("link", name="Evaluation", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name=re.compile("^Model "))).to_be_visible()
    expect(page.get_by_text("Too few rows to judge")).to_be_visible()
    assert not page.get_by_test_id("stException").count()


def test_the_form_takes_its_words_from_the_real_service(page: Page, visit: Visit, base: str, animals: str) -> None:
    visit(f"/train?data={animals}&base={base}")
    page.get_by_text("All settings").click()
    rate = key(page, "learning_rate")
    rate.locator("input").fill("0.00025")
    rate.locator("input").press("Enter")
    expect(page).to_have_url(re.compile("learning_rate=0.00025"))
    rate.get_by_test_id("stTooltipIcon").hover()
    expect(page.get_by_text("Peak learning rate.")).to_be_visible()
    page.reload()
    settled(page)
    expect(key(page, "train_plan").get_by_text("learning_rate", exact=True)).to_be_visible(timeout=SLOW)


def test_a_trial_of_a_few_real_steps_takes_the_place_of_the_formula(
    page: Page, visit: Visit, base: str, animals: str
) -> None:
    visit(f"/train?data={animals}&base={base}&epochs=2&max_length=64")
    plan = key(page, "train_plan")
    expect(plan.get_by_text("Estimated by formula, before anything runs.")).to_be_visible(timeout=SLOW)
    seconds = plan.locator("dl.facts div", has_text=re.compile("^Time")).locator("dd")
    expect(seconds).to_contain_text("about")
    key(page, "measure").get_by_role("button").click()
    expect(plan.get_by_text("Measured by a trial on this machine.")).to_be_visible(timeout=SLOW)
    expect(seconds).to_have_text(re.compile(r"^\d[\d.]* (s|min|h)"))
    expect(key(page, "measure")).to_have_count(0)
    assert not page.get_by_role("alert").count()


def test_a_run_is_reproduced_and_says_whether_it_came_out_the_same(page: Page, trained: Any, visit: Visit) -> None:
    visit(f"/run?id={trained.id}")
    page.get_by_role("button", name="Reproduce").click()
    page.get_by_role("link", name="It runs again: open").click()
    expect(page).not_to_have_url(re.compile(trained.id))
    told = key(page, "reproduction")
    expect(told).to_contain_text("Reproduced: every number is the same as in the run that it repeats.", timeout=SLOW)
    stands(page, "completed")
    told.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("heading", level=1, name="Compare runs")).to_be_visible()
    expect(picture(page)).to_be_visible()


def test_a_refresh_and_a_second_window_lose_nothing(page: Page, browser: Browser, stage: Stage, begin: Begin) -> None:
    run = begin("Refreshed")
    watched(page, stage, run.id)
    before = steps(page)
    page.reload()
    drawn(page)
    expect(picture(page)).to_be_visible()
    reaches(page, before + 1)
    other = browser.new_context(base_url=stage.url)
    second = other.new_page()
    second.goto(page.url)
    drawn(second)
    expect(picture(second)).to_be_visible(timeout=SLOW)
    reaches(second, before + 1)
    other.close()


def test_a_restart_of_the_service_in_mid_run_is_one_calm_sentence(page: Page, stage: Stage, begin: Begin) -> None:
    run = begin("Outlives its service")
    watched(page, stage, run.id)
    stage.service.kill()
    away = page.get_by_text("does not answer. This page goes on by itself")
    expect(away).to_be_visible(timeout=SLOW)
    expect(picture(page)).to_be_visible()
    before = steps(page)
    stage.service.start()
    expect(away).to_be_hidden(timeout=SLOW)
    reaches(page, before + 1)
    stands(page, "running")
    assert not page.get_by_test_id("stException").count()


def test_stop_keeps_a_checkpoint_and_resume_goes_on_from_it(page: Page, stage: Stage, begin: Begin) -> None:
    run = begin("Stopped and resumed")
    watched(page, stage, run.id)
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Stop and keep a checkpoint").click()
    stands(page, "cancelled")
    page.get_by_role("radio", name="Checkpoints").or_(page.get_by_role("button", name="Checkpoints")).click()
    expect(key(page, "checkpoints_csv")).to_be_visible()
    kept = stage.client.experiments.get(run.id).progress.step
    page.get_by_role("button", name="Resume").click()
    stands(page, "running")
    reaches(page, kept + 1)
    expect(page.locator("dl.facts div", has_text="Attempt").locator("dd")).to_have_text("2")


def test_a_waiting_run_says_its_place_and_gets_its_turn(page: Page, stage: Stage, begin: Begin) -> None:
    first, second = begin("Goes first"), begin("Comes next")
    page.goto(f"/run?id={second.id}")
    expect(page.get_by_text("Next in the queue.")).to_be_visible()
    stage.client.experiments.cancel(first.id, save=False)
    stands(page, "running")
    reaches(page, 1)


def test_a_failed_run_says_why_and_its_retry_is_filled_in(page: Page, stage: Stage, base: str, animals: str) -> None:
    failed = stage.service.experiment("Too short", base, animals, max_length=8, epochs=1)
    assert stage.service.ended(failed.id).status == "failed"
    page.goto(f"/run?id={failed.id}")
    expect(page.get_by_text("What to do:")).to_be_visible()
    page.get_by_role("link", name=re.compile("^Retry with up to 16 tokens")).click()
    expect(page.get_by_role("heading", level=1, name="Train")).to_be_visible()
    settled(page)
    expect(page).to_have_url(re.compile("max_length=16"))
    expect(key(page, "name").get_by_label("Name")).to_have_value("Too short")


def test_a_simulated_failure_is_retried_to_its_end(page: Page, stage: Stage, visit: Visit, animals: str) -> None:
    base = stage.client.models.list(model_type="base")[0].id
    config = {"simulated_failure_rate": 1.0, "epochs": 2}
    failed = stage.client.experiments.create(
        "Pretended", base_model_id=base, training_dataset_id=animals, training_config=config, executor="simulation"
    )
    stage.service.ended(failed.id)
    visit(f"/run?id={failed.id}")
    expect(key(page, "about")).to_contain_text("SIMULATED")
    page.get_by_role("link", name="Retry without the simulated failure").click()
    expect(key(page, "train_plan")).to_contain_text("SIMULATED", timeout=SLOW)
    page.get_by_role("button", name="Start the simulation").click()
    page.get_by_role("link", name="Watch it").click()
    stands(page, "completed")
    expect(key(page, "about")).to_contain_text("SIMULATED")


def test_rows_open_and_two_of_them_compare(page: Page, stage: Stage, base: str, animals: str, visit: Visit) -> None:
    for rate in (1e-3, 5e-3):
        made = stage.service.experiment(f"Rate {rate:g}", base, animals, epochs=2, learning_rate=rate)
        assert stage.service.ended(made.id).status == "completed"
    visit("/runs?q=Rate")
    table = page.get_by_test_id("stDataFrame").first
    expect(table.locator("canvas").first).to_be_visible()
    for row in (0, 1):
        table.click(position={"x": 16, "y": 53 + 35 * row})
    page.get_by_role("link", name="Compare 2 runs").click()
    expect(page.get_by_role("heading", level=1, name="Compare runs")).to_be_visible()
    expect(page).to_have_url(re.compile("/compare.ids="))
    expect(picture(page)).to_be_visible()
    expect(key(page, "differences_csv")).to_be_visible()
    expect(key(page, "scorecards_csv")).to_be_visible()
    page.reload()
    settled(page)
    expect(picture(page)).to_be_visible()
    visit("/runs?q=Rate")
    page.get_by_test_id("stDataFrame").first.click(position={"x": 120, "y": 53})
    expect(page.get_by_role("heading", level=1, name="Rate 0.005")).to_be_visible()
    expect(page).to_have_url(re.compile("id="))


def test_the_table_notices_what_was_started_elsewhere(page: Page, stage: Stage, visit: Visit, animals: str) -> None:
    base = stage.client.models.list(model_type="base")[0].id
    asked = {"base_model_id": base, "training_dataset_id": animals, "executor": "simulation"}
    first = stage.client.experiments.create("Elsewhere 1", training_config={"epochs": 1}, **asked)
    stage.service.ended(first.id)
    visit("/runs?q=Elsewhere")
    expect(page.get_by_text(re.compile("^1 run"))).to_be_visible()
    # At rest it asks nothing; it looks when its window is looked at again.
    second = stage.client.experiments.create("Elsewhere 2", training_config={"epochs": 1}, **asked)
    stage.service.ended(second.id)
    comes_back(page)
    expect(page.get_by_text(re.compile("^2 runs"))).to_be_visible()
    # While something runs it notices by itself, within five seconds.
    busy = stage.client.experiments.create("Elsewhere 3", training_config={"epochs": 30}, **asked)
    comes_back(page)
    expect(page.get_by_text(re.compile("^3 runs"))).to_be_visible()
    stage.client.experiments.create("Elsewhere 4", training_config={"epochs": 1}, **asked)
    expect(page.get_by_text(re.compile("^4 runs"))).to_be_visible(timeout=5000)
    stage.service.ended(busy.id)


def comes_back(page: Page) -> None:
    """The visitor looks at the window again; looks within a second count once."""
    page.wait_for_timeout(1100)
    page.evaluate("window.dispatchEvent(new Event('focus'))")


def test_a_phone_shows_a_run_without_sideways_scrolling(browser: Browser, stage: Stage, trained: Any) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, base_url=stage.url)
    page = context.new_page()
    page.goto(f"/run?id={trained.id}")
    settled(page)
    page.wait_for_timeout(500)
    width = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
    assert width <= 390
    context.close()
