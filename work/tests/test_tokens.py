"""The token view: what is learned, what is only read, what is cut, on the page and as HTML."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from slm_client import PreviewExample

import recorded
from components import charts, tokens
from opening import Open, text_of
from recorded import Recorded


def example(**changes: Any) -> PreviewExample:
    return PreviewExample.read(recorded.tokenized(**changes))


@pytest.fixture
def tickets(api: Recorded) -> Recorded:
    """A dataset and one base model with weights; previews answer as asked."""
    api.add("datasets", recorded.dataset("d1")).add("models", recorded.model("m1"))

    def preview(request: httpx2.Request) -> Any:
        asked = json.loads(request.content)
        return recorded.preview(max_length=asked["max_length"] or 256, base_model_id=asked["base_model_id"])

    api.on("GET", "/datasets/[^/]+/rows", [recorded.row()])
    return api.on("POST", "/datasets/d1/preview", preview)


class TestHtml:
    def test_learned_read_and_cut_differ_by_more_than_colour(self) -> None:
        cut = [recorded.piece(" high", 11, learned=True)]
        html = tokens.as_html(example(cut=cut, cut_tokens=3, truncated=True))
        assert '<span title="token 7">Question</span>' in html
        assert '<mark title="token 9">Answer</mark>' in html
        assert '<del title="token 11, cut off"> high</del>' in html
        assert "2 more tokens cut" in html
        assert "3 tokens, 1 learned, 3 cut off" in html

    def test_the_pieces_joined_are_the_text(self) -> None:
        texts = ["<s>", "a", " b\n", "\t", "&"]
        html = tokens.as_html(example(pieces=[recorded.piece(text) for text in texts]))
        assert "&lt;s&gt;" in html
        assert " b⏎\n" in html
        assert "⇥\t" in html
        assert "&amp;" in html

    def test_a_row_that_is_left_out_says_why(self) -> None:
        html = tokens.as_html(example(pieces=[], dropped="Nothing is left to learn within 16 tokens."))
        assert "Left out: Nothing is left to learn within 16 tokens." in html
        assert "<mark" not in html

    def test_headings_name_side_and_label(self) -> None:
        assert tokens.heading(example(side="chosen")).startswith("Line 2 (chosen): 3 tokens")
        assert tokens.heading(example(label="refund")).endswith("; label refund")

    def test_the_whole_in_a_sentence(self) -> None:
        counts = {"examples": 1, "tokens": 1000, "learned_tokens": 250, "truncated": 1, "dropped": 2}
        assert tokens.summary(counts, 50, 900) == (
            "1 example with 1,000 tokens, of which 250 (25 %) are learned. 1 is cut off at the length limit. "
            "2 are left out. Counted on 50 of 900 rows."
        )
        assert "(none)" in tokens.summary({}, 0, 0)


def test_a_dataset_shows_what_would_be_learned(tickets: Recorded, open_page: Open) -> None:
    shown = open_page("datasets", id="d1")
    assert not shown.exception
    text = text_of(shown)
    assert "240 examples with 20,000 tokens, of which 5,000 \\(25 %\\) are learned" in text
    assert "<dt>The longest has</dt><dd>128 tokens</dd>" in text
    assert '<mark title="token 9">Answer</mark>' in text
    asked = tickets.sent("POST", "/datasets/d1/preview")
    assert asked == [{"base_model_id": "m1", "method": None, "max_length": None, "limit": 5, "offset": 0}]


def test_the_slider_asks_again_with_another_limit(tickets: Recorded, open_page: Open) -> None:
    shown = open_page("datasets", id="d1")
    assert shown.select_slider(key="max_length").value == 256
    shown.select_slider(key="max_length").set_value(64).run()
    assert tickets.sent("POST", "/datasets/d1/preview")[-1]["max_length"] == 64
    assert shown.select_slider(key="max_length").value == 64
    spec = shown.get("vega_lite_chart")[-1].proto.spec
    assert "140 are longer than 64" in spec


def test_warnings_are_read_out(tickets: Recorded, open_page: Open) -> None:
    said = "12 % of rows exceed 256 tokens; the end of the answer is lost in 31 rows."
    tickets.on("POST", "/datasets/d1/preview", recorded.preview(warnings=[said]))
    assert [warning.value for warning in open_page("datasets", id="d1").warning] == [said]


def test_a_base_in_the_address_is_taken(tickets: Recorded, open_page: Open) -> None:
    tickets.add("models", recorded.model("m2", "Other base"))
    shown = open_page("datasets", id="d1", base="m2")
    assert tickets.sent("POST", "/datasets/d1/preview")[-1]["base_model_id"] == "m2"
    shown.selectbox(key="pick_base").select("m1").run()
    assert tickets.sent("POST", "/datasets/d1/preview")[-1]["base_model_id"] == "m1"
    assert shown.query_params["base"] == "m1"


def test_without_weights_there_is_a_way_to_get_them(api: Recorded, open_page: Open) -> None:
    absent = recorded.model("m1", metadata={"weights": "absent"}, source={"download_bytes": 92_871_040})
    api.add("datasets", recorded.dataset("d1")).add("models", absent).on("GET", "/datasets/[^/]+/rows", [])
    shown = open_page("datasets", id="d1")
    assert shown.button(key="tokens_fetch").label == "Fetch the weights (92.9 MB)"
    assert "no base model's weights" in text_of(shown)


@pytest.mark.parametrize(
    ("status", "detail", "said"),
    [(404, "Not Found", "This service does not show tokens; a newer one does."),
     (409, "GPT-2's weights are not here; pull them first.", "GPT-2's weights are not here; pull them first.")],
)  # fmt: skip
def test_a_service_that_cannot_is_one_calm_sentence(
    status: int, detail: str, said: str, tickets: Recorded, open_page: Open
) -> None:
    tickets.refuse("POST", "/datasets/d1/preview", status, detail)
    shown = open_page("datasets", id="d1")
    assert not shown.exception
    assert not shown.error
    assert said in [info.value for info in shown.info]


def test_a_refused_limit_leaves_the_rest_of_the_page(tickets: Recorded, open_page: Open) -> None:
    tickets.refuse("POST", "/datasets/d1/preview", 422, "Nothing is left to learn within 16 tokens.")
    shown = open_page("datasets", id="d1")
    assert [error.value for error in shown.error] == ["Nothing is left to learn within 16 tokens."]
    assert "About the file" in text_of(shown)


def test_a_split_keeps_some_rows_aside(tickets: Recorded, open_page: Open) -> None:
    rest, part = recorded.dataset("d2", "Tickets (rest)"), recorded.dataset("d3", "Tickets (10 %)", row_count=24)

    def split(_request: httpx2.Request) -> Any:
        tickets.add("datasets", rest, part)
        return httpx2.Response(201, json=[rest, part])

    tickets.on("POST", "/datasets/d1/split", split)
    shown = open_page("datasets", id="d1")
    shown.button(key="split").click().run()
    assert "216 rows to learn from, 24 rows to be scored on." in text_of(shown)
    shown.slider(key="split_percent").set_value(25)
    shown.button(key="split_now").click()
    shown.button(key="split").click().run()
    assert not shown.exception
    assert tickets.sent("POST", "/datasets/d1/split") == [{"fraction": 0.25, "seed": 42, "stratify": False}]
    assert shown.query_params["id"] == "d3"


def test_a_limit_far_beyond_the_longest_row_does_not_press_the_bars_into_a_corner() -> None:
    buckets = [{"from": 70, "to": 80, "count": 3}]
    assert "rule" in str(charts.histogram(buckets, limit=96).to_dict())
    far = str(charts.histogram(buckets, limit=1024).to_dict())
    assert "rule" not in far
    assert "1024" not in far
