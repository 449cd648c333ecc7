"""Running a model over a dataset: what fits which model, the run that is queued, and what becomes of its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.database import Database
from app.main import create_app
from app.models import Artifact, Model, Run
from app.services import results, storage
from slm.spec import WEIGHTS_MARKER, DatasetKind, Method, PredictSpec, parse_spec

PAIRS = b'{"prompt": "a", "completion": "b"}\n'
TEXTS = b'{"text": "a"}\n'


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    """A service whose runs stay queued, so that they can be looked at."""
    with TestClient(create_app(settings.model_copy(update={"supervise": False}))) as opened:
        yield opened


def upload(client: TestClient, content: bytes, name: str = "rows.jsonl") -> str:
    files, form = {"file": (name, content)}, {"name": name, "dataset_type": "evaluation"}
    answer = client.post("/datasets/upload", files=files, data=form)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def made(client: TestClient, settings: Settings, *, method: str | None = None, **changes: Any) -> str:
    """A model whose weights are here: a base, or one trained by a method."""
    folder = settings.models_dir / "base"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / WEIGHTS_MARKER).write_text("{}")
    base = Model(name="Base", model_type="base", architecture="transformer", parameters_count=1, weights_folder="base",
                 weights_format="model", details=changes.pop("details", {}))  # fmt: skip

    def insert(session: Any) -> str:
        session.add(base)
        session.flush()
        if method is None:
            return base.id
        (settings.data_dir / "artifacts/one/model").mkdir(parents=True, exist_ok=True)
        model = Model(name="Ours", model_type="fine_tuned", architecture="transformer", parameters_count=1,
                      base_model_id=base.id, weights_folder="artifacts/one/model", weights_format="model",
                      details={"training_config": {"method": method}}, **changes)  # fmt: skip
        session.add(model)
        session.flush()
        return model.id

    database: Database = client.app.state.database  # type: ignore[attr-defined]
    return database.write(insert)


def asked(client: TestClient, model: str, dataset: str, **body: Any) -> Any:
    return client.post(f"/models/{model}/predictions", json={"dataset_id": dataset, **body})


def spec_of(client: TestClient, run_id: str) -> PredictSpec:
    with client.app.state.database.read() as session:  # type: ignore[attr-defined]
        spec = parse_spec(session.get(Run, run_id).spec)
    assert isinstance(spec, PredictSpec)
    return spec


def test_a_run_is_queued_and_can_be_watched_and_cancelled(client: TestClient, settings: Settings) -> None:
    model, dataset = made(client, settings), upload(client, PAIRS)
    answer = asked(client, model, dataset, max_new_tokens=7)
    assert answer.status_code == 202
    run = answer.json()
    assert answer.headers["location"] == f"/runs/{run['id']}"
    assert (run["task"], run["state"], run["model_id"], run["result"]) == ("predict", "queued", model, None)
    spec = spec_of(client, run["id"])
    assert (spec.method, spec.max_new_tokens, spec.threads) == (Method.SFT, 7, 1)
    assert spec.dataset.dataset_id == dataset
    assert client.post(f"/runs/{run['id']}/cancel").json()["state"] == "cancelled"


@pytest.mark.parametrize(
    ("content", "mapping", "kind", "columns"),
    [
        (b'{"question": "a", "id": "1"}\n', None, DatasetKind.PROMPT_COMPLETION, {"prompt": "question"}),
        (b'{"a": "x", "b": "y"}\n', {"text": "b"}, DatasetKind.TEXT, {"text": "b"}),
        (PAIRS, {"text": "completion"}, DatasetKind.TEXT, {"text": "completion"}),
        (b'{"messages": [{"role": "user", "content": "a"}]}\n', None, DatasetKind.MESSAGES, None),
    ],
)
def test_data_without_answers_can_be_asked(
    client: TestClient, settings: Settings, content: bytes, mapping: Any, kind: DatasetKind, columns: Any
) -> None:
    answer = asked(client, made(client, settings), upload(client, content), mapping=mapping)
    assert answer.status_code == 202, answer.text
    dataset = spec_of(client, answer.json()["id"]).dataset
    assert dataset.kind is kind
    if columns is not None:
        assert dataset.mapping == columns


@pytest.mark.parametrize("method", ["sft", "classify", "pretrain", "dpo"])
def test_the_method_that_made_a_model_is_how_it_predicts(client: TestClient, settings: Settings, method: str) -> None:
    answer = asked(client, made(client, settings, method=method), upload(client, TEXTS))
    assert answer.status_code == 202
    assert spec_of(client, answer.json()["id"]).method is Method(method)


@pytest.mark.parametrize(
    ("body", "content", "field", "words"),
    [
        ({}, b'{"a": "x", "b": "y"}\n', "dataset_id", "Which of its columns is asked is not clear"),
        ({"mapping": {"text": "z"}}, TEXTS, "mapping", "There is no column 'z'"),
        ({"mapping": {"label": "text"}}, TEXTS, "mapping", "names one of prompt, messages or text"),
        ({"max_new_tokens": 0}, TEXTS, "max_new_tokens", "greater than or equal to 1"),
        ({"maping": {}}, TEXTS, "body", "did you mean 'mapping'?"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    client: TestClient, settings: Settings, body: dict[str, Any], content: bytes, field: str, words: str
) -> None:
    answer = asked(client, made(client, settings), upload(client, content), **body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field
    assert words in answer.json()["detail"]


def test_a_classifier_reads_texts_alone(client: TestClient, settings: Settings) -> None:
    model = made(client, settings, method="classify")
    answer = asked(client, model, upload(client, PAIRS))
    assert answer.status_code == 422
    assert "holds prompt_completion data; a classifier reads texts" in answer.json()["detail"]
    assert asked(client, model, upload(client, PAIRS), mapping={"text": "prompt"}).status_code == 202


def test_models_that_have_nothing_to_predict(client: TestClient, settings: Settings) -> None:
    dataset = upload(client, TEXTS)
    encoder = next(row["id"] for row in client.get("/models").json() if row["name"] == "BERT Base")
    for model in (encoder, made(client, settings, method="mask")):
        answer = asked(client, model, dataset)
        assert (answer.status_code, answer.json()["code"]) == (409, "nothing_to_predict")
        assert "method classify" in answer.json()["detail"]
    absent = next(row["id"] for row in client.get("/models").json() if row["name"] == "GPT-2 Small")
    answer = asked(client, absent, dataset)
    assert (answer.status_code, answer.json()["code"]) == (409, "weights_missing")
    simulated = asked(client, made(client, settings, method="sft", simulated=True), dataset)
    assert "came from a simulation" in simulated.json()["detail"]


def test_unknown_model_and_dataset(client: TestClient, settings: Settings) -> None:
    dataset = upload(client, TEXTS)
    assert asked(client, "nothing", dataset).json()["detail"] == "Model not found"
    answer = asked(client, made(client, settings), "nothing")
    assert (answer.status_code, answer.json()["detail"]) == (404, "Dataset not found")


def test_a_finished_run_names_its_one_file(client: TestClient, settings: Settings) -> None:
    database: Database = client.app.state.database  # type: ignore[attr-defined]
    run_id = asked(client, made(client, settings), upload(client, PAIRS)).json()["id"]
    folder = settings.data_dir / "runs" / run_id / "artifacts"
    folder.mkdir(parents=True)
    content = b'{"prompt": "a", "line": 1, "prediction": "b"}\n'
    (folder / "predictions.jsonl").write_bytes(content)

    digest = hashlib.sha256(content).hexdigest()
    listed = {
        "kind": "predictions",
        "path": "artifacts/predictions.jsonl",
        "size_bytes": len(content),
        "sha256": digest,
    }
    payload = {"artifacts": [listed], "result": {"rows": 1, "predicted": 1, "skipped": 0}}

    def finish(session: Any) -> None:
        run = session.get(Run, run_id)
        run.state = "running"
        session.flush()
        results.store_artifacts(settings.data_dir, run)
        results.complete(session, run, payload)

    database.write(finish)
    run = client.get(f"/runs/{run_id}").json()
    assert run["state"] == "completed"
    with database.read() as session:
        artifact = session.query(Artifact).one()
    assert run["result"] == {"artifact_id": artifact.id, "rows": 1, "predicted": 1, "skipped": 0}
    answer = client.get(f"/artifacts/{artifact.id}/download")
    assert answer.content == content
    assert json.loads(answer.text)["prediction"] == "b"
    assert answer.headers["etag"] == f'"{digest}"'


def test_what_a_dead_process_published_without_saying_so_is_swept(tmp_path: Path) -> None:
    """Its log stays, to tell what happened."""
    for folder in (".tmp-artifacts", "artifacts"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "predictions.jsonl").write_text("of nobody")
    (tmp_path / "events.jsonl").touch()
    storage.sweep_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["events.jsonl"]
