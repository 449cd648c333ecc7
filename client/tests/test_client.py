"""The client against the real service: what it promises is what a caller gets."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from uuid import uuid4

import httpx2
import pytest

from slm_client import (
    Client,
    Conflict,
    ExperimentDetail,
    Invalid,
    NotFound,
    NotTheService,
    ServiceUnreachable,
    TooLarge,
)


def start(client: Client, tickets: Path, **config: object) -> ExperimentDetail:
    dataset = client.datasets.upload(tickets)
    base = client.models.list(model_type="base")[0]
    return client.experiments.create(
        "Simulated", base_model_id=base.id, training_dataset_id=dataset.id, training_config=config
    )


def test_it_knows_the_service(client: Client) -> None:
    assert client.health()["status"] == "healthy"
    assert client.ready()["status"] == "ready"
    system = client.system()
    assert {executor.name for executor in system.executors} == {"local", "simulation"}
    assert system.storage["data_dir"]["free_bytes"] > 0


def test_upload_list_rows_delete(client: Client, tickets: Path) -> None:
    told: list[tuple[int, int]] = []
    sent = client.datasets.upload(
        tickets, name="Wonderful tickets", description="d", on_progress=lambda done, total: told.append((done, total))
    )
    assert told[-1] == (tickets.stat().st_size, tickets.stat().st_size)
    assert (sent.row_count, sent.kind, sent.columns) == (20, "prompt_completion", ["prompt", "completion"])
    assert isinstance(sent.created_at, datetime)
    assert sent.created_at.tzinfo is not None
    assert client.datasets.get(sent.id) == sent
    assert [row.id for row in client.datasets.list(q="wonderful")] == [sent.id]
    rows = client.datasets.rows(sent.id, limit=3)
    assert [row.line for row in rows] == [2, 3, 4]
    assert rows[0].values == {"prompt": "Question 0?", "completion": "Answer 0"}
    client.datasets.delete(sent.id)
    with pytest.raises(NotFound) as caught:
        client.datasets.get(sent.id)
    assert caught.value.detail == "Dataset not found"


def test_a_split_makes_two_that_remember_their_origin(client: Client, tickets: Path) -> None:
    source = client.datasets.upload(tickets, name="Whole")
    rest, part = client.datasets.split(source.id, fraction=0.25, seed=7)
    assert (rest.row_count, part.row_count) == (15, 5)
    assert (rest.dataset_type, part.dataset_type) == ("training", "evaluation")
    assert part.origin is not None
    assert (part.origin.dataset_id, part.origin.sha256, part.origin.part) == (source.id, source.sha256, "fraction")
    assert source.origin is None
    asked = [{row.values["prompt"] for row in client.datasets.rows(made.id)} for made in (rest, part)]
    assert (len(asked[0]), len(asked[1]), asked[0] & asked[1]) == (15, 5, set())
    client.datasets.delete(source.id)
    assert client.datasets.get(part.id) == part
    with pytest.raises(Invalid, match="only texts with labels can keep their shares"):
        client.datasets.split(rest.id, stratify=True)


def test_a_download_is_the_very_file(client: Client, tickets: Path, tmp_path: Path) -> None:
    sent = client.datasets.upload(tickets)
    client.datasets.download(sent.id, tmp_path / "back.csv")
    assert (tmp_path / "back.csv").read_bytes() == tickets.read_bytes()


def test_a_mapping_is_sent(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "odd.csv"
    path.write_text("a,b\nwhat?,that\n")
    assert client.datasets.upload(path).kind is None
    assert client.datasets.upload(path, mapping={"prompt": "a", "completion": "b"}).kind == "prompt_completion"


def test_pages_give_every_row_once(client: Client, tickets: Path) -> None:
    made = {client.datasets.upload(tickets, name=f"Paged {n}").id for n in range(5)}
    seen = [row.id for row in client.datasets.iterate(q="Paged", page_size=2)]
    assert len(seen) == len(set(seen)) == 5
    assert set(seen) == made


def test_a_broken_file_is_refused_with_its_line(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": \n')
    with pytest.raises(Invalid) as caught:
        client.datasets.upload(path)
    assert "line 2" in caught.value.detail.lower()
    assert caught.value.status == 422
    assert caught.value.wire["type"]


def test_too_large_a_file_is_refused(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    path.write_bytes(b"prompt,completion\n" + b"a,b\n" * 600_000)
    with pytest.raises(TooLarge) as caught:
        client.datasets.upload(path)
    assert caught.value.detail.endswith(".")


def test_an_experiment_from_creation_to_its_model(client: Client, tickets: Path) -> None:
    made = start(client, tickets, learning_rate=0.001, epochs=2, batch_size=4)
    assert made.status == "created"
    assert made.simulated
    assert "made up" in made.executor_reason
    looks = list(client.experiments.watch(made.id, interval=0.05))
    ended = looks[-1]
    assert ended.status == "completed"
    assert ended.progress is not None
    assert ended.progress.step == 10
    assert client.experiments.get(made.id) == ended
    run = client.runs.get(ended.run_id or "")
    assert (run.state, run.attempt, run.experiment_id) == ("completed", 1, made.id)
    assert [row.id for row in client.experiments.runs(made.id)] == [run.id]
    curves = client.experiments.metrics(made.id, keys=["train_loss"])
    assert curves["train_loss"].step == list(range(1, 11))
    evaluation = client.evaluations.get(client.evaluations.list(experiment_id=made.id)[0].id)
    assert evaluation.simulated
    assert evaluation.metrics["accuracy"] > 0
    model = client.models.get(ended.resulting_model_id or "")
    assert (model.model_type, model.simulated, model.linked_evaluations) == ("fine_tuned", True, [evaluation.id])
    client.experiments.delete(made.id)
    with pytest.raises(NotFound):
        client.experiments.get(made.id)


def test_events_are_followed_to_the_end_once_each(client: Client, tickets: Path) -> None:
    made = start(client, tickets, epochs=1, batch_size=4)
    followed = list(client.experiments.follow(made.id))
    assert [event.id for event in followed] == list(range(1, len(followed) + 1))
    assert followed[-1].type == "finished"
    assert list(client.experiments.events(made.id)) == followed
    assert [event.id for event in client.experiments.follow(made.id, since=3)] == [event.id for event in followed[3:]]
    assert [event.type for event in client.experiments.events(made.id, types=["started", "finished"])] == [
        "started",
        "finished",
    ]
    assert client.experiments.get(made.id).last_event_id == followed[-1].id


def test_it_passes_on_the_services_own_description(client: Client) -> None:
    fields = client.openapi()["components"]["schemas"]["NewExperiment"]["properties"]["training_config"]
    assert "learning rate" in fields["properties"]["learning_rate"]["description"]


def test_cancel_and_a_resume_that_makes_no_sense(client: Client, tickets: Path) -> None:
    made = start(client, tickets, epochs=1)
    client.experiments.cancel(made.id, save=False)
    assert client.experiments.wait(made.id, interval=0.05).status == "cancelled"
    with pytest.raises(Conflict):
        client.experiments.cancel(made.id)
    with pytest.raises(Conflict, match="nothing to resume from"):
        client.experiments.resume(made.id)


def test_a_failure_has_cause_and_hint(client: Client, tickets: Path) -> None:
    made = start(client, tickets, simulated_failure_rate=1.0)
    ended = client.experiments.wait(made.id, interval=0.05)
    assert ended.status == "failed"
    assert ended.error is not None
    assert (ended.error.code, ended.error.fault) == ("simulated_failure", "system")
    assert ended.error.message
    assert ended.error.hint


def test_a_refusal_names_its_field(client: Client, tickets: Path) -> None:
    with pytest.raises(Invalid) as caught:
        start(client, tickets, learning_rate=-1)
    assert caught.value.errors[0].field == "training_config.learning_rate"
    assert caught.value.detail.endswith(".")
    with pytest.raises(NotFound) as missing:
        client.experiments.create("x", base_model_id=str(uuid4()), training_dataset_id=str(uuid4()))
    assert missing.value.detail == "Base model not found"


def test_models_register_change_delete(client: Client) -> None:
    made = client.models.register("Own", hub="someone/something", revision="abc", tags=["one"])
    assert made.weights == "absent"
    changed = client.models.change(made.id, description="Better", tags=["two"])
    assert (changed.description, changed.tags, changed.name) == ("Better", ["two"], "Own")
    client.models.delete(made.id)
    assert made.id not in {model.id for model in client.models.iterate()}


def test_ids_that_look_like_paths_stay_ids(client: Client) -> None:
    for odd in ("../health", "a/b", "", "?x=1", "#"):
        with pytest.raises((NotFound, Invalid)):
            client.models.get(odd)


def test_nothing_answers(tickets: Path) -> None:
    with Client("http://127.0.0.1:9") as client, pytest.raises(ServiceUnreachable, match="slm serve"):
        client.health()
    with pytest.raises(ServiceUnreachable, match="http://"):
        Client("localhost:8000")


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"{}", b"[1]"])
def test_something_else_answers(body: bytes) -> None:
    other = httpx2.MockTransport(lambda _request: httpx2.Response(200, content=body))
    with Client(transport=other) as client, pytest.raises(NotTheService):
        client.health()


def test_a_broken_stream_is_resumed_after_its_last_event() -> None:
    """A proxy that cuts every stream after one event costs nothing but time."""
    events = [{"id": n, "type": "step", "payload": {"step": n}} for n in range(1, 5)]
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/experiments/e":
            times = {"created_at": "2026-01-01T00:00:00Z"}
            row = {"id": "e", "name": "n", "status": "completed", "base_model_id": "b", "training_dataset_id": "d"}
            return httpx2.Response(200, json=row | times)
        since = int(request.url.params["since"])
        rest = [event for event in events if int(str(event["id"])) > since]
        if "event-stream" not in request.headers["accept"]:
            return httpx2.Response(200, json=[])
        asked.append(request.headers["last-event-id"])
        text = "".join(f"id: {event['id']}\ndata: {httpx2_json(event)}\n\n" for event in rest[:1])
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, text=text)

    with Client(transport=httpx2.MockTransport(answer)) as client:
        seen = [event.payload["step"] for event in client.experiments.follow("e")]
    assert seen == [1, 2, 3, 4]
    assert asked[:4] == ["0", "1", "2", "3"]


def httpx2_json(document: object) -> str:
    return httpx2.Response(200, json=document).text


def test_reproduce_asks_for_the_very_same_again() -> None:
    asked: list[tuple[str, str]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append((request.method, request.url.path))
        row = {"id": "e2", "name": "n", "status": "created", "base_model_id": "b", "training_dataset_id": "d"}
        return httpx2.Response(201, json={**row, "created_at": "2026-01-01T00:00:00Z"})

    with Client(transport=httpx2.MockTransport(answer)) as client:
        assert client.experiments.reproduce("e1").id == "e2"
    assert asked == [("POST", "/experiments/e1/reproduce")]
