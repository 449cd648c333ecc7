"""`POST /experiments/plan` by formula: every default with its reason, every figure with its basis, kept at creation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tiny_models import base_folder, task_rows

from app.config import Settings
from app.main import FastAPI
from app.models import Dataset
from app.services import outlook
from app.services.plan import Trials, data_of, figures, measured, planned_and_actual, shape_in
from slm.plan import Data, estimate
from slm.shape import Shape
from slm.spec import resolve

FIGURES = {"steps", "tokens", "memory_bytes", "seconds", "cpu_seconds", "checkpoint_bytes"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"supervise": False})


@pytest.fixture
def base(client: TestClient, settings: Settings, weights: Path) -> str:
    shutil.copytree(weights, settings.models_dir / weights.name)
    return str(client.post("/models", json={"name": "tiny", "source": {"folder": weights.name}}).json()["id"])


def upload(client: TestClient, rows: list[dict[str, Any]]) -> str:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    form = {"name": "rows", "dataset_type": "training"}
    return str(client.post("/datasets/upload", files={"file": ("r.jsonl", content)}, data=form).json()["id"])


def _talk(*roles: str) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": "words"} for role in roles]}


def plan(client: TestClient, body: dict[str, Any], **params: str) -> dict[str, Any]:
    answer = client.post("/experiments/plan", json=body, params=params)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_every_default_has_its_reason_and_every_figure_its_basis(client: TestClient, base: str) -> None:
    body = {"base_model_id": base, "training_dataset_id": upload(client, task_rows(100))}
    found = plan(client, body | {"training_config": {"epochs": 2, "batch_size": 10}})
    assert (found["executor"], found["simulated"], found["method"], found["adapter"]) == ("local", False, "sft", "lora")
    config, reasons = found["training_config"], found["reasons"]
    assert (config["epochs"], config["batch_size"], config["learning_rate"]) == (2, 10, 2e-4)
    assert {"epochs", "batch_size"} & set(reasons) == set()
    assert reasons["learning_rate"] == "usual for sft with lora."
    assert all(sentence.endswith(".") for sentence in reasons.values())
    assert {name: found[name]["basis"] for name in FIGURES} == dict.fromkeys(FIGURES, "formula")
    assert (found["train_examples"], found["eval_examples"], found["steps"]["value"]) == (90, 10, 18)
    assert found["measured"] is False
    assert found["overlap"] is None
    assert client.get("/experiments").json() == []


def test_no_patience_is_shown_and_kept_as_it_was_asked(client: TestClient, base: str) -> None:
    body = {"base_model_id": base, "training_dataset_id": upload(client, task_rows(40))}
    assert plan(client, body)["training_config"]["early_stopping_patience"] == 3
    body |= {"training_config": {"early_stopping_patience": None}}
    found = plan(client, body)
    assert found["training_config"]["early_stopping_patience"] is None
    assert "early_stopping_patience" not in found["reasons"]
    made = client.post("/experiments", json=body | {"name": "whole way"}).json()
    assert made["training_config"]["early_stopping_patience"] is None


def test_more_rows_take_more(client: TestClient, base: str) -> None:
    few, many = (
        plan(client, {"base_model_id": base, "training_dataset_id": upload(client, task_rows(count))})
        for count in (50, 500)
    )
    for name in ("steps", "tokens"):
        assert 8 < many[name]["value"] / few[name]["value"] < 12, name
    assert many["cpu_seconds"]["value"] > few["cpu_seconds"]["value"]
    full = {"adapter": "full"}
    body = {"base_model_id": base, "training_dataset_id": upload(client, task_rows(50)), "training_config": full}
    assert plan(client, body)["memory_bytes"]["value"] > few["memory_bytes"]["value"]


@pytest.mark.parametrize(
    ("rows", "turns", "own_system"),
    [
        ([{"prompt": "a", "completion": "b"}], 2, False),
        ([{"system": "s", "prompt": "a", "completion": "b"}], 3, True),
        ([_talk("system", "user", "assistant"), _talk("system", *("user", "assistant") * 2)], 4, True),
        ([_talk("user", "assistant"), _talk(*("user", "assistant") * 2)], 3, False),
    ],
)
def test_what_a_row_is_follows_from_the_statistics(
    client: TestClient, rows: list[dict[str, Any]], turns: float, own_system: bool
) -> None:
    app = client.app
    assert isinstance(app, FastAPI)
    with app.state.database.read() as session:
        found = data_of(session.get_one(Dataset, upload(client, rows)), None)
    assert (found.turns, found.own_system, found.plain) == (turns, own_system, False)


def test_plain_texts_have_no_template(client: TestClient) -> None:
    app = client.app
    assert isinstance(app, FastAPI)
    with app.state.database.read() as session:
        found = data_of(session.get_one(Dataset, upload(client, [{"text": "one"}, {"text": "two"}])), None)
    assert (found.plain, found.characters) == (True, 6)


@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_chat_template_beside_the_weights_is_seen(tmp_path: Path, where: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 64, "n_positions": 128}))
    assert shape_in(tmp_path, 1000).templated is False
    (tmp_path / where).write_text(json.dumps({"chat_template": "{{ messages }}"}))
    found = shape_in(tmp_path, 1000)
    assert (found.templated, found.positions, found.hidden, found.parameters) == (True, 128, 64, 1000)


def test_overlap_is_told_before_it_falsifies_a_result(client: TestClient, base: str) -> None:
    rows = task_rows(40)
    held_out = upload(client, [*rows[:3], {"prompt": "wholly new?", "completion": "yes"}])
    body = {"base_model_id": base, "training_dataset_id": upload(client, rows), "eval_dataset_id": held_out}
    found = plan(client, body)
    assert found["eval_examples"] == 4
    assert {key: found["overlap"][key] for key in ("exact", "rows", "share")} == {"exact": 3, "rows": 4, "share": 0.75}
    assert found["overlap"]["metrics_without"] is None
    assert any(warning.startswith("3 of 4 evaluation rows are, or nearly are") for warning in found["warnings"])


def test_a_comparison_that_takes_too_long_is_left_out(
    client: TestClient, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = upload(client, task_rows(40))
    monkeypatch.setattr(outlook, "OVERLAP_SECONDS", 0.001)
    found = plan(client, {"base_model_id": base, "training_dataset_id": rows, "eval_dataset_id": rows})
    assert found["overlap"] is None
    assert "The comparison of the datasets took longer than 0.001 s." in found["warnings"]


def test_what_would_be_simulated_is_said(client: TestClient) -> None:
    first = client.get("/models?model_type=base").json()[0]
    body = {"base_model_id": first["id"], "training_dataset_id": upload(client, task_rows(5))}
    found = plan(client, body, measure="true")
    assert (found["executor"], found["simulated"], found["measured"]) == ("simulation", True, False)
    assert "pull" in found["executor_reason"]


def test_the_plan_is_kept_at_creation(client: TestClient, base: str) -> None:
    body = {"base_model_id": base, "training_dataset_id": upload(client, task_rows(40)), "training_config": {}}
    found = plan(client, body)
    made = client.post("/experiments", json=body | {"name": "kept"}).json()
    assert made["plan"] == {name: found[name] for name in (*FIGURES, "train_examples", "eval_examples")}


def test_what_was_measured_of_the_same_request_is_kept_in_its_place(client: TestClient, base: str) -> None:
    app = client.app
    assert isinstance(app, FastAPI)
    dataset = upload(client, [*task_rows(40), {"prompt": "x", "completion": ""}])
    body = {"base_model_id": base, "training_dataset_id": dataset, "training_config": {"epochs": 2}}
    formula = plan(client, body)
    assert "1 of 41 training rows cannot be used; see the dataset's faults." in formula["warnings"]
    trials: Trials = app.state.trials
    taken: dict[str, Any] = dict.fromkeys(FIGURES, 9) | {"seconds": 1.5, "cpu_seconds": 2.25}
    taken |= {"train_examples": 36, "eval_examples": 4, "warnings": ["1 row was cut."]}
    name = next(iter(_names(client, body)))
    trials.remember(name, taken)
    found = plan(client, body)
    assert found["measured"] is True
    assert found["seconds"] == {"value": 1.5, "low": 0.75, "high": 3.0, "basis": "measured"}
    assert found["warnings"] == ["1 row was cut."]  # a trial tells of each row itself
    made = client.post("/experiments", json=body | {"name": "kept"}).json()
    assert made["plan"]["cpu_seconds"] == {"value": 2.25, "low": 1.5, "high": 3.375, "basis": "measured"}
    other = client.post("/experiments", json=body | {"name": "other", "training_config": {"epochs": 3}}).json()
    assert other["plan"]["cpu_seconds"]["basis"] == formula["cpu_seconds"]["basis"] == "formula"


def _names(client: TestClient, body: dict[str, Any]) -> list[str]:
    from app.routes.plan import requested
    from app.schemas.experiment import NewPlan

    app = client.app
    assert isinstance(app, FastAPI)
    with app.state.database.read() as session:
        settings = app.state.settings
        wanted = requested(session, NewPlan(**body), settings, name="x")
        return [outlook.prepare(session, wanted, settings, Trials()).name]


def test_what_a_trial_did_not_find_stays_the_formulas() -> None:
    """On a GPU there is no processor time, neither by formula nor measured."""
    config, _ = resolve({})
    shape, data = Shape.of(1_000_000, None), Data(rows=100, characters=10_000)
    formula = estimate(config, shape=shape, data=data, cores=2, gpu=True)
    taken = measured(formula, {"tokens": 77, "seconds": 4.0, "cpu_seconds": None, "warnings": ["x"], "parts": {}})
    assert (taken.basis, taken.tokens, taken.seconds, taken.cpu_seconds) == ("measured", 77, 4.0, None)
    assert taken.checkpoint_bytes == formula.checkpoint_bytes
    shown = figures(taken)
    assert shown["tokens"] == {"value": 77, "low": 77, "high": 77, "basis": "measured"}
    assert shown["seconds"] == {"value": 4.0, "low": 2.0, "high": 8.0, "basis": "measured"}
    assert shown["cpu_seconds"] is None


def test_few_trials_are_remembered() -> None:
    trials = Trials()
    for number in range(150):
        trials.remember(str(number), {"steps": number})
    assert trials.of("49") is None
    assert trials.of("149") == {"steps": 149}


def test_planned_and_actual_stand_side_by_side() -> None:
    plan_of = {"steps": {"value": 4}, "tokens": {"value": 9}, "seconds": {"value": 2.0}}
    statistics = {"total_steps": 4, "tokens_seen": 80, "peak_memory_bytes": 7, "cpu_seconds": 3.5}
    planned, actual = planned_and_actual(plan_of, statistics, seconds=2.34)
    assert planned == {"steps": 4, "tokens": 9, "seconds": 2.0, "memory_bytes": None, "cpu_seconds": None}
    assert actual == {"steps": 4, "tokens": 80, "seconds": 2.3, "memory_bytes": 7, "cpu_seconds": 3.5}
    assert planned_and_actual(None, statistics, seconds=1) == (None, None)
