"""What differs between runs, and how a run is asked for again: pure functions."""

from __future__ import annotations

from typing import Any

import pytest
from slm_client import ExperimentDetail

import recorded
from components import comparison, retry, standing
from components.history import Column, History

NAMES = {"m1": "SmolLM2", "d1": "Tickets", "d2": "Held out"}


def detail(identity: str = "e1", name: str = "First", status: str = "completed", **changes: Any) -> ExperimentDetail:
    return ExperimentDetail.read(recorded.experiment(identity, name, status, **changes))


def test_only_what_differs_is_shown_and_what_one_lacks_differs() -> None:
    first = comparison.asked(detail(training_config={"learning_rate": 2e-4, "epochs": 3, "seed": 1}), NAMES)
    second = comparison.asked(
        detail(training_config={"learning_rate": 1e-3, "epochs": 3}, eval_dataset_id="d2", base_model_id="gone"), NAMES
    )
    assert comparison.differences({"A": first, "B": second}) == [
        {"setting": "base model", "A": "SmolLM2", "B": "deleted"},
        {"setting": "evaluation data", "A": "a part held out", "B": "Held out"},
        {"setting": "learning_rate", "A": "0.0002", "B": "0.001"},
        {"setting": "seed", "A": "1", "B": "–"},
    ]
    assert comparison.differences({"A": first, "B": first}) == []


def test_a_null_is_not_the_same_as_nothing_said() -> None:
    assert comparison.differences({"A": {"max_steps": None}, "B": {}}) == [{"setting": "max_steps", "A": "–", "B": "–"}]


def test_runs_of_one_name_can_be_told_apart() -> None:
    early, late = detail(created_at="2026-11-24T10:00:00Z"), detail("e2", created_at="2026-11-24T10:00:05Z")
    labels = comparison.labels([early, late, detail("e3", "Other")])
    assert labels == ["First (Nov 24, 10:00:00)", "First (Nov 24, 10:00:05)", "Other"]


def test_the_best_is_the_lowest_loss_and_the_highest_score_and_nobody_at_a_tie() -> None:
    rows = comparison.scorecards(
        {
            "A": {"loss": 0.5, "f1": 0.8, "accuracy": 1.0},
            "B": {"loss": 0.4, "f1": 0.9, "accuracy": 1.0},
            "C": {"chrf": 3.0},
        }
    )
    assert [(row["metric"], row["best"]) for row in rows] == [
        ("accuracy", ""),
        ("f1", "B"),
        ("chrf", ""),
        ("loss", "B"),
    ]
    assert rows[-1] == {"metric": "loss", "A": 0.5, "B": 0.4, "C": None, "best": "B"}
    read = comparison.readable(rows, ["A", "B", "C"])
    assert read[0] == {"metric": "Accuracy", "A": "100.0 %", "B": "100.0 %", "C": "–", "best": ""}
    assert read[-1] == {"metric": "Loss", "A": "0.5", "B": "0.4", "C": "–", "best": "B"}


def test_the_same_again_is_what_was_asked_for_and_not_what_became_of_it() -> None:
    experiment = detail(
        training_config={"learning_rate": 2e-4, "epochs": 3, "lora_r": 16},
        requested_config={"learning_rate": 0.0002, "epochs": 10.0, "packing": True, "max_steps": None},
        eval_dataset_id="d2",
        goal="JSON",
    )
    assert retry.address(experiment) == {
        "data": "d1", "eval": "d2", "base": "m1", "name": "First", "goal": "JSON",
        "learning_rate": "0.0002", "epochs": "10", "packing": "true",
    }  # fmt: skip
    assert retry.address(experiment, epochs=None, lora_r=8) | {"lora_r": "8"} == retry.address(
        experiment, epochs=None, lora_r=8
    )
    assert "epochs" not in retry.address(experiment, epochs=None)
    patient = detail(requested_config={"early_stopping_patience": None})
    assert retry.address(patient)["never_stop_early"] == "true"
    wanted = detail(executor="simulation", requested_executor="simulation")
    assert retry.address(wanted)["executor"] == "simulation"
    forced = detail(executor="simulation", requested_executor="auto")
    assert "executor" not in retry.address(forced)


@pytest.mark.parametrize(
    ("code", "config", "settings"),
    [
        ("out_of_memory", {"adapter": "full"}, {"adapter": "lora", "learning_rate": None}),
        ("out_of_memory", {"adapter": "lora"}, {"per_device_train_batch_size": 1}),
        (
            "process_died",
            {"per_device_train_batch_size": 1, "max_length": 512},
            {"max_length": 256, "per_device_train_batch_size": 1},
        ),
        ("loss_not_finite", {"learning_rate": 3e-3}, {"learning_rate": 3e-4}),
        ("nothing_to_learn", {"max_length": 16}, {"max_length": 32}),
        ("simulated_failure", {}, {"simulated_failure_rate": 0}),
    ],
)
def test_each_failure_has_its_change(code: str, config: dict[str, Any], settings: dict[str, Any]) -> None:
    change = retry.change(detail(status="failed", training_config=config, error=recorded.error(code=code)))
    assert change is not None
    assert change.settings == settings
    assert change.label.startswith("with")


def test_where_no_setting_would_help_none_is_offered() -> None:
    assert retry.change(detail(status="failed", error=recorded.error(code="disk_full"))) is None
    assert retry.change(detail()) is None


def test_how_a_run_stands() -> None:
    seen = History(train_loss=Column([1, 2], [2.0, 1.0]), val_loss=Column([1, 2], [0.5, 0.75]))
    running = detail(status="running", started_at=recorded.stamp(2), attempt=2)
    told = {name: value for name, value in standing.facts(running, seen, recorded.NOW).items() if value is not None}
    assert told == {
        "Step": "30 of 60", "Done": "50 %", "Epoch": "1.5", "Elapsed": "2 min 00 s", "Left": "1 min 35 s",
        "Speed": "210 tokens/s", "Training loss": "1", "Validation loss": "0.75", "Best validation loss": "0.5",
        "Attempt": "2",
    }  # fmt: skip
    ended = {name: value for name, value in standing.facts(detail(), History()).items() if value is not None}
    assert ended == {"Took": "9 min 00 s"}
    assert standing.percent("completed", None) == 100
    assert standing.percent("failed", running.progress) is None
    assert standing.percent("running", running.progress) == 50
    assert standing.percent("created", None) is None
    assert standing.elapsed(None, None) is None
