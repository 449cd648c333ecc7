"""Data in a real browser: uploaded with progress, seen through, mapped, split, deleted, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from flows import Visit, choose, key, settled
from stage import Stage, real

pytestmark = pytest.mark.browser


def upload(page: Page, path: Path) -> None:
    """Choose a file in the upload form and send it."""
    fold = key(page, "upload_fold")
    if not fold.locator("form.upload").is_visible():
        fold.get_by_text("Upload a file").click()
    fold.locator("input[type=file]").set_input_files(path)
    fold.get_by_role("button", name="Upload", exact=True).press("Enter")  # a fold that still opens moves it away


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_is_uploaded_and_seen_through_token_by_token(
    page: Page, stage: Stage, base: str, visit: Visit, tmp_path: Path
) -> None:
    rows = [*real.rows(30), {"prompt": "left alone?", "completion": ""}]
    visit("/datasets")
    upload(page, jsonl(tmp_path / "colour-animals.jsonl", rows))
    expect(page.get_by_role("heading", level=1, name="colour animals")).to_be_visible()
    assert "id=" in page.url
    expect(page.get_by_text("Prompt and completion", exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name="1 row cannot be used")).to_be_visible()
    expect(page.get_by_role("region", name="Line 1", exact=True)).to_contain_text("As an example")
    learned = page.locator(".tokenized mark")
    expect(learned.first).to_be_visible(timeout=60_000)
    pieces = page.locator(".tokenized").first.locator("mark").all_text_contents()
    assert rows[0]["completion"] in "".join(pieces)
    # The address is all it takes: a refresh, or someone else, sees the same.
    page.reload()
    settled(page)
    expect(page.get_by_role("heading", level=1, name="colour animals")).to_be_visible()
    page.get_by_role("link", name="Train on it").click()
    expect(page.get_by_role("heading", level=1, name="Train", exact=True)).to_be_visible()
    settled(page)
    expect(key(page, "pick_data").get_by_role("combobox")).to_have_value("colour animals · 31 rows")


def test_a_broken_file_is_refused_with_its_first_broken_line(
    page: Page, stage: Stage, visit: Visit, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a", \n', encoding="utf-8")
    before = len(stage.client.datasets.list())
    visit("/datasets")
    upload(page, broken)
    refused = key(page, "upload_fold").get_by_role("alert")
    expect(refused).to_contain_text("line 2", ignore_case=True)
    expect(key(page, "upload_fold").get_by_text("Nothing was kept.")).to_be_visible()
    assert len(stage.client.datasets.list()) == before
    # The form is ready for the mended file.
    upload(page, jsonl(tmp_path / "mended.jsonl", real.rows(5)))
    expect(page.get_by_role("heading", level=1, name="mended")).to_be_visible()


def test_columns_that_nobody_understands_are_mapped_by_hand(
    page: Page, stage: Stage, visit: Visit, tmp_path: Path
) -> None:
    path = tmp_path / "fragen.csv"
    path.write_text("frage,antwort\n" + "".join(f"Frage {n},Antwort {n}\n" for n in range(8)), encoding="utf-8")
    dataset = stage.client.datasets.upload(path, name="Fragen")
    visit(f"/datasets?id={dataset.id}")
    expect(page.get_by_text("Not understood yet")).to_be_visible()
    for role, column in (("prompt", "frage"), ("completion", "antwort")):
        choose(page, f"mapping_prompt_completion_{role}", column)
    key(page, "mapping_save").get_by_role("button").click()
    expect(page.get_by_text("Prompt and completion", exact=True).first).to_be_visible()
    assert stage.client.datasets.get(dataset.id).mapping == {"prompt": "frage", "completion": "antwort"}


def test_a_dataset_is_split_and_its_part_deleted(page: Page, stage: Stage, visit: Visit) -> None:
    identity = stage.service.upload(real.rows(40), name="To be split")
    visit(f"/datasets?id={identity}")
    key(page, "split").get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("36 rows to learn from, 4 rows to be scored on.")
    dialog.get_by_role("button", name="Split", exact=True).click()
    expect(page.get_by_text("evaluation", exact=True)).to_be_visible()
    assert identity not in page.url
    part = page.url.partition("id=")[2].partition("&")[0]
    assert stage.client.datasets.get(part).row_count == 4
    settled(page)
    key(page, "delete").get_by_role("button").click()
    page.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_role("heading", level=1, name="Datasets")).to_be_visible()
    assert part not in [row.id for row in stage.client.datasets.list()]


def test_what_a_run_learned_from_cannot_be_deleted(page: Page, trained: Any, visit: Visit) -> None:
    visit(f"/datasets?id={trained.training_dataset_id}")
    key(page, "delete").get_by_role("button").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("It cannot go yet: 1 run learned from it")
    dialog.get_by_role("link", name="Animals by colour").click()
    expect(page.get_by_role("heading", level=1, name="Animals by colour")).to_be_visible()


def test_the_file_comes_back_byte_by_byte_through_the_workbench(
    page: Page, stage: Stage, trained: Any, visit: Visit
) -> None:
    visit(f"/datasets?id={trained.training_dataset_id}")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.path().read_bytes() == (stage.folder / "Animals.jsonl").read_bytes()
    assert download.value.suggested_filename == "Animals.jsonl"
