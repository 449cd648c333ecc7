"""What a page that watches many runs asks for: progress in the list, events of some types, where deltas go on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import insert
from test_wire_contract import create, ended

from app.config import Settings
from app.database import Database
from app.models import Dataset, Event, Experiment, Model, Run
from app.models.columns import new_id, utcnow
from app.services import evaluation as evaluations
from app.services import experiment as experiments

Told = tuple[str, int, int | None, dict[str, Any]]


def write_events(database: Database, told: list[Told]) -> str:
    """An experiment with these events (type, attempt, step, payload), a second apart; returns its id."""
    identity, run, now = new_id(), new_id(), utcnow()

    def write(session: Any) -> None:
        base = Model(name="b", model_type="base", architecture="transformer", parameters_count=1)
        rows = Dataset(
            name="d", dataset_type="training", row_count=1, file_name="d.csv", stored_name=identity, file_format="csv",
            size_bytes=1, sha256="0" * 64,
        )  # fmt: skip
        session.add_all([base, rows])
        session.flush()
        session.add(
            Experiment(
                id=identity, name="e", status="running", base_model_id=base.id, training_dataset_id=rows.id,
                training_config={}, requested_config={}, executor="local", executor_reason="", simulated=False,
                method="sft", adapter="lora", seed=1, run_id=run, event_count=len(told),
            )
        )  # fmt: skip
        session.flush()
        session.add(
            Run(
                id=run, task="train", experiment_id=identity, state="running", executor="local", directory=identity,
                spec={}, lease_until=now, progress={"step": 3, "total_steps": 9, "percent": 33.3},
            )
        )  # fmt: skip
        session.flush()
        session.execute(
            insert(Event),
            [
                {
                    "run_id": run, "experiment_id": identity, "number": at, "seq": at, "attempt": attempt, "type": kind,
                    "step": step, "time": now + timedelta(seconds=at), "payload": payload,
                }
                for at, (kind, attempt, step, payload) in enumerate(told, start=1)
            ],
        )  # fmt: skip

    database.write(write)
    return identity


def step(number: int, loss: float | None, attempt: int = 1) -> Told:
    return "step", attempt, number, {"step": number, "loss": loss, "learning_rate": 1e-4}


TOLD: list[Told] = [
    ("started", 1, None, {"resumed_from_step": None}),
    *(step(number, number / 3) for number in range(1, 7)),
    ("evaluated", 1, 4, {"step": 4, "val_loss": 0.4}),
    ("evaluated", 1, 6, {"step": 6, "val_loss": 0.6}),
    ("started", 2, None, {"resumed_from_step": 4}),
    step(5, None, 2),
    step(6, 0.125, 2),
]


def test_curves_are_the_same_numbers_on_every_database(database: Database) -> None:
    identity = write_events(database, TOLD)
    with database.read() as session:
        found = evaluations.curves(session, identity, keys=["val_loss", "train_loss"], since=0, points=None)
        few = evaluations.curves(session, identity, keys=["train_loss"], since=0, points=2)["train_loss"]
    assert list(found) == ["val_loss", "train_loss"]
    assert found["val_loss"]["step"] == [4]
    assert found["train_loss"]["step"] == [1, 2, 3, 4, 6]
    assert found["train_loss"]["value"] == [1 / 3, 2 / 3, 1.0, 4 / 3, 0.125]
    seconds = [(time - found["train_loss"]["time"][0]).total_seconds() for time in found["train_loss"]["time"]]
    assert seconds == [0, 1, 2, 3, 10]
    assert set(few["value"]) == {4 / 3, 0.125}


def test_an_attempt_that_said_nothing_yet_supersedes_too(database: Database) -> None:
    identity = write_events(database, TOLD[:10])
    with database.read() as session:
        found = evaluations.curves(session, identity, keys=["train_loss", "val_loss"], since=0, points=None)
    assert found["train_loss"]["step"] == [1, 2, 3, 4]
    assert found["val_loss"]["step"] == [4]


def test_times_of_a_long_curve_belong_to_its_points(database: Database) -> None:
    """More points than are asked for one by one."""
    identity = write_events(database, [step(number, float(number)) for number in range(1, 4502)])
    with database.read() as session:
        curve = evaluations.curves(session, identity, keys=["train_loss"], since=1, points=None)["train_loss"]
    assert curve["step"] == list(range(2, 4502))
    assert all(later - earlier == timedelta(seconds=1) for earlier, later in zip(curve["time"], curve["time"][1:]))  # noqa: B905


def test_events_of_some_types_and_progress_of_those_under_way(database: Database) -> None:
    identity = write_events(database, TOLD)
    with database.read() as session:
        found = experiments.events(session, identity, since=1, types=["started", "evaluated"])
        row = experiments.get(session, identity)
        progress = experiments.progress(session, [row])
        row.status = "completed"
        assert experiments.progress(session, [row]) == {}
        session.expunge_all()
    assert [event["type"] for event in found] == ["evaluated", "evaluated", "started"]
    assert [*progress.values()] == [{"step": 3, "total_steps": 9, "percent": 33.3}]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"training_simulation_delay": 0.3})


def test_a_list_says_how_far_each_is_and_a_detail_where_deltas_begin(client: TestClient) -> None:
    made = create(client, executor="simulation")
    address = f"/experiments/{made['id']}"
    listed = client.get("/experiments").json()[0]
    assert set(listed) < set(client.get(address).json())
    assert "progress" in listed
    ended(client, made["id"])
    detail = client.get(address).json()
    assert client.get("/experiments").json()[0]["progress"] is None
    assert detail["progress"]["percent"] == 100
    everything = client.get(f"{address}/events").json()
    assert detail["last_event_id"] == everything[-1]["id"]
    assert detail["requested_config"].items() <= detail["training_config"].items()
    assert not detail["cancel_requested"]
    assert client.get(f"{address}/events", params={"since": detail["last_event_id"]}).json() == []
    some = client.get(f"{address}/events", params={"types": "finished, started"}).json()
    assert [event["type"] for event in some] == ["started", "finished"]
    assert client.get(f"{address}/events", params={"types": "Step;--"}).status_code == 422


def test_whoever_looks_sees_that_a_run_was_asked_to_stop(client: TestClient) -> None:
    made = create(client, executor="simulation", training_config={"epochs": 2})
    address = f"/experiments/{made['id']}"
    assert made["requested_config"] == {"epochs": 2}
    assert made["training_config"]["epochs"] == 2
    client.app.state.database.write(lambda session: ask_to_stop(session, made["run_id"]))  # type: ignore[attr-defined]
    assert client.get(address).json()["cancel_requested"]


def ask_to_stop(session: Any, run_id: str) -> None:
    session.get(Run, run_id).cancel_requested_at = utcnow()
