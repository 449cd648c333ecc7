"""Card and lineage of a simulated model, and what a repetition says of rows that differ: no tensor is touched."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from app.config import Settings
from app.models import Artifact, Dataset, Evaluation, Event, Experiment, Model, Run
from app.services import reproduce
from slm.spec import WEIGHTS_MARKER

ROWS = b"prompt,completion\n" + b"".join(b"Question %d?,Answer %d\n" % (n, n) for n in range(20))
Write = Callable[[Callable[[Session], Any]], Any]


@pytest.fixture
def write(client: TestClient) -> Write:
    found: Write = client.app.state.database.write  # type: ignore[attr-defined]
    return found


def ended(client: TestClient, experiment_id: str) -> dict[str, Any]:
    """The experiment once it has ended."""
    for _ in range(600):
        found: dict[str, Any] = client.get(f"/experiments/{experiment_id}").json()
        if found["status"] in ("completed", "failed", "cancelled"):
            return found
        time.sleep(0.02)
    raise AssertionError("it does not end")


@pytest.fixture
def first(client: TestClient) -> dict[str, Any]:
    """A completed simulation, whose names try to break out of the card."""
    form = {"name": 'Tickets | "quoted"\n---', "dataset_type": "training"}
    dataset = client.post("/datasets/upload", data=form, files={"file": ("t.csv", ROWS)}).json()
    made = client.post(
        "/experiments",
        json={
            "name": "# Head\n---\nline",
            "base_model_id": client.get("/models").json()[0]["id"],
            "training_dataset_id": dataset["id"],
            "training_config": {"seed": 3},
            "executor": "simulation",
        },
    )
    assert made.status_code == 201, made.text
    return ended(client, made.json()["id"])


def again(client: TestClient, experiment_id: str) -> dict[str, Any]:
    answer = client.post(f"/experiments/{experiment_id}/reproduce")
    assert answer.status_code == 201, answer.text
    assert answer.json()["reproduction"] == {"of": experiment_id, "identical": None, "differences": []}
    return ended(client, answer.json()["id"])


def test_a_simulated_model_says_so_loudly(client: TestClient, first: dict[str, Any]) -> None:
    answer = client.get(f"/models/{first['resulting_model_id']}/card")
    assert answer.headers["content-type"] == "text/markdown; charset=utf-8"
    card = answer.text
    assert "> **SIMULATED.** No training took place" in card
    assert "**Simulated: these numbers are made up.**" in card
    assert '- "simulated"' in card
    assert "model-index" not in card
    assert "## How to load" not in card
    assert 'base_model: "openai-community/gpt2"' in card
    assert 'license: "mit"' in card


def test_no_name_breaks_out_of_its_place(client: TestClient, first: dict[str, Any]) -> None:
    lines = client.get(f"/models/{first['resulting_model_id']}/card").text.splitlines()
    assert [number for number, line in enumerate(lines) if line == "---"][:1] == [0]
    assert sum(line == "---" for line in lines) == 2
    assert "# # Head --- line" in lines
    row = next(line for line in lines if line.startswith("| training |"))
    assert 'Tickets \\| "quoted" ---' in row


def test_a_simulated_model_does_not_leave(client: TestClient, first: dict[str, Any]) -> None:
    answer = client.post(f"/models/{first['resulting_model_id']}/exports", json={"format": "safetensors"})
    assert (answer.status_code, answer.json()["code"]) == (409, "simulated")
    assert answer.json()["detail"].endswith("train it for real to export it.")
    assert client.get(f"/models/{first['resulting_model_id']}/exports").json() == []


def test_the_card_of_a_base(client: TestClient) -> None:
    smollm = next(row for row in client.get("/models").json() if row["name"].startswith("SmolLM2"))
    card = client.get(f"/models/{smollm['id']}/card").text
    assert "De-quantised from Q4_1" in card
    assert 'license: "apache-2.0"' in card
    assert "base_model:" not in card
    nodes = client.get(f"/models/{smollm['id']}/lineage").json()["nodes"]
    assert [node["name"] for node in nodes] == [smollm["name"]]


def test_a_simulation_repeats_to_the_same_made_up_numbers(client: TestClient, first: dict[str, Any]) -> None:
    found = again(client, first["id"])
    assert found["simulated"]
    assert found["requested_executor"] == first["requested_executor"] == "simulation"
    assert found["seed"] == 3
    assert found["reproduction"] == {"of": first["id"], "identical": True, "differences": []}


def test_each_difference_is_told_with_its_size(client: TestClient, first: dict[str, Any], write: Write) -> None:
    """What was recorded of the first run is changed: other libraries, other threads, another curve and result."""

    def spoil(session: Session) -> None:
        mine = Event.experiment_id == first["id"]
        started = session.scalars(select(Event).where(mine, Event.type == "started")).one()
        started.payload = {**started.payload, "threads": 7, "versions": {"torch": "1.0"}}
        steps = session.scalars(select(Event).where(mine, Event.type == "step").order_by(Event.number)).all()
        steps[1].payload = {**steps[1].payload, "loss": 100.0}
        evaluation = session.scalars(select(Evaluation).where(Evaluation.experiment_id == first["id"])).one()
        evaluation.metrics = {**evaluation.metrics, "accuracy": -1.0}
        model = session.get(Model, first["resulting_model_id"])
        assert model is not None
        model.details = {**(model.details or {}), "sha256": "a" * 64}

    write(spoil)
    found = again(client, first["id"])["reproduction"]
    assert found["identical"] is False
    told = "\n".join(found["differences"])
    assert "torch: version 1.0 then, " in told
    assert "threads: 7 then, " in told
    assert "train_loss: differs from step " in told
    assert "(100 then, " in told
    assert "accuracy: -1 then, " in told
    assert "Final weights differ: SHA-256 aaaaaaaaaaaa… then, " in told


def test_another_machine_alone_is_told_but_is_no_other_result(
    client: TestClient, first: dict[str, Any], write: Write
) -> None:
    def spoil(session: Session) -> None:
        chosen = Event.experiment_id == first["id"], Event.type == "started"
        event = session.scalars(select(Event).where(*chosen)).one()
        event.payload = {**event.payload, "precision": "bf16"}

    write(spoil)
    found = again(client, first["id"])["reproduction"]
    assert found["identical"] is True
    assert [line for line in found["differences"] if line.startswith("precision: bf16 then, ")]


def test_the_verdict_outlives_what_was_repeated(client: TestClient, first: dict[str, Any]) -> None:
    found = again(client, first["id"])
    assert client.delete(f"/experiments/{first['id']}").status_code == 204
    kept = client.get(f"/experiments/{found['id']}").json()["reproduction"]
    assert kept == {"of": first["id"], "identical": True, "differences": []}


def stopped(client: TestClient, first: dict[str, Any]) -> str:
    """A repetition that waits, since nobody watches any more."""
    client.app.state.supervisor.stop()  # type: ignore[attr-defined]
    return str(client.post(f"/experiments/{first['id']}/reproduce").json()["id"])


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_repetition_that_did_not_complete_is_not_identical(
    client: TestClient, first: dict[str, Any], write: Write, status: str
) -> None:
    found = stopped(client, first)
    error = {"code": "out_of_memory", "message": "No memory.", "hint": "", "fault": "system", "retryable": False}
    changes = {"status": status, "error": error if status == "failed" else None}
    write(lambda session: session.execute(update(Experiment).where(Experiment.id == found).values(**changes)))
    kept = client.get(f"/experiments/{found}").json()["reproduction"]
    why = f"The repetition is {status}." + (" No memory." if status == "failed" else "")
    assert kept == {"of": first["id"], "identical": False, "differences": [why]}


def test_without_the_first_there_is_nothing_to_compare_with(
    client: TestClient, first: dict[str, Any], write: Write
) -> None:
    """Deleted while the repetition goes on: neither identical nor not."""
    found = stopped(client, first)
    assert client.delete(f"/experiments/{first['id']}").status_code == 204

    def end(session: Session) -> Any:
        experiment = session.get(Experiment, found)
        assert experiment is not None
        run = session.get(Run, experiment.run_id)
        assert run is not None
        reproduce.finished(session, experiment, run)
        return run.result

    kept = write(end)["reproduction"]
    assert (kept["of"], kept["identical"]) == (first["id"], None)
    assert kept["differences"] == [
        "The experiment that it repeats was deleted meanwhile; there is nothing to compare with."
    ]


def test_a_shorter_curve_and_a_model_that_is_gone_are_told(
    client: TestClient, first: dict[str, Any], write: Write
) -> None:
    def spoil(session: Session) -> None:
        mine = Event.experiment_id == first["id"]
        steps = session.scalars(select(Event).where(mine, Event.type == "step").order_by(Event.number)).all()
        session.delete(steps[-1])
        experiment = session.get(Experiment, first["id"])
        assert experiment is not None
        experiment.simulated, experiment.resulting_model_id = False, None
        session.flush()
        session.execute(delete(Artifact))
        session.execute(delete(Evaluation))
        session.execute(delete(Model).where(Model.experiment_id == first["id"]))

    write(spoil)
    found = again(client, first["id"])["reproduction"]
    assert found["identical"] is False
    told = "\n".join(found["differences"])
    assert " points then, " in told
    assert "The model of the first experiment is gone, so that the weights cannot be compared." in told
    assert "accuracy: nothing then, " in told


def test_only_what_completed_is_repeated(client: TestClient, first: dict[str, Any], write: Write) -> None:
    assert client.post("/experiments/unknown/reproduce").status_code == 404
    write(lambda session: session.execute(update(Experiment).values(status="failed")))
    answer = client.post(f"/experiments/{first['id']}/reproduce")
    assert (answer.status_code, answer.json()["code"]) == (409, "not_completed")
    assert answer.json()["detail"] == "The experiment is failed; only a completed one has a result to compare with."


def test_what_a_real_training_needs_again_must_be_here(client: TestClient, settings: Settings, write: Write) -> None:
    """The same spec with files where they are now; gone or other data and absent weights are refused."""
    client.app.state.supervisor.stop()  # type: ignore[attr-defined]
    weights = settings.models_dir / "tiny"
    weights.mkdir(parents=True)
    (weights / WEIGHTS_MARKER).write_text("{}")
    base = Model(name="Tiny", model_type="base", architecture="transformer", parameters_count=1,
                 details={"task": "causal"}, weights_folder="tiny", weights_format="model")  # fmt: skip
    write(lambda session: session.add(base))
    form = {"name": "Tickets", "dataset_type": "training"}
    dataset = client.post("/datasets/upload", data=form, files={"file": ("t.csv", ROWS)}).json()
    asked = {"name": "Real", "base_model_id": base.id, "training_dataset_id": dataset["id"], "executor": "local"}
    made = client.post("/experiments", json=asked)
    assert made.status_code == 201, made.text
    write(lambda session: session.execute(update(Experiment).values(status="completed")))
    url = f"/experiments/{made.json()['id']}/reproduce"

    repeated = client.post(url)
    assert repeated.status_code == 201, repeated.text
    runs = [write(lambda session, run=run: session.get(Run, run).spec) for run in
            (made.json()["run_id"], repeated.json()["run_id"])]  # fmt: skip
    own = {"run_id", "experiment_id"}
    assert {key: value for key, value in runs[0].items() if key not in own} == {
        key: value for key, value in runs[1].items() if key not in own
    }

    write(lambda session: session.execute(update(Dataset).values(sha256="b" * 64)))
    answer = client.post(url)
    assert (answer.status_code, answer.json()["code"]) == (409, "data_changed")
    write(lambda session: session.execute(update(Dataset).values(sha256=dataset["sha256"])))
    next(settings.upload_dir.glob("*_t.csv")).rename(settings.upload_dir.parent / "elsewhere.csv")
    answer = client.post(url)
    assert (answer.status_code, answer.json()["code"]) == (409, "data_missing")
    assert "the file of dataset 'Tickets' is gone; upload it again" in answer.json()["detail"]
    (weights / WEIGHTS_MARKER).unlink()
    answer = client.post(url)
    assert (answer.status_code, answer.json()["code"]) == (409, "weights_missing")
    assert "get them with POST" in answer.json()["detail"]
