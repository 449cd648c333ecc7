"""The Run page in each state that an experiment can be in, and what each button asks of the service."""

from __future__ import annotations

import json
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import recorded
from opening import Open, links, text_of
from recorded import Recorded, Refusal
from recorded_runs import EVENTS, equip, event, furnish


def labels(page: AppTest) -> set[str]:
    return {button.label for button in page.button}


def picture(page: AppTest) -> dict[str, Any]:
    """The specification of the losses' chart."""
    specification: dict[str, Any] = json.loads(page.get("vega_lite_chart")[0].proto.spec)
    return specification


def test_a_running_one_shows_how_far_it_is(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment("e1", "Tickets", "running"))
    shown = open_page("run", id="e1")
    text = text_of(shown)
    assert shown.title[0].value == "Tickets"
    assert shown.get("progress")[0].proto.value == 50
    assert "step 30 of 60" in shown.get("progress")[0].proto.text
    for fact in ("50 %", "1 min 35 s", "210 tokens/s", "Validation loss", "0.167"):
        assert fact in text
    assert {"Stop and keep a checkpoint", "Stop and discard"} <= labels(shown)
    assert not {"Resume", "Reproduce", "Delete for good"} & labels(shown)
    assert links(shown)["SmolLM2 135M Instruct"] == "id=m1"
    assert links(shown)["Tickets"] == "id=d1"
    assert not shown.exception


def test_the_picture_says_what_it_shows(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment())
    specification = picture(open_page("run", id="e1"))
    assert "training loss from 2 at step 1 to 0.167 at step 12" in specification["description"]
    assert specification["layer"][0]["encoding"]["y"]["scale"].get("type") != "log"
    logarithmic = picture(open_page("run", id="e1", scale="log"))
    assert logarithmic["layer"][0]["encoding"]["y"]["scale"]["type"] == "log"


def test_a_further_look_asks_for_what_is_new_alone(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment("e1", "Tickets", "running"))
    shown = open_page("run", id="e1")
    equip(api, events=[*EVENTS, event(5, "step", step=13, loss=0.125)])
    api.asked.clear()
    shown.run()
    asked = [(request.url.path, dict(request.url.params)) for request in api.asked]
    assert ("/experiments/e1/events", {"since": "4", "limit": "1000"}) in asked
    assert not any(path.endswith("/metrics") for path, _ in asked)
    assert "to 0.125 at step 13" in picture(shown)["description"]
    api.asked.clear()
    shown.run()
    assert not any(request.url.path.endswith("/events") for request in api.asked)


def test_a_waiting_one_says_its_place(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment("e1", "Tickets", "created", queue_position=3))
    equip(api, points=0, events=[])
    shown = open_page("run", id="e1")
    text = text_of(shown)
    assert "Waits: 2 before it in the queue." in text
    assert "It has reported nothing yet." in text
    assert "Stop and discard" in labels(shown)
    assert not shown.get("vega_lite_chart")


def test_the_first_step_is_awaited_in_words(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment("e1", "Tickets", "running", progress={"phase": "loading"}))
    equip(api, points=0, events=EVENTS[:1])
    assert "The first step is on its way" in text_of(open_page("run", id="e1"))


def test_a_completed_one_leads_to_its_verdict_its_scorecard_and_its_model(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment()).add("evaluations", recorded.evaluation())
    shown = open_page("run", id="e1")
    assert "Better than the base model" in shown.info[0].value
    found = links(shown)
    assert found["Evaluation"] == "id=v1"
    assert found["Model Tickets to JSON"] == "id=m2"
    assert "data=d1" in found["Clone"]
    assert {"Reproduce", "Delete for good"} <= labels(shown)
    assert "Stop and discard" not in labels(shown)


def test_a_failed_one_says_cause_and_hint_and_offers_the_change(api: Recorded, open_page: Open) -> None:
    requested = {"learning_rate": 0.001, "epochs": 3}
    furnish(api, recorded.experiment(status="failed", requested_config=requested))
    shown = open_page("run", id="e1")
    assert "The training needed more memory" in shown.error[0].value
    assert "What to do" in shown.error[0].value
    again = links(shown)["Retry with one example at a time"]
    assert "per_device_train_batch_size=1" in again
    assert "learning_rate=0.001" in again
    assert "base=m1" in again
    assert "Resume" in labels(shown)


def test_a_simulated_one_says_so_and_cannot_be_resumed(api: Recorded, open_page: Open) -> None:
    reason = "Simulated, its numbers are made up: the weights of 'GPT-2 Small' are not on this machine."
    furnish(api, recorded.experiment(status="cancelled", simulated=True, executor_reason=reason))
    shown = open_page("run", id="e1")
    text = text_of(shown)
    assert "SIMULATED" in text
    assert "its numbers are made up" in text.replace("\\", "")
    assert "Resume" not in labels(shown)


@pytest.mark.parametrize(("key", "save"), [("stop_keep", True), ("stop_discard", False)])
def test_stopping_keeps_or_discards(api: Recorded, open_page: Open, key: str, save: bool) -> None:
    furnish(api, recorded.experiment("e1", "Tickets", "running"))

    def cancel(_request: object) -> Any:
        api.rows["experiments"]["e1"]["cancel_requested"] = True
        return api.rows["experiments"]["e1"]

    api.on("POST", "/experiments/e1/cancel", cancel)
    shown = open_page("run", id="e1").button(key=key).click().run()
    assert api.sent("POST", "/experiments/e1/cancel") == [{"save": save}]
    assert "Stopping: it ends as soon as what is to be kept is saved." in [info.value for info in shown.info]
    assert shown.button(key="stopping").disabled
    assert "Stop and discard" not in labels(shown)


def test_resume_asks_for_a_further_attempt(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment(status="cancelled"))

    def resume(_request: object) -> Any:
        api.rows["experiments"]["e1"] |= {"status": "running", "attempt": 2, "finished_at": None}
        return api.rows["experiments"]["e1"]

    api.on("POST", "/experiments/e1/resume", resume)
    shown = open_page("run", id="e1").button(key="resume").click().run()
    assert "Stop and discard" in labels(shown)
    assert ">2</dd>" in text_of(shown)


def test_a_refused_action_is_a_sentence_and_the_page_stays(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment(status="failed"))
    api.refuse("POST", "/experiments/e1/resume", 409, "The run's folder is gone; start a new experiment.")
    shown = open_page("run", id="e1").button(key="resume").click().run()
    assert "The run's folder is gone; start a new experiment." in [error.value for error in shown.error]
    assert shown.title[0].value == "Tickets to JSON"


def test_delete_takes_it_away(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment())
    shown = open_page("run", id="e1").button(key="delete_sure").click().run()
    assert "e1" not in api.rows["experiments"]
    assert [info.value for info in shown.info] == ["Experiment not found. It may have been deleted."]


def test_reproduce_leads_to_the_new_run_or_says_that_it_cannot(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment())
    shown = open_page("run", id="e1").button(key="reproduce").click().run()
    assert "does not reproduce runs yet" in shown.info[0].value
    api.on("POST", "/experiments/e1/reproduce", recorded.experiment("e9", "Tickets again", "created"))
    shown = open_page("run", id="e1").button(key="reproduce").click().run()
    assert links(shown)["It runs again: open Tickets again"] == "id=e9"


@pytest.mark.parametrize(
    ("identical", "sentence"),
    [(None, "shows when it has ended"), (True, "every number is the same"), (False, "Not the same")],
)
def test_a_reproduction_says_whether_it_is_the_same(
    api: Recorded, open_page: Open, identical: bool | None, sentence: str
) -> None:
    told = {"of": "e0", "identical": identical, "differences": ["another number of threads"]}
    furnish(api, recorded.experiment(reproduction=told))
    shown = open_page("run", id="e1")
    said = [one.value for one in [*shown.info, *shown.success, *shown.warning]]
    assert any(sentence in text for text in said)
    assert links(shown)["Compare"] == "ids=e0%2Ce1"


def test_notes_on_what_was_asked_for_are_folded(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment(warnings=["learning_rate 0.5 is unusually high."]))
    text = text_of(open_page("run", id="e1"))
    assert "1 note on what was asked for" in text
    assert "unusually high" in text


@pytest.mark.parametrize(
    ("panel", "words"),
    [
        ("Events", ["Data prepared: 216 examples to learn from.", "Checkpoint at step 4."]),
        ("Checkpoints", ["★ best", "20.0 MB", "step-4"]),
        ("Settings", ["learning_rate", "0.0002", "asked for", "default", "SmolLM2 135M Instruct"]),
        ("Attempts", ["✓ completed"]),
    ],
)
def test_each_panel_has_its_own_address(api: Recorded, open_page: Open, panel: str, words: list[str]) -> None:
    furnish(api, recorded.experiment())
    shown = open_page("run", id="e1", panel=panel)
    text = "\n".join(str(value) for value in shown.dataframe[0].value.to_numpy().ravel())
    for word in words:
        assert word in text
    others = {"Checkpoints": "checkpoints", "Attempts": "runs", "Log": "logs"}
    paths = {request.url.path.rpartition("/")[2] for request in api.asked}
    assert not {part for name, part in others.items() if name != panel} & paths


def test_the_log_is_its_last_lines(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment())
    shown = open_page("run", id="e1", panel="Log")
    assert shown.code[0].value == "loading\nstep 1\nstep 2"
    assert "2.0 KB in all" in text_of(shown)


@pytest.mark.parametrize("panel", ["Events", "Log", "Checkpoints"])
def test_empty_panels_say_so(api: Recorded, open_page: Open, panel: str) -> None:
    api.add("experiments", recorded.experiment())
    shown = open_page("run", id="e1", panel=panel)
    assert not shown.dataframe
    assert "nothing" in text_of(shown) or "no checkpoint" in text_of(shown)


def test_what_it_refers_to_may_be_gone(api: Recorded, open_page: Open) -> None:
    api.add("experiments", recorded.experiment())
    shown = open_page("run", id="e1")
    assert "deleted" in links(shown)
    assert not shown.error


def test_a_service_that_goes_away_leaves_the_picture_and_one_calm_sentence(api: Recorded, open_page: Open) -> None:
    furnish(api, recorded.experiment("e1", "Tickets", "running"))

    def away(_request: object) -> Any:
        raise Refusal(503, "The service is starting.")

    shown = open_page("run", id="e1")
    api.on("GET", "/experiments/e1/events", away)
    api.rows["experiments"]["e1"]["last_event_id"] = 5
    shown.run()
    assert [warning.value for warning in shown.warning] == [
        "The service is starting. This page goes on by itself when it is back; trainings go on meanwhile."
    ]
    assert len(shown.get("vega_lite_chart")) == 1
    assert not shown.exception


def test_without_a_run_there_is_a_way_to_one(open_page: Open) -> None:
    shown = open_page("run")
    assert "No run was chosen." in text_of(shown)
    assert "Choose one" in links(shown)
