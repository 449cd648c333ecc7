"""From the verdict to a model that leaves: chat side by side, export, predictions, lineage, another score."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from flows import Visit, choose, key, settled
from stage import Stage, real

pytestmark = pytest.mark.browser
LONG = 90_000


def evaluation_of(stage: Stage, trained: Any) -> str:
    return str(stage.client.evaluations.list(experiment_id=trained.id)[0].id)


def test_a_verdict_is_read_with_its_rows_and_the_rows_that_were_lost(
    page: Page, stage: Stage, trained: Any, visit: Visit
) -> None:
    evaluation = stage.client.evaluations.get(evaluation_of(stage, trained))
    visit(f"/evaluations?id={evaluation.id}")
    expect(key(page, "verdict")).to_contain_text(str(evaluation.verdict)[:40])
    expect(page.get_by_role("heading", name="Row by row")).to_be_visible()
    expect(key(page, "interval_0").locator("canvas, svg").first).to_be_visible()
    key(page, "sample_filter").get_by_text("Where tuned lost").click()
    expect(page).to_have_url(re.compile("rows=lost"))
    page.reload()
    settled(page)
    expect(key(page, "sample_filter").get_by_role("radio", checked=True)).to_contain_text("Where tuned lost")


def test_base_and_tuned_answer_side_by_side(page: Page, trained: Any, visit: Visit) -> None:
    visit(f"/models?id={trained.resulting_model_id}&part=chat")
    page.get_by_placeholder("Ask the model").fill("red cat?")
    page.keyboard.press("Enter")
    expect(page.get_by_text("tokens/s").nth(1)).to_be_visible(timeout=LONG)
    answers = page.get_by_test_id("stChatMessage")
    expect(answers).to_have_count(3)
    expect(answers.nth(1)).to_contain_text("tiny-llama")
    expect(answers.nth(2)).to_contain_text("Tuned")
    assert not page.get_by_role("alert").count()


def test_an_export_is_made_proved_and_downloaded_through_the_workbench(
    page: Page, stage: Stage, trained: Any, visit: Visit
) -> None:
    visit(f"/models?id={trained.resulting_model_id}&part=exports")
    key(page, "export_format").get_by_text("Adapter (PEFT)").click()
    key(page, "export_start").get_by_role("button").click()
    expect(page.get_by_text("Loaded again by")).to_be_visible(timeout=LONG)
    (export,) = stage.client.models.exports(trained.resulting_model_id)
    file = export.wire["files"][0]
    link = page.get_by_role("link", name=file["name"])
    expect(link).to_have_attribute("href", f"/api/artifacts/{file['artifact_id']}/download")
    with page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == file["name"]
    assert hashlib.sha256(download.value.path().read_bytes()).hexdigest() == file["sha256"]


def test_a_whole_data_set_is_answered_into_a_file(page: Page, stage: Stage, trained: Any, visit: Visit) -> None:
    dataset = stage.service.upload(real.rows(3), name="Three questions")
    visit(f"/models?id={trained.resulting_model_id}&part=predictions")
    key(page, "predict_dataset").click()
    page.get_by_role("option", name="Three questions").click()
    settled(page)
    key(page, "predict_start").get_by_role("button").click()
    link = page.get_by_role("link", name="Download the answers")
    expect(link).to_be_visible(timeout=LONG)
    with page.expect_download() as download:
        link.click()
    lines = download.value.path().read_text(encoding="utf-8").splitlines()
    assert [set(json.loads(line)) >= {"prompt", "prediction"} for line in lines] == [True] * 3
    stage.client.datasets.delete(dataset)


def test_where_a_model_comes_from_can_be_seen_and_followed(page: Page, trained: Any, visit: Visit) -> None:
    visit(f"/models?id={trained.resulting_model_id}&part=lineage")
    expect(key(page, "lineage_picture").locator("img")).to_be_visible()
    key(page, "lineage_steps").get_by_role("link", name="data: Animals").click()
    expect(page.get_by_role("heading", level=1, name="Animals", exact=True)).to_be_visible()


def test_a_card_says_what_the_model_is_and_nothing_of_this_machine(
    page: Page, stage: Stage, trained: Any, visit: Visit
) -> None:
    visit(f"/models?id={trained.resulting_model_id}&part=card")
    main = page.get_by_test_id("stMain")
    expect(main).to_contain_text("Animals by colour")
    assert str(stage.folder) not in main.inner_text()


def test_any_model_is_scored_on_any_data_and_the_card_follows(
    page: Page, stage: Stage, trained: Any, visit: Visit
) -> None:
    dataset = stage.service.upload(real.rows(24), name="Another judge")
    visit("/evaluations")
    page.get_by_text("Score a model on a data set").click()
    model = stage.client.models.get(trained.resulting_model_id)
    choose(page, "score_model", f"{model.name} {model.version}")
    choose(page, "score_dataset", "Another judge · 24 rows")
    key(page, "score_start").get_by_role("button").click()
    page.get_by_role("link", name="See it").click(timeout=LONG)
    settled(page)
    expect(key(page, "verdict")).to_be_visible()
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
    page.get_by_role("link", name="Data", exact=True).click()
    expect(page.get_by_role("heading", level=1, name="Another judge")).to_be_visible()
    assert dataset in page.url
