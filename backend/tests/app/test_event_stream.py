"""What a run reported, as pages and as a stream: nothing twice, nothing missing, and curves that know of repetition."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient
from test_wire_contract import create, ended

from app.models import Event, Experiment
from app.models.columns import utcnow


@pytest.fixture
def experiment(client: TestClient) -> str:
    made = create(client, executor="simulation")
    assert ended(client, made["id"])["status"] == "completed"
    return str(made["id"])


def pages(client: TestClient, experiment: str, *, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while rows := client.get(
        f"/experiments/{experiment}/events", params={"since": found[-1]["id"] if found else 0, "limit": limit}
    ).json():
        assert len(rows) <= limit
        found += rows
    return found


def stream(client: TestClient, experiment: str, **headers: str) -> list[dict[str, Any]]:
    """All that a stream says, until it ends by itself."""
    address = f"/experiments/{experiment}/events"
    found: list[dict[str, Any]] = []
    with client.stream("GET", address, headers={"Accept": "text/event-stream", **headers}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                found.append({"id": int(value)})
            elif name == "event":
                found[-1]["type"] = value
            elif name == "data":
                assert json.loads(value).items() >= found[-1].items()
                found[-1] = json.loads(value)
    return found


def test_pages_and_the_stream_tell_the_same(client: TestClient, experiment: str) -> None:
    everything = pages(client, experiment, limit=1000)
    assert [row["id"] for row in everything] == sorted({row["id"] for row in everything})
    assert everything[-1]["type"] == "finished"
    assert pages(client, experiment, limit=2) == everything
    assert stream(client, experiment) == everything


def test_a_broken_stream_goes_on_where_it_broke(client: TestClient, experiment: str) -> None:
    everything = pages(client, experiment, limit=1000)
    middle = everything[len(everything) // 2]["id"]
    rest = [row for row in everything if row["id"] > middle]
    assert rest
    assert stream(client, experiment, **{"Last-Event-ID": str(middle)}) == rest
    assert stream(client, experiment, **{"Last-Event-ID": "nonsense"}) == everything
    assert stream(client, experiment, **{"Last-Event-ID": str(everything[-1]["id"])}) == []


def test_a_stream_of_nothing_is_404_at_once(client: TestClient) -> None:
    answer = client.get("/experiments/none/events", headers={"Accept": "text/event-stream"})
    assert (answer.status_code, answer.json()["detail"]) == (404, "Experiment not found")


def test_what_a_killed_attempt_learned_beyond_its_checkpoint_is_superseded(client: TestClient, experiment: str) -> None:
    """The curve has each step once, with the value of the attempt that went on."""
    database = client.app.state.database  # type: ignore[attr-defined]
    before = pages(client, experiment, limit=1000)

    def write(session: Any) -> None:
        row = session.get(Experiment, experiment)
        last = max(event["id"] for event in before)
        reports = [("started", 1, None, {})]
        reports += [("step", 1, step, {"step": step, "loss": 10.0 + step}) for step in range(1, 9)]
        reports += [("started", 2, None, {"resumed_from_step": 5})]
        reports += [("step", 2, step, {"step": step, "loss": 20.0 + step}) for step in range(6, 11)]
        for at, (kind, attempt, step, payload) in enumerate(reports, start=1):
            run_id = session.query(Event.run_id).filter_by(experiment_id=experiment).first()[0]
            session.add(
                Event(
                    number=last + at, experiment_id=row.id, run_id=run_id, seq=1000 + at, attempt=attempt, type=kind,
                    step=step, time=utcnow(), payload=payload,
                )
            )  # fmt: skip

    database.write(write)
    last = before[-1]["id"]
    curve = client.get(f"/experiments/{experiment}/metrics", params={"keys": "train_loss", "since": last}).json()[
        "train_loss"
    ]
    assert curve["step"] == list(range(1, 11))
    assert curve["value"] == [11, 12, 13, 14, 15, 26, 27, 28, 29, 30]
    few = client.get(
        f"/experiments/{experiment}/metrics", params={"keys": "train_loss", "since": last, "points": 4}
    ).json()["train_loss"]
    assert len(few["step"]) <= 4
    assert {min(curve["value"]), max(curve["value"])} <= set(few["value"])
