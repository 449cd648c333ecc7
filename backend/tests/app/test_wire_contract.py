"""What existing clients send and read: every line of the wire contract, through the real application."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

CSV = b"prompt,completion\nhello,world\nfoo,bar\n"


def upload(client: TestClient, content: bytes = CSV, name: str = "data.csv", kind: str = "training") -> dict[str, Any]:
    answer = client.post(
        "/datasets/upload",
        files={"file": (name, content)},
        data={"name": "Data", "description": "", "dataset_type": kind},
    )
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def first_base(client: TestClient) -> dict[str, Any]:
    document: dict[str, Any] = client.get("/models", params={"model_type": "base"}).json()[0]
    return document


def create(client: TestClient, **changes: Any) -> dict[str, Any]:
    body = {
        "name": "First",
        "description": "",
        "base_model_id": first_base(client)["id"],
        "training_dataset_id": upload(client)["id"],
        "eval_dataset_id": None,
        "training_config": {"learning_rate": 0.001, "epochs": 10, "batch_size": 32},
    } | changes
    answer = client.post("/experiments", json=body)
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def ended(client: TestClient, experiment_id: str, seconds: float = 20) -> dict[str, Any]:
    """The experiment once it has ended; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        document: dict[str, Any] = client.get(f"/experiments/{experiment_id}").json()
        if document["status"] in {"completed", "failed", "cancelled"}:
            return document
        time.sleep(0.02)
    raise AssertionError(f"still {document['status']} after {seconds} s")


def test_root_and_health(client: TestClient) -> None:
    root = client.get("/").json()
    assert {key: root[key] for key in ("docs", "health")} == {"docs": "/docs", "health": "/health"}
    assert root["message"]
    assert root["version"]
    assert client.get("/health").json()["status"] == "healthy"


def test_uploaded_dataset_has_the_fields_of_the_contract(client: TestClient) -> None:
    made = upload(client, kind="Training")
    assert made["dataset_type"] == "training"
    assert made["row_count"] == 2
    assert made["description"] == ""
    assert datetime.fromisoformat(made["upload_date"]) == datetime.fromisoformat(made["created_at"])
    assert datetime.fromisoformat(made["created_at"]).tzinfo is not None
    listed = client.get("/datasets").json()
    assert [row["id"] for row in listed] == [made["id"]]
    assert set(listed[0]) >= {"id", "name", "description", "dataset_type", "row_count", "upload_date", "created_at"}


def test_download_gives_the_bytes_back_under_a_name_with_its_extension(client: TestClient) -> None:
    content = b'\xef\xbb\xbfprompt,completion\r\n007,=1+1\r\n"a\nb",NA\r\n'
    made = upload(client, content, name="Größe 1.csv")
    answer = client.get(f"/datasets/{made['id']}/download")
    assert answer.content == content
    assert ".csv" in answer.headers["content-disposition"]
    assert made["row_count"] == 2


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("one.json", b'{"prompt": "a", "completion": "b"}', 1),
        ("many.json", b'[{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]', 2),
        ("lines.jsonl", b'{"prompt": "a", "completion": "b"}\n\n{"prompt": "c", "completion": "d"}\n', 2),
        ("UPPER.CSV", b"text\na\nb\nc\n", 3),
        ("quoted.csv", b'text\n"a\nb"\n', 1),
    ],
)
def test_row_count_counts_records(client: TestClient, name: str, content: bytes, rows: int) -> None:
    assert upload(client, content, name=name)["row_count"] == rows


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", b'prompt,completion\nx,"y\n', "line 2"),
        ("a.csv", b"prompt,completion\nx,\xff\n", "line 2"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "line 2"),
        ("a.json", b'[{"a": 1}, {"a": ]', "line 1"),
        ("a.csv", b"prompt,completion\n", "row"),
        ("a.csv", b"", ""),
        ("a.json", b"[]", ""),
        ("a.txt", b"hello", ".csv"),
        ("a", b"hello", ".csv"),
    ],
)
def test_broken_file_is_refused_whole_with_a_sentence(
    client: TestClient, settings: Any, name: str, content: bytes, says: str
) -> None:
    answer = client.post(
        "/datasets/upload", files={"file": (name, content)}, data={"name": "x", "dataset_type": "training"}
    )
    assert answer.status_code in {400, 422}
    assert says.lower() in answer.json()["detail"].lower()
    assert answer.headers["content-type"] == "application/problem+json"
    assert client.get("/datasets").json() == []
    assert list(settings.upload_dir.iterdir()) == []


@pytest.mark.parametrize("missing", ["name", "dataset_type", "file"])
def test_upload_names_the_field_that_is_missing(client: TestClient, missing: str) -> None:
    data = {"name": "x", "dataset_type": "training"}
    data.pop(missing, None)
    files = {} if missing == "file" else {"file": ("a.csv", CSV)}
    answer = client.post("/datasets/upload", files=files or {"name": (None, "x")}, data=data if files else {})
    assert answer.status_code in {400, 422}
    assert answer.json()["detail"]
    if missing != "file":
        assert any(error["field"] == missing for error in answer.json()["errors"])


def test_bad_dataset_type_is_refused(client: TestClient) -> None:
    answer = client.post(
        "/datasets/upload", files={"file": ("a.csv", CSV)}, data={"name": "x", "dataset_type": "testing"}
    )
    assert answer.status_code == 422
    assert "'training' or 'evaluation'" in answer.json()["detail"]


def test_seeded_models_come_first_and_in_order(client: TestClient) -> None:
    models = client.get("/models").json()
    assert [(model["name"], model["parameters_count"]) for model in models[:3]] == [
        ("GPT-2 Small", 124_000_000),
        ("GPT-2 Medium", 355_000_000),
        ("BERT Base", 110_000_000),
    ]
    assert all(model["architecture"] == "transformer" and model["version"] == "1.0" for model in models[:3])
    assert all(model["model_type"] == "base" and model["is_latest_version"] for model in models)
    assert [model["name"] for model in models[3:]] == ["SmolLM2 135M Instruct", "MiniLM L6"]
    assert models[4]["created_at"] > models[3]["created_at"] > models[2]["created_at"]
    assert client.get(f"/models/{models[4]['id']}").json()["metadata"]["task"] == "encoder"
    detail = client.get(f"/models/{models[0]['id']}").json()
    assert detail["metadata"]["weights"] == "absent"
    assert detail["base_model_id"] is None
    assert detail["linked_evaluations"] is None


def test_experiment_runs_from_created_to_completed(client: TestClient) -> None:
    made = create(client)
    assert made["status"] == "created"
    done = ended(client, made["id"])
    assert done["status"] == "completed"
    assert done["simulated"] is True
    assert (done["requested_executor"], done["executor"]) == ("auto", "simulation")
    assert "pull" in done["executor_reason"]
    listed = client.get("/evaluations", params={"experiment_id": made["id"]}).json()
    assert [row["experiment_id"] for row in listed] == [made["id"]]
    evaluation = client.get(f"/evaluations/{listed[0]['id']}").json()
    assert evaluation["simulated"] is True
    assert all(isinstance(value, float) for value in evaluation["metrics"].values())
    assert {"accuracy", "f1", "perplexity"} <= set(evaluation["metrics"])
    curve = evaluation["loss_curve"]
    assert len(curve["epochs"]) == len(curve["train_loss"]) == len(curve["val_loss"]) == 10
    statistics = evaluation["training_statistics"]
    assert {"total_epochs", "final_train_loss", "final_val_loss", "training_time_seconds"} <= set(statistics)
    model = client.get(f"/models/{done['resulting_model_id']}").json()
    assert model["model_type"] == "fine_tuned"
    assert model["simulated"] is True
    assert model["base_model_id"] == made["base_model_id"]
    assert model["linked_evaluations"] == [evaluation["id"]]


def test_same_seed_simulates_the_same(client: TestClient) -> None:
    config = {"learning_rate": 0.001, "epochs": 2, "batch_size": 2, "seed": 7}
    metrics = []
    for _ in range(2):
        done = ended(client, create(client, training_config=config)["id"])
        evaluation = client.get("/evaluations", params={"experiment_id": done["id"]}).json()[0]
        metrics.append(client.get(f"/evaluations/{evaluation['id']}").json()["metrics"])
    assert metrics[0] == metrics[1]


def test_simulation_fails_when_it_must(client: TestClient) -> None:
    config = {"learning_rate": 0.001, "epochs": 1, "batch_size": 1, "simulated_failure_rate": 1}
    done = ended(client, create(client, training_config=config)["id"])
    assert done["status"] == "failed"
    assert done["error"]["code"] == "simulated_failure"
    assert done["error"]["hint"]
    assert client.get("/evaluations").json() == []


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ("base_model_id", "Base model not found"),
        ("training_dataset_id", "Training dataset not found"),
        ("eval_dataset_id", "Evaluation dataset not found"),
    ],
)
def test_unknown_reference_is_named(client: TestClient, field: str, sentence: str) -> None:
    body = {
        "name": "x",
        "base_model_id": first_base(client)["id"],
        "training_dataset_id": upload(client)["id"],
        "training_config": {},
    } | {field: "nope"}
    answer = client.post("/experiments", json=body)
    assert (answer.status_code, answer.json()["detail"]) == (404, sentence)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/datasets/nope", "Dataset not found"),
        ("/datasets/nope/download", "Dataset not found"),
        ("/models/nope", "Model not found"),
        ("/experiments/nope", "Experiment not found"),
        ("/evaluations/nope", "Evaluation not found"),
        ("/runs/nope", "Run not found"),
    ],
)
def test_unknown_id_is_404_with_its_sentence(client: TestClient, path: str, sentence: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    document = answer.json()
    assert document["detail"] == sentence
    assert {"type", "title", "status", "detail", "instance", "code"} <= set(document)


def test_unknown_route_and_method_are_problems_too(client: TestClient) -> None:
    missing = client.get("/nowhere")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_route")
    wrong = client.put("/datasets/x")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "DELETE, GET, PATCH"
    assert wrong.headers["content-type"] == "application/problem+json"


def test_unknown_key_names_the_nearest(client: TestClient) -> None:
    body = {"name": "x", "base_model": "y", "training_dataset_id": "z"}
    answer = client.post("/experiments", json=body)
    assert answer.status_code == 422
    assert "did you mean 'base_model_id'?" in answer.json()["detail"]
    nested = {
        "name": "x",
        "base_model_id": first_base(client)["id"],
        "training_dataset_id": upload(client)["id"],
        "training_config": {"epoch": 3},
    }
    assert "did you mean 'epochs'?" in client.post("/experiments", json=nested).json()["detail"]


@pytest.mark.parametrize("config", [{"epochs": 0}, {"learning_rate": -1}, {"batch_size": 1.5}, {"method": "magic"}])
def test_senseless_hyperparameters_are_named(client: TestClient, config: dict[str, Any]) -> None:
    body = {
        "name": "x",
        "base_model_id": first_base(client)["id"],
        "training_dataset_id": upload(client)["id"],
        "training_config": config,
    }
    answer = client.post("/experiments", json=body)
    assert answer.status_code == 422
    assert next(iter(config)) in answer.json()["detail"] or "magic" in answer.json()["detail"]


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_no_database_takes_is_refused(client: TestClient, text: str) -> None:
    import json

    body = json.dumps({"name": text, "base_model_id": "x", "training_dataset_id": "y"})
    answer = client.post("/experiments", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"]


def test_pages_follow_one_another_without_gap_or_repetition(client: TestClient) -> None:
    made = [upload(client)["id"] for _ in range(5)]
    seen: list[str] = []
    url: str | None = "/datasets?limit=2"
    while url is not None:
        answer = client.get(url)
        seen += [row["id"] for row in answer.json()]
        link = answer.headers.get("link")
        url = link.split(">")[0].removeprefix("<") if link else None
    assert seen == made[::-1]
    assert client.get("/datasets?cursor=nonsense").status_code == 422


def test_what_is_used_cannot_be_deleted(client: TestClient) -> None:
    made = create(client)
    ended(client, made["id"])
    refused = client.delete(f"/datasets/{made['training_dataset_id']}")
    assert refused.status_code == 409
    assert "'First'" in refused.json()["detail"]
    assert client.delete(f"/models/{made['base_model_id']}").status_code == 409
    assert client.delete(f"/experiments/{made['id']}").status_code == 204
    assert client.get(f"/experiments/{made['id']}").status_code == 404
    assert client.get("/evaluations").json() == []
    assert client.delete(f"/datasets/{made['training_dataset_id']}").status_code == 204
