"""The Train page: choices that fit, what is sent, the plan, and what it says where something is missing."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from streamlit.testing.v1 import AppTest

import recorded
from opening import Open, links, text_of
from recorded import Recorded, Refusal
from recorded_settings import describe, plan

PLAN, CREATE = "/experiments/plan", "/experiments"


@pytest.fixture
def ready(api: Recorded) -> Recorded:
    """Data for training and scoring, a base with its weights, a service that describes itself and plans."""
    api.add("datasets", recorded.dataset("d2", "Held out", dataset_type="evaluation"), recorded.dataset())
    api.add("models", recorded.model())
    describe(api)
    api.on("POST", PLAN, plan())
    api.on("POST", CREATE, recorded.experiment("e9", "Tickets on SmolLM2", "created"))
    return api


def asked(api: Recorded) -> dict[str, Any]:
    """The last plan that was asked for."""
    return api.sent("POST", PLAN)[-1]


def started(page: AppTest, api: Recorded) -> dict[str, Any]:
    page.button(key="start").click().run()
    assert not page.exception
    return api.sent("POST", CREATE)[-1]


def options(page: AppTest, name: str) -> list[str]:
    return [*page.selectbox(key=f"pick_{name}").options]


def test_sensible_choices_are_made_and_nothing_more_is_sent(ready: Recorded, open_page: Open) -> None:
    shown = open_page("train")
    assert not shown.exception
    assert not shown.error
    assert asked(ready) == {
        "base_model_id": "m1", "training_dataset_id": "d1", "eval_dataset_id": None,
        "training_config": {"method": "sft", "adapter": "lora"},
    }  # fmt: skip
    text = text_of(shown)
    for told in ("about 7 min 23 s", "about 1.7 GB", "81", "216 rows", "24 rows", "Estimated by formula"):
        assert told in text
    sent = started(shown, ready)
    assert sent["name"] == "Tickets on SmolLM2 135M Instruct"
    assert sent["training_config"] == {"method": "sft", "adapter": "lora"}
    assert "it starts by itself" in shown.success[0].value
    assert links(shown)["Watch it"] == "id=e9"


def test_every_choice_stands_in_the_address_and_is_taken_from_it(ready: Recorded, open_page: Open) -> None:
    shown = open_page(
        "train", data="d1", eval="d2", base="m1", adapter="full", preset="quick", learning_rate="0.001", epochs="10",
        lr_scheduler_type="linear", lora_r="8", name="Again", goal="JSON", executor="local", of_tomorrow="5",
    )  # fmt: skip
    sent = started(shown, ready)
    assert sent == {
        "name": "Again", "goal": "JSON", "description": "", "base_model_id": "m1", "training_dataset_id": "d1",
        "eval_dataset_id": "d2", "executor": "local",
        "training_config": {
            "method": "sft", "adapter": "full", "epochs": 10, "max_length": 256, "eval_max_rows": 64,
            "generate_max_rows": 16, "learning_rate": 0.001, "lr_scheduler_type": "linear", "of_tomorrow": 5,
        },
    }  # fmt: skip
    assert shown.query_params["learning_rate"] in ("0.001", ["0.001"])


def test_what_is_typed_stands_above_the_preset_and_is_planned_anew(ready: Recorded, open_page: Open) -> None:
    shown = open_page("train")
    shown.number_input(key="learning_rate").set_value(0.003).run()
    assert asked(ready)["training_config"]["learning_rate"] == 0.003
    plans = len(ready.sent("POST", PLAN))
    shown.run()
    assert len(ready.sent("POST", PLAN)) == plans
    assert "`learning_rate` 0.001" in text_of(shown)


def test_each_setting_has_the_services_own_words_and_bounds(ready: Recorded, open_page: Open) -> None:
    shown = open_page("train")
    epochs = shown.number_input(key="epochs")
    assert epochs.help == "Passes over the training examples."
    length = shown.number_input(key="max_length")
    assert (length.min, length.max, length.value) == (8, 131072, None)
    assert shown.selectbox(key="lr_scheduler_type").options == ["cosine", "linear"]
    keys = {one.key for one in shown.number_input}
    assert "of_tomorrow" in keys
    assert "dpo_beta" not in keys
    assert "simulated_failure_rate" not in keys


@pytest.mark.parametrize(
    ("kind", "task", "methods", "why_not"),
    [
        ("prompt_completion", "causal", ["Answer as the examples do"], "these data are prompts with completions"),
        ("classification", "causal", ["Label texts"], "it needs a base that reads text as a whole"),
        ("classification", "encoder", ["Label texts", "Fill in hidden words"], "it learns from plain texts"),
        ("preference", "causal", ["Prefer better answers"], "pairs of a better and a worse answer"),
        ("text", "encoder", ["Fill in hidden words"], "this one reads text as a whole"),
        ("text", "causal", ["Answer as the examples do", "Go on reading plain text"], ""),
    ],
)  # fmt: skip
def test_only_methods_that_fit_are_offered_and_the_others_say_why(
    ready: Recorded, open_page: Open, kind: str, task: str, methods: list[str], why_not: str
) -> None:
    ready.add("datasets", recorded.dataset(kind=kind))
    ready.add("models", recorded.model(metadata={"weights": "present", "task": task}))
    shown = open_page("train")
    assert options(shown, "method") == methods
    assert why_not in text_of(shown)


def test_data_and_base_that_no_method_brings_together(ready: Recorded, open_page: Open) -> None:
    ready.add("models", recorded.model(metadata={"weights": "present", "task": "encoder"}))
    shown = open_page("train")
    assert "No method fits these data and this base model." in [warning.value for warning in shown.warning]
    assert "it needs a base that continues text" in text_of(shown)
    assert not [button for button in shown.button if button.key == "start"]
    assert not ready.sent("POST", PLAN)


def test_adapters_need_their_machine(ready: Recorded, open_page: Open) -> None:
    shown = open_page("train")
    assert options(shown, "adapter") == ["LoRA", "Every weight"]
    assert "it needs a CUDA GPU" in text_of(shown)
    ready.system["hardware"]["gpus"] = [{"name": "A GPU"}]
    assert options(open_page("train"), "adapter") == ["LoRA", "Every weight", "QLoRA"]


def test_absent_weights_mean_a_simulation_and_how_to_get_them(ready: Recorded, open_page: Open) -> None:
    ready.add("models", recorded.model(metadata={"weights": "absent", "task": "causal"}))
    reason = (
        "Simulated, its numbers are made up: the weights of 'SmolLM2' are not on this machine; POST /models/m1/pull."
    )
    ready.on("POST", PLAN, plan(simulated=True, executor="simulation", executor_reason=reason))
    ready.on("POST", "/models/m1/pull", recorded.run("p1", "pull", "queued"))
    shown = open_page("train")
    warnings = " ".join(warning.value for warning in shown.warning)
    assert "**simulated**: made-up numbers" in warnings
    assert "Fetch them here to train for real" in warnings.replace("\\", "")
    assert "POST" not in warnings
    assert "simulated_failure_rate" in {one.key for one in shown.number_input}
    assert "SIMULATED" in text_of(shown)
    assert "about" not in "".join(one.proto.body for one in shown.get("html") if "Steps" in one.proto.body)
    assert shown.button(key="start").label == "Start the simulation"
    shown.button(key="train_fetch").click().run()
    assert len(ready.sent("POST", "/models/m1/pull")) == 1


def test_weights_on_their_way_show_how_far(ready: Recorded, open_page: Open) -> None:
    pull = {"run_id": "p1", "progress": {"phase": "downloading", "done": 46_000_000, "total": 92_000_000}}
    ready.add("models", recorded.model(metadata={"weights": "pulling", "task": "causal", "pull": pull}))
    shown = open_page("train")
    assert "46.0 MB of 92.0 MB" in shown.get("progress")[0].proto.text
    assert not shown.exception


def test_a_simulation_that_was_asked_for_says_the_services_reason(ready: Recorded, open_page: Open) -> None:
    reason = "Simulation was asked for: its numbers are made up."
    ready.on("POST", PLAN, plan(simulated=True, executor="simulation", executor_reason=reason))
    shown = open_page("train", executor="simulation", simulated_failure_rate="1")
    assert asked(ready)["executor"] == "simulation"
    assert asked(ready)["training_config"]["simulated_failure_rate"] == 1
    assert any("Simulation was asked for" in warning.value for warning in shown.warning)


def test_never_stopping_early_is_not_the_same_as_leaving_it_to_the_service(ready: Recorded, open_page: Open) -> None:
    open_page("train")
    assert "early_stopping_patience" not in asked(ready)["training_config"]
    shown = open_page("train", never_stop_early="true", preset="thorough")
    assert asked(ready)["training_config"]["early_stopping_patience"] is None
    assert "never_stop_early" not in asked(ready)["training_config"]
    assert "`early_stopping_patience` never" in text_of(shown)


def test_the_measured_plan_takes_the_place_of_the_formula(ready: Recorded, open_page: Open) -> None:
    def planned(request: httpx2.Request) -> Any:
        return plan(measured=request.url.params.get("measure") == "true")

    ready.on("POST", PLAN, planned)
    shown = open_page("train").button(key="measure").click().run()
    text = text_of(shown)
    assert "Measured by a trial on this machine." in text
    assert "about 1.7 GB" not in text
    assert "1.7 GB" in text
    assert "measure" not in {button.key for button in shown.button}


def test_warnings_and_overlap_stand_in_the_plan(ready: Recorded, open_page: Open) -> None:
    overlap = {"exact": 2, "normalised": 1, "near": 0, "rows": 64, "share": 0.05, "examples": []}
    ready.on("POST", PLAN, plan(warnings=["learning_rate 0.5 is unusually high."], overlap=overlap))
    said = [warning.value.replace("\\", "") for warning in open_page("train", eval="d2").warning]
    assert "learning_rate 0.5 is unusually high." in said
    assert any(text.startswith("3 of 64 evaluation rows are training rows too") for text in said)


@pytest.mark.parametrize("status", [404, 405])
def test_a_service_that_does_not_plan_can_train_all_the_same(ready: Recorded, open_page: Open, status: int) -> None:
    ready.refuse("POST", PLAN, status, "Not Found", "not_found")
    shown = open_page("train")
    assert "does not plan ahead" in text_of(shown)
    assert not shown.error
    assert started(shown, ready)["base_model_id"] == "m1"


def test_what_the_service_would_refuse_cannot_be_started(ready: Recorded, open_page: Open) -> None:
    ready.refuse("POST", PLAN, 422, "training_config.learning_rate: must be greater than 0.")
    shown = open_page("train", learning_rate="0")
    assert [error.value for error in shown.error] == ["training_config.learning_rate: must be greater than 0."]
    assert shown.button(key="start").disabled


def test_a_refused_start_is_a_sentence_and_nothing_is_lost(ready: Recorded, open_page: Open) -> None:
    ready.refuse("POST", CREATE, 409, "The disk is nearly full.")
    shown = open_page("train", name="Mine").button(key="start").click().run()
    assert [error.value for error in shown.error] == ["The disk is nearly full."]
    assert shown.text_input(key="name").value == "Mine"
    assert "Watch it" not in links(shown)


def test_data_that_nobody_can_read_yet_say_what_would_help(ready: Recorded, open_page: Open) -> None:
    ready.add("datasets", recorded.dataset(kind=None, mapping=None, kind_reason="Give a mapping."))
    shown = open_page("train")
    assert any("Say on its page which one is what" in warning.value for warning in shown.warning)
    assert links(shown)["Look at rows and tokens"] == "id=d1"


def test_an_address_whose_data_and_base_are_gone_says_so(ready: Recorded, open_page: Open) -> None:
    shown = open_page("train", data="gone", base="gone")
    said = [info.value for info in shown.info]
    assert said == [
        "The data that this address names are gone. Another was chosen.",
        "The base model that this address names is gone. Another was chosen.",
    ]


def test_tuned_models_can_be_trained_further_and_simulated_ones_cannot(ready: Recorded, open_page: Open) -> None:
    ready.add(
        "models",
        recorded.model("m2", "Tickets to JSON", model_type="fine_tuned"),
        recorded.model("m3", "Pretend", model_type="fine_tuned", simulated=True),
    )
    labels = options(open_page("train"), "base")
    assert any(label.startswith("Tickets to JSON · tuned") for label in labels)
    assert not any("Pretend" in label for label in labels)


def test_equal_names_are_told_apart(ready: Recorded, open_page: Open) -> None:
    ready.add("datasets", recorded.dataset("d3", created_at=recorded.stamp(90)))
    labels = options(open_page("train"), "data")
    assert len(set(labels)) == len(labels) == 3


def test_without_data_or_base_there_is_a_way_to_them(api: Recorded, open_page: Open) -> None:
    shown = open_page("train")
    assert "There is no data to learn from yet." in text_of(shown)
    assert "Upload data" in links(shown)
    api.add("datasets", recorded.dataset())
    shown = open_page("train")
    assert "There is no base model to start from." in text_of(shown)
    assert not shown.error


def test_a_service_that_goes_away_while_planning_gives_one_calm_sentence(ready: Recorded, open_page: Open) -> None:
    def away(_request: httpx2.Request) -> Any:
        raise Refusal(503, "The service is starting.")

    ready.on("POST", PLAN, away)
    shown = open_page("train")
    assert not shown.exception
    assert any("The service is starting." in warning.value for warning in shown.warning)
    assert not shown.error


def test_an_old_service_without_a_description_still_trains(ready: Recorded, open_page: Open) -> None:
    ready.refuse("GET", "/openapi.json", 404, "Not Found", "not_found")
    shown = open_page("train")
    assert options(shown, "method") == ["Answer as the examples do"]
    assert json.loads(json.dumps(started(shown, ready)))["training_config"] == {"method": "sft", "adapter": "lora"}
