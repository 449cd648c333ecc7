"""Datasets: found, opened, seen through, changed, deleted."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from slm_client import Dataset, Row

import recorded
from components import examples, mapping
from opening import Open, links, text_of
from recorded import Recorded
from views.datasets import matching


@pytest.fixture
def tickets(api: Recorded) -> Recorded:
    faults = {"count": 120, "first": [{"line": 17, "field": "completion", "message": "'completion' is empty."}]}
    statistics = {"rows": 240, "examples": 120, "duplicates": 3, "duplicates_exact": False, "characters": 63866}
    api.add("datasets", recorded.dataset("d1", faults=faults, statistics=statistics))
    rows = [recorded.row(2), recorded.row(3, example=None, fault="'completion' is empty.")]
    return api.on("GET", "/datasets/[^/]+/rows", rows)


def opened(**changes: Any) -> Any:
    return Dataset.read(recorded.dataset(**changes))


def test_words_and_purpose_find_datasets() -> None:
    rows = [opened(name="Support tickets"), opened(name="Tickets, held out", dataset_type="evaluation")]
    assert len(matching(rows, words="", purpose="all")) == 2
    assert [row.name for row in matching(rows, words="TICKETS support", purpose="all")] == ["Support tickets"]
    assert [row.name for row in matching(rows, words="tickets", purpose="evaluation")] == ["Tickets, held out"]


def test_the_address_says_what_is_searched(api: Recorded, open_page: Open) -> None:
    api.add("datasets", recorded.dataset("d1", "Tickets"), recorded.dataset("d2", "Recipes"))
    shown = open_page("datasets", q="recipes")
    assert shown.text_input(key="q").value == "recipes"
    assert list(shown.dataframe[0].value["name"]) == ["Recipes"]
    assert "No dataset fits" in text_of(open_page("datasets", q="nothing of the sort"))


def test_a_dataset_shows_kind_rows_faults_and_examples_at_once(tickets: Recorded, open_page: Open) -> None:
    shown = open_page("datasets", id="d1")
    text = text_of(shown)
    assert "<dd>Prompt and completion</dd>" in text
    assert "<dt>Usable</dt><dd>120</dd>" in text
    assert "<dd>about 3</dd>" in text
    assert "<dd>69.2 KB</dd>" in text
    assert "120 rows cannot be used" in text
    assert "The first 1 are listed." in text
    assert list(shown.dataframe[0].value["line"]) == [17]
    assert "Line 2, as in the file" in text
    assert '<p class="fault">&#x27;completion&#x27; is empty.</p>' in text
    assert "Train on it" in text
    assert links(shown)["Train on it"] == "data=d1"


def test_rows_come_page_by_page(tickets: Recorded, open_page: Open) -> None:
    open_page("datasets", id="d1", rows_page="3")
    asked = [dict(request.url.params) for request in tickets.asked if request.url.path.endswith("/rows")]
    assert asked == [{"offset": "8", "limit": "4"}]


def test_columns_nobody_understands_ask_for_a_mapping(api: Recorded, open_page: Open) -> None:
    reason = 'No known kind of data fits the columns. Give a mapping, for example {"prompt": "question"}.'
    unknown = recorded.dataset("d1", columns=["frage", "antwort", "datum"], kind=None, mapping=None, kind_reason=reason)
    api.add("datasets", unknown).on("GET", "/datasets/[^/]+/rows", [recorded.row(2, example=None)])
    shown = open_page("datasets", id="d1")
    said = [warning.value.replace("\\", "") for warning in shown.warning]
    assert said == [
        "No column has a name that says what it holds (frage, antwort, datum). Say below which one is what."
    ]
    assert shown.button(key="mapping_save").disabled
    assert "Choose a column for prompt and completion." in text_of(shown)
    assert "Train on it" not in text_of(shown)
    shown.selectbox(key="mapping_prompt_completion_prompt").select("frage")
    shown.selectbox(key="mapping_prompt_completion_completion").select("antwort").run()
    shown.button(key="mapping_save").click().run()
    assert not shown.exception
    assert api.sent("PATCH", "/datasets/d1") == [{"mapping": {"prompt": "frage", "completion": "antwort"}}]


def test_two_columns_are_proposed_in_their_order_and_saved_by_a_click(api: Recorded, open_page: Open) -> None:
    unknown = recorded.dataset("d1", columns=["frage", "antwort"], kind=None, mapping=None)
    api.add("datasets", unknown).on("GET", "/datasets/[^/]+/rows", [])
    shown = open_page("datasets", id="d1")
    assert shown.selectbox(key="mapping_prompt_completion_prompt").value == "frage"
    assert shown.selectbox(key="mapping_prompt_completion_completion").value == "antwort"
    shown.button(key="mapping_save").click().run()
    assert api.sent("PATCH", "/datasets/d1") == [{"mapping": {"prompt": "frage", "completion": "antwort"}}]


def test_a_refused_mapping_says_why(tickets: Recorded, open_page: Open) -> None:
    tickets.refuse("PATCH", "/datasets/d1", 422, "mapping: the file has no column 'frage'.", "mapping")
    shown = open_page("datasets", id="d1")
    shown.button(key="mapping_detect").click().run()
    assert [error.value for error in shown.error] == ["mapping: the file has no column 'frage'."]
    assert tickets.sent("PATCH", "/datasets/d1") == [{"mapping": None}]


def test_a_new_name_is_kept(tickets: Recorded, open_page: Open) -> None:
    shown = open_page("datasets", id="d1")
    shown.button(key="rename").click().run()
    # The harness runs the whole page where a browser runs the dialog alone, so the dialog is opened each time.
    shown.text_input(key="rename_name").input("  Tickets of 2026 ")
    shown.button(key="rename_save").click()
    shown.button(key="rename").click().run()
    assert tickets.sent("PATCH", "/datasets/d1") == [{"name": "Tickets of 2026", "description": ""}]


def test_deleting_says_what_it_would_break(tickets: Recorded, open_page: Open) -> None:
    tickets.add("experiments", recorded.experiment("e1", "Tickets to JSON"))
    tickets.add("evaluations", recorded.evaluation("v1", dataset_id="d1"))
    shown = open_page("datasets", id="d1")
    shown.button(key="delete").click().run()
    said = "It cannot go yet: 1 run learned from it and 1 evaluation scored on it. Delete those first."
    assert said in [warning.value for warning in shown.warning]
    assert "Tickets to JSON" in text_of(shown)
    assert not shown.get("button_group")
    assert "delete_now" not in [button.key for button in shown.button]


def test_what_nothing_refers_to_can_be_deleted(tickets: Recorded, open_page: Open) -> None:
    shown = open_page("datasets", id="d1")
    shown.button(key="delete").click().run()
    shown.button(key="delete_now").click()
    shown.button(key="delete").click().run()
    assert not shown.exception
    assert "d1" not in tickets.rows["datasets"]
    assert "id" not in shown.query_params
    assert [toast.value for toast in shown.toast] == ["Tickets is deleted."]


def test_a_dataset_that_is_gone_is_said_calmly(open_page: Open) -> None:
    shown = open_page("datasets", id="gone")
    assert [info.value for info in shown.info] == ["Dataset not found. It may have been deleted."]


def test_the_file_can_be_taken_along(tickets: Recorded, open_page: Open) -> None:
    links = [element.proto.url for element in open_page("datasets", id="d1").get("link_button")]
    assert links == ["/api/datasets/d1/download"]


def test_labels_and_turns_are_drawn(api: Recorded, open_page: Open) -> None:
    statistics = {"rows": 3, "examples": 3, "labels": {"good": 2, "bad": 1}}
    api.add("datasets", recorded.dataset("d1", kind="classification", statistics=statistics))
    api.on("GET", "/datasets/[^/]+/rows", [])
    shown = open_page("datasets", id="d1")
    assert not shown.exception
    chart = shown.get("vega_lite_chart")[0].proto
    assert b"good" in chart.datasets[0].data.data
    assert "Rows for each of 2 labels" in chart.spec


class TestExamples:
    def test_turns_answers_and_texts_are_drawn_alike(self) -> None:
        html = examples.as_example(
            {
                "messages": [{"role": "user", "content": "<i>Hi</i>"}, {"role": "assistant", "content": "Hello"}],
                "label": "x",
            }
        )
        assert '<div class="turn user"><span class="who">User</span><p>&lt;i&gt;Hi&lt;/i&gt;</p></div>' in html
        assert html.index("Assistant") < html.index("Label")
        assert "Rejected" in examples.as_example({"chosen": "yes", "rejected": "no", "system": None})

    def test_long_values_are_cut_and_empty_ones_named(self) -> None:
        row = Row.read(recorded.row(2, values={"a": "x" * 5000, "b": " ", "c": {"d": 1}}, example=None))
        html = examples.cards([row])
        assert "1,000 more characters" in html
        assert '<em class="quiet">empty</em>' in html
        assert "{&quot;d&quot;: 1}" in html
        assert "need a mapping" in html


class TestMapping:
    def test_what_is_missing_is_named(self) -> None:
        assert mapping.lacks("prompt_completion", {"prompt": "a"}) == "Choose a column for completion."
        assert mapping.lacks("preference", {"chosen": "a", "rejected": "a"}) == "The column a is chosen twice."
        assert mapping.lacks("text", {"text": "a"}) is None

    def test_a_mapping_that_does_not_fit_is_the_services_to_explain(self) -> None:
        assert mapping.question("'x' is no column.", {"prompt": "x"}, ["a"], where="below") == "'x' is no column."
        assert mapping.question("It has no columns.", None, [], where="below") == "It has no columns."

    def test_only_roles_of_the_kind_are_sent(self) -> None:
        assert mapping.given("text", {"text": "a", "prompt": "b"}) == {"text": "a"}
        assert mapping.title(None) == "Not understood yet"
        assert mapping.title("new_kind") == "new_kind"

    def test_every_role_is_explained(self) -> None:
        roles = {role for kind in mapping.KINDS.values() for role in kind.required + kind.optional}
        assert roles == {*mapping.ROLES}


def test_upload_answers_of_the_component_open_the_dataset(
    tickets: Recorded, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    from components import upload

    monkeypatch.setattr(upload, "form", lambda *, key: "d1")
    shown = open_page("datasets")
    assert shown.query_params["id"] == "d1"
    assert "Line 2, as in the file" in text_of(shown)


def test_a_file_missing_from_the_services_disk_is_one_sentence(tickets: Recorded, open_page: Open) -> None:
    def missing(_request: httpx2.Request) -> Any:
        raise recorded.Refusal(404, "The file tickets.csv was removed or changed in the upload folder.", "file_missing")

    tickets.on("GET", "/datasets/[^/]+/rows", missing)
    shown = open_page("datasets", id="d1")
    assert not shown.exception
    assert any("removed or changed" in info.value for info in shown.info)
