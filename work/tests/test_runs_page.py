"""The table of runs and the comparison: what is asked for at a thousand runs, what each state shows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from slm_client import Experiment
from streamlit.testing.v1 import AppTest

import recorded
import service
from components import tables
from opening import Open, links, text_of
from recorded import Recorded
from recorded_runs import curves, equip, furnish
from test_run_page import picture
from views import runs


def column(page: AppTest, name: str) -> list[Any]:
    return page.dataframe[0].value[name].tolist()


def test_each_row_says_how_it_went_in_names(api: Recorded, open_page: Open) -> None:
    furnish(
        api,
        recorded.experiment("e1", "First"),
        recorded.experiment("e2", "Second", "running"),
        recorded.experiment("e3", "Third", "failed", simulated=True),
        recorded.experiment("e4", "Fourth", "created", base_model_id="gone"),
    )
    shown = open_page("runs")
    assert column(shown, "name") == ["Fourth", "Third", "Second", "First"]
    assert [[*words] for words in column(shown, "status")] == [
        ["◷ created"],
        ["✕ failed", "SIMULATED"],
        ["▶ running"],
        ["✓ completed"],
    ]
    assert column(shown, "base") == ["deleted", *["SmolLM2 135M Instruct"] * 3]
    assert column(shown, "data") == ["Tickets"] * 4
    assert [percent == percent and percent for percent in column(shown, "progress")] == [False, False, 50, 100]
    assert [len(losses) for losses in column(shown, "loss")] == [0, 12, 12, 12]
    assert str(column(shown, "duration")[-1]) == "0 days 00:09:00"
    assert not shown.exception


def test_a_thousand_runs_ask_for_the_curves_of_one_page_once(api: Recorded, open_page: Open) -> None:
    furnish(api)
    api.add("experiments", *(recorded.experiment(f"e{at}", f"Try {at}") for at in range(1000)))
    api.on("GET", "/experiments/[^/]+/metrics", curves())
    shown = open_page("runs")
    assert len(shown.dataframe[0].value) == runs.PAGE
    assert "1,000 runs" in text_of(shown)
    kinds = Counter(request.url.path.rpartition("/")[2] for request in api.asked)
    assert kinds["metrics"] == runs.PAGE
    assert sum(kinds.values()) == runs.PAGE + 3
    api.asked.clear()
    shown.run()
    assert not any(request.url.path.endswith("metrics") for request in api.asked)
    second = open_page("runs", page="2")
    assert column(second, "name")[0] == "Try 974"


def test_curves_of_what_runs_are_asked_for_again(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment("e1", "First", "running"))
    shown = open_page("runs")
    equip(api, points=30)
    shown.run()
    assert len(column(shown, "loss")[0]) == 30


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"status": "failed"}, ["Third"]),
        ({"q": "first smollm2"}, ["First"]),
        ({"q": "TICKETS"}, ["Third", "Second", "First"]),
        ({"q": "simulated"}, ["Third"]),
        ({"q": "lora", "status": "running"}, ["Second"]),
        ({"q": "nowhere"}, []),
    ],
)
def test_filters_stand_in_the_address(api: Recorded, open_page: Open, query: dict[str, str], found: list[str]) -> None:
    furnish(
        api,
        recorded.experiment("e1", "First"),
        recorded.experiment("e2", "Second", "running"),
        recorded.experiment("e3", "Third", "failed", simulated=True),
    )
    shown = open_page("runs", **query)
    if found:
        assert column(shown, "name") == found
    else:
        assert not shown.dataframe
        assert "No run fits these words." in text_of(shown)


def look(api: Recorded, *identities: str) -> runs.Look:
    """What was seen of these while something ran."""
    return runs.Look([Experiment.read(api.rows["experiments"][one]) for one in identities], active=True)


def test_a_row_that_ended_meanwhile_is_asked_for_by_itself(api: Recorded) -> None:
    api.add("experiments", recorded.experiment("e1", "First", "running"), recorded.experiment("e2", "Second"))
    before = look(api, "e1", "e2")
    api.rows["experiments"]["e1"] = recorded.experiment("e1", "First", "failed")
    after = runs._again(service.client_for(""), before, newest="e2")
    assert after is not None
    assert [row.status for row in after.rows] == ["failed", "completed"]
    assert not after.active
    assert [request.url.path for request in api.asked] == [*["/experiments"] * 3, "/experiments/e1"]
    assert dict(api.asked[0].url.params) == {"limit": "1"}
    api.asked.clear()
    assert runs._again(service.client_for(""), after, newest="e2") == after
    assert not api.asked


def test_a_run_that_was_started_or_deleted_elsewhere_changes_the_table(api: Recorded) -> None:
    api.add("experiments", recorded.experiment("e1", "First", "running"), recorded.experiment("e2", "Second"))
    before = look(api, "e2")
    now = runs._again(service.client_for(""), before, newest="e2")
    assert now is not None
    assert now.active  # the one that runs is on another page of the table
    api.add("experiments", recorded.experiment("e3", "From the command line", "created"))
    assert runs._again(service.client_for(""), before, newest="e2") is None
    running = look(api, "e1")
    del api.rows["experiments"]["e1"]
    assert runs._again(service.client_for(""), running, newest="e3") is None


def test_the_table_polls_while_something_runs_and_waits_for_its_visitor_else(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment("e1", "First"))
    shown = open_page("runs")
    assert len(shown.get("bidi_component")) == 1
    furnish(api, recorded.experiment("e2", "From the command line", "running"))
    shown = open_page("runs")
    assert column(shown, "name") == ["From the command line", "First"]
    assert not shown.get("bidi_component")


def test_ticked_rows_lead_on(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment("e1", "First"), recorded.experiment("e2", "Second"))
    shown = open_page("runs")
    assert "tick two or more" in text_of(shown)
    shown.session_state["runs_ticked"] = ["e1"]
    furnish(api, recorded.experiment("e3", "Third"))
    assert links(shown.run())["Open First"] == "id=e1"
    shown.session_state["runs_ticked"] = ["e1", "e3"]
    furnish(api, recorded.experiment("e4", "Fourth"))
    assert links(shown.run())["Compare 2 runs"] == "ids=e3%2Ce1"
    shown.session_state["runs_ticked"] = [f"e{at}" for at in range(1, 8)]
    furnish(api, *(recorded.experiment(f"e{at}", f"Try {at}") for at in range(5, 8)))
    assert "At most 6 runs can be compared at once." in text_of(shown.run())


def test_ticks_belong_to_rows_and_not_to_places() -> None:
    script = """
import streamlit as st
from components import tables
names = st.session_state.get("names", ["a", "b"])
st.session_state.setdefault("t_ticked", ["b"])
chosen, opened = tables.choose([{"name": n} for n in names], names, key="t", columns={}, file_name="t")
st.text(",".join(chosen))
"""
    page = AppTest.from_string(script).run()
    assert page.text[0].value == "b"
    page.session_state["names"] = ["new", "a", "b"]
    assert page.run().text[0].value == "b"


def test_a_comparison_has_one_picture_the_differences_and_the_scorecards(api: Recorded, open_page: Open) -> None:
    furnish(
        api,
        recorded.experiment("e1", "Low", training_config={"learning_rate": 2e-4, "epochs": 3}),
        recorded.experiment("e2", "High", training_config={"learning_rate": 2e-3, "epochs": 3}),
    )
    better = recorded.evaluation("v2", experiment_id="e2", metrics={"loss": 0.05, "json_valid": 1.0})
    api.add("evaluations", recorded.evaluation("v1"), better)
    shown = open_page("compare", ids="e1,e2")
    assert "Low, training loss from 2" in picture(shown)["description"]
    assert "High, validation loss" in picture(shown)["description"]
    differences, scores = (frame.value for frame in shown.dataframe)
    assert differences.to_dict("records") == [{"setting": "learning_rate", "Low": "0.0002", "High": "0.002"}]
    assert scores.to_dict("records") == [
        {"metric": "Valid JSON", "Low": "100.0 %", "High": "100.0 %", "best": ""},
        {"metric": "Loss", "Low": "0.07", "High": "0.05", "best": "High"},
    ]
    assert "Better than the base model" in text_of(shown).replace("\\", "")
    assert {links(shown)[name] for name in ("Low", "High")} == {"id=e1", "id=e2"}


def test_runs_that_differ_in_nothing_and_have_nothing_yet(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment("e1", "Same", "created"), recorded.experiment("e2", "Same", "created"))
    for identity in ("e1", "e2"):
        equip(api, identity, points=0, events=[])
    text = text_of(open_page("compare", ids="e1,e2"))
    assert "None of them has taken a step yet." in text
    assert "Every setting is the same." in text
    assert "None of them was evaluated yet." in text


@pytest.mark.parametrize("compare", ["e1", "e1,e1", "e1,gone", ","])
def test_a_comparison_of_less_than_two_says_what_is_needed(api: Recorded, open_page: Open, compare: str) -> None:
    furnish(api, recorded.experiment("e1", "Alone"))
    shown = open_page("compare", ids=compare)
    assert "Two runs or more are needed" in text_of(shown)
    assert "Choose runs" in links(shown)
    assert not shown.error


def test_no_run_yet_leads_to_the_first(open_page: Open) -> None:
    shown = open_page("runs")
    assert "Nothing was trained yet." in text_of(shown)
    assert "Train a model" in links(shown)


def test_an_opened_row_has_the_runs_page_as_its_place(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment("e1", "First"))
    assert open_page("runs", id="e1").title[0].value == "First"


def test_durations_go_to_a_file_as_seconds() -> None:
    assert tables.as_csv([{"took": tables.clock(61.4)}, {"took": tables.clock(None)}]) == b'took\r\n61.0\r\n""\r\n'
