"""System: the machine, what it can do, and the documents that come along."""

from __future__ import annotations

import recorded
from components import documents
from opening import Open, text_of
from recorded import Recorded


def test_the_machine_and_why_an_executor_is_missing(open_page: Open) -> None:
    shown = open_page("system")
    text = text_of(shown)
    assert "<dt>Cores</dt><dd>2 (4 threads)</dd>" in text
    assert "<dd>22.4 GiB</dd>" in text
    assert "<dt>GPU</dt><dd>none</dd>" in text
    assert "**ray**: RAY\\_ADDRESS is not set\\." in text
    assert "not available" in text
    versions = shown.dataframe[0].value
    assert dict(zip(versions["name"], versions["version"], strict=True))["peft"] == "not installed"


def test_storage_says_what_is_used_and_free(open_page: Open) -> None:
    shown = open_page("system")
    assert "1.2 GB used" in text_of(shown)
    bar = shown.get("progress")[0].proto
    assert (bar.value, bar.text) == (60, "Disk: 40.0 GB free of 100 GB")


def test_a_service_that_does_not_say_what_is_used_is_fine(api: Recorded, open_page: Open) -> None:
    api.system = recorded.system(storage={"data_dir": {"free_bytes": 1, "total_bytes": 0}}, executors=[])
    shown = open_page("system")
    assert not shown.exception
    assert "used" not in text_of(shown)
    assert "does not say which it has" in text_of(shown)


def test_documents_are_read_without_a_network(open_page: Open) -> None:
    shown = open_page("system", doc="data-formats")
    assert shown.selectbox(key="pick_doc").value == "data-formats"
    assert any(len(element.value) > 1000 for element in shown.get("markdown"))
    assert not shown.exception
    shown.selectbox(key="pick_doc").select("quickstart").run()
    assert shown.query_params["doc"] == "quickstart"
    assert "doc" not in open_page("system").query_params


def test_every_document_has_a_title_and_no_dead_link() -> None:
    titles = documents.titles()
    assert next(iter(titles)) == "quickstart"
    assert all(titles.values())
    for name in titles:
        text = documents.text(name)
        assert "![" not in text
        assert "](../" not in text
    assert documents.text("../README") == ""
