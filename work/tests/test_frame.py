"""What every page has: states for all that can happen, and addresses that say what is shown."""

from __future__ import annotations

from typing import Any

import pytest

import recorded
from components.pages import ENTRIES
from components.states import UNEXPECTED
from opening import Open, text_of
from recorded import Recorded

PAGES = [*ENTRIES]


def fill(api: Recorded) -> None:
    api.add("datasets", recorded.dataset(), recorded.dataset("d2", "Held out", dataset_type="evaluation"))
    api.add("models", recorded.model(), recorded.model("m2", "Tickets to JSON", model_type="fine_tuned"))
    api.add("experiments", recorded.experiment(), recorded.experiment("e2", "Second", "running"))
    api.add("evaluations", recorded.evaluation())
    api.add("runs", recorded.run())


def query(page: str) -> dict[str, Any]:
    return {"run": {"id": "e1"}, "compare": {"ids": "e1,e2"}}.get(page, {})


@pytest.mark.parametrize("page", PAGES)
def test_a_page_with_rows_shows_no_error(page: str, api: Recorded, open_page: Open) -> None:
    fill(api)
    shown = open_page(page, **query(page))
    assert not shown.exception
    assert not shown.error
    assert shown.title[0].value


@pytest.mark.parametrize("page", PAGES)
def test_a_page_without_rows_says_what_to_do(page: str, open_page: Open) -> None:
    shown = open_page(page)
    assert not shown.exception
    assert not shown.error
    assert shown.title[0].value


@pytest.mark.parametrize("page", PAGES)
def test_an_absent_service_gives_one_calm_sentence_and_the_page_comes_back(
    page: str, api: Recorded, open_page: Open
) -> None:
    fill(api)
    api.away = True
    shown = open_page(page, **query(page))
    assert not shown.exception
    assert not shown.error
    assert [warning.value for warning in shown.warning] == [
        "The service at http://localhost:8000 does not answer. "
        "This page goes on by itself when it is back; trainings go on meanwhile."
    ]
    api.away = False
    shown.run()
    assert not shown.warning


@pytest.mark.parametrize("page", PAGES)
def test_a_refused_visitor_reads_the_services_own_sentence(page: str, api: Recorded, open_page: Open) -> None:
    detail = "Only callers on the service's own machine may use it. Set ALLOW_REMOTE=true there to open it to others."
    api.refuse("GET", ".*", 401, detail, "remote_caller")
    shown = open_page(page, **query(page))
    assert not shown.exception
    assert detail in {error.value for error in shown.error}


@pytest.mark.parametrize("page", [page for page in PAGES if page != "system"])
def test_another_program_at_the_address_is_named_as_such(page: str, api: Recorded, open_page: Open) -> None:
    api.on("GET", ".*", {"hello": "world"})
    shown = open_page(page, **query(page))
    assert not shown.exception
    assert UNEXPECTED not in text_of(shown)
    assert any("API_BASE_URL" in warning.value for warning in shown.warning)


def test_a_run_that_is_gone_is_no_error(open_page: Open) -> None:
    shown = open_page("run", id="gone")
    assert [info.value for info in shown.info] == ["Experiment not found. It may have been deleted."]
