"""`POST /datasets/{id}/preview` through the real application, its answer made by a real process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tiny_models import base_folder, task_rows

from app.config import Settings


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def base(client: TestClient, settings: Settings, weights: Path) -> str:
    shutil.copytree(weights, settings.models_dir / weights.name)
    made = client.post("/models", json={"name": "tiny", "source": {"folder": weights.name}})
    return str(made.json()["id"])


def upload(client: TestClient, rows: list[dict[str, Any]]) -> str:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    form = {"name": "rows", "dataset_type": "training"}
    answer = client.post("/datasets/upload", files={"file": ("rows.jsonl", content)}, data=form)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def asks_left(settings: Settings) -> list[Path]:
    return [path for folder in (settings.data_dir / "asks").iterdir() if folder.is_dir() for path in folder.iterdir()]


def ask(client: TestClient, dataset: str, base: str, **body: Any) -> dict[str, Any]:
    answer = client.post(f"/datasets/{dataset}/preview", json={"base_model_id": base, **body})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_preview_shows_tokens_counts_and_what_is_lost(client: TestClient, base: str, settings: Settings) -> None:
    dataset = upload(client, [*task_rows(6), {"prompt": "long?", "completion": "word " * 30}])
    found = ask(client, dataset, base, max_length=64, limit=2, offset=5)
    assert (found["method"], found["max_length"], found["base_model_id"]) == ("sft", 64, base)
    assert found["counts"]["examples"] == found["rows_read"] == found["rows_total"] == 7
    assert found["warnings"] == ["14 % of rows exceed 64 tokens; the end of the answer is lost in 1 row."]
    whole, cut = found["examples"]
    assert (whole["line"], whole["truncated"], whole["cut"]) == (6, False, [])
    learned = "".join(piece["text"] for piece in whole["pieces"] if piece["learned"])
    assert learned.startswith(task_rows(6)[5]["completion"])
    assert cut["truncated"]
    assert len(cut["pieces"]) == cut["tokens"] == 64
    assert cut["cut_tokens"] == len(cut["cut"]) > 0
    text = "".join(piece["text"] for piece in cut["pieces"] + cut["cut"])
    assert text.rstrip().endswith("assistant\n" + "word " * 30 + "<|im_end|>")
    assert asks_left(settings) == []


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"base_model_id": "nobody"}, 404, "Base model not found"),
        ({"method": "classify"}, 422, "prompt_completion data; method classify learns from classification"),
        ({"max_length": 4}, 422, "max_length"),
        ({"limit": 1000}, 422, "limit"),
        ({"offset": -1}, 422, "offset"),
        ({"method": "magic"}, 422, "method"),
        ({"rows": 5}, 422, "Unknown field 'rows'"),
    ],
)
def test_what_cannot_be_shown_is_a_sentence(
    client: TestClient, base: str, body: dict[str, Any], status: int, says: str
) -> None:
    dataset = upload(client, task_rows(3))
    answer = client.post(f"/datasets/{dataset}/preview", json={"base_model_id": base, **body})
    assert answer.status_code == status
    assert says in answer.json()["detail"]
    assert answer.headers["content-type"] == "application/problem+json"


def test_absent_weights_say_how_to_get_them(client: TestClient) -> None:
    first = client.get("/models?model_type=base").json()[0]
    dataset = upload(client, task_rows(3))
    answer = client.post(f"/datasets/{dataset}/preview", json={"base_model_id": first["id"]})
    assert (answer.status_code, answer.json()["code"]) == (409, "weights_missing")
    assert f"/models/{first['id']}/pull" in answer.json()["detail"]


def test_data_that_nobody_understands_ask_for_a_mapping(client: TestClient, base: str) -> None:
    dataset = upload(client, [{"one": "a", "two": "b"}])
    answer = client.post(f"/datasets/{dataset}/preview", json={"base_model_id": base})
    assert answer.status_code == 422
    assert "mapping" in answer.json()["detail"]


def test_a_file_or_a_tokenizer_that_is_gone_is_a_conflict(client: TestClient, base: str, settings: Settings) -> None:
    dataset = upload(client, task_rows(3))
    next(settings.upload_dir.glob(f"{dataset}_*")).unlink()
    answer = client.post(f"/datasets/{dataset}/preview", json={"base_model_id": base})
    assert (answer.status_code, answer.json()["code"]) == (409, "data_missing")
    other = upload(client, task_rows(3))
    for path in next(settings.models_dir.iterdir()).glob("token*"):
        path.unlink()
    answer = client.post(f"/datasets/{other}/preview", json={"base_model_id": base})
    assert (answer.status_code, answer.json()["code"]) == (409, "model_unsupported")
    assert asks_left(settings) == []
