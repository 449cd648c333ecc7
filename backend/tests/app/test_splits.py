"""One dataset becomes two, or nothing happens: rows, files, lineage, refusals, crashes."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.config import BACKEND, Settings
from app.database import Database
from app.errors import DatasetRejected, NotFound
from app.main import create_app
from app.models import Dataset
from app.services import dataset as datasets
from app.services import splitting

TICKETS = "prompt;completion\n" + "".join(f"Question {number}?;Answer {number}\n" for number in range(20))
LABELS = "text,label\n" + "".join(f"Text {number},{'ab'[number % 2]}\n" for number in range(20))


def uploaded(client: TestClient, content: str = TICKETS, **fields: str) -> dict[str, Any]:
    form = {"name": "Tickets", "description": "of 2026", "dataset_type": "training"} | fields
    answer = client.post("/datasets/upload", files={"file": ("tickets.csv", content.encode())}, data=form)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def stored(settings: Settings) -> set[str]:
    return {path.name for path in settings.upload_dir.iterdir()}


def test_a_dataset_becomes_two_that_know_where_they_come_from(client: TestClient, settings: Settings) -> None:
    source = uploaded(client)
    answer = client.post(f"/datasets/{source['id']}/split", json={"fraction": 0.2, "seed": 3})
    assert answer.status_code == 201, answer.text
    rest, part = answer.json()
    assert (rest["dataset_type"], rest["row_count"], rest["name"]) == ("training", 16, "Tickets (rest)")
    assert (part["dataset_type"], part["row_count"], part["name"]) == ("evaluation", 4, "Tickets (20 %)")
    assert (rest["file_name"], part["file_name"]) == ("tickets.rest.csv", "tickets.fraction.csv")
    drawn = {"dataset_id": source["id"], "name": "Tickets", "sha256": source["sha256"], "fraction": 0.2, "seed": 3}
    assert rest["origin"] == {**drawn, "part": "rest", "stratify": False}
    assert part["origin"] == {**drawn, "part": "fraction", "stratify": False}
    assert source["origin"] is None
    rows = []
    for made in (rest, part):
        assert client.get(f"/datasets/{made['id']}").json() == made
        content = client.get(f"/datasets/{made['id']}/download").content
        assert (len(content), hashlib.sha256(content).hexdigest()) == (made["size_bytes"], made["sha256"])
        assert (settings.upload_dir / f"{made['id']}_{made['file_name']}").read_bytes() == content
        header, *lines = content.decode().splitlines(keepends=True)
        assert header == "prompt;completion\n"
        rows += lines
    assert sorted(rows) == sorted(TICKETS.splitlines(keepends=True)[1:])
    assert {row["id"] for row in client.get("/datasets").json()} == {source["id"], rest["id"], part["id"]}
    assert len(stored(settings)) == 3


def test_the_source_may_go_the_parts_stay(client: TestClient) -> None:
    source = uploaded(client)
    rest, _ = client.post(f"/datasets/{source['id']}/split", json={}).json()
    assert client.delete(f"/datasets/{source['id']}").status_code == 204
    kept = client.get(f"/datasets/{rest['id']}").json()
    assert (kept["origin"]["name"], kept["origin"]["sha256"]) == ("Tickets", source["sha256"])
    again, _ = client.post(f"/datasets/{rest['id']}/split", json={}).json()
    assert again["origin"]["dataset_id"] == rest["id"]


def test_labels_keep_their_shares(client: TestClient) -> None:
    source = uploaded(client, LABELS)
    _, part = client.post(f"/datasets/{source['id']}/split", json={"fraction": 0.3, "stratify": True}).json()
    assert part["statistics"]["labels"] == {"a": 3, "b": 3}


def test_a_mapping_and_an_encoding_are_honoured(client: TestClient) -> None:
    text = "frage,antwort\n" + "".join(f"Größe {number}?,groß\n" for number in range(9))
    form = {"name": "Alt", "dataset_type": "training", "encoding": "latin-1",
            "mapping": '{"prompt": "frage", "completion": "antwort"}'}  # fmt: skip
    source = client.post("/datasets/upload", files={"file": ("a.csv", text.encode("latin-1"))}, data=form).json()
    for made in client.post(f"/datasets/{source['id']}/split", json={"fraction": 0.5}).json():
        assert (made["kind"], made["mapping"], made["encoding"]) == ("prompt_completion", source["mapping"], None)
        assert "Größe" in client.get(f"/datasets/{made['id']}/download").content.decode()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"stratify": True}, "only texts with labels can keep their shares; this dataset holds prompt_completion."),
        ({"fraction": 0}, "fraction: "),
        ({"fraction": 1}, "fraction: "),
        ({"fraction": "much"}, "fraction: "),
        ({"seed": -1}, "seed: "),
        ({"seed": 2**70}, "seed: "),
        ({"share": 0.1}, "Unknown field 'share'"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_and_leaves_nothing(
    client: TestClient, settings: Settings, body: dict[str, Any], sentence: str
) -> None:
    source = uploaded(client)
    before = stored(settings)
    answer = client.post(f"/datasets/{source['id']}/split", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert sentence in answer.json()["detail"]
    assert stored(settings) == before


def test_a_single_row_or_one_question_cannot_be_split(client: TestClient) -> None:
    for rows, sentence in (("Hi,Yo\n", "a single row"), ("Hi,Yo\nhi,Ho\n", "All rows ask the same")):
        source = uploaded(client, "prompt,completion\n" + rows)
        answer = client.post(f"/datasets/{source['id']}/split", json={})
        assert (answer.status_code, answer.json()["code"]) == (422, "split")
        assert sentence in answer.json()["detail"]


def test_what_is_not_there_is_404(client: TestClient, settings: Settings) -> None:
    assert client.post("/datasets/none/split", json={}).json()["detail"] == "Dataset not found"
    source = uploaded(client)
    (settings.upload_dir / f"{source['id']}_tickets.csv").unlink()
    answer = client.post(f"/datasets/{source['id']}/split", json={})
    assert (answer.status_code, answer.json()["code"]) == (404, "file_missing")


def test_rows_that_cannot_be_written_take_both_files_along(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = uploaded(client)
    before = stored(settings)
    add, calls = datasets.add, []

    def second_fails(session: Any, dataset: Dataset) -> Dataset:
        calls.append(dataset)
        if len(calls) == 2:
            raise NotFound("the second row cannot be written")
        return add(session, dataset)

    monkeypatch.setattr(datasets, "add", second_fails)
    assert client.post(f"/datasets/{source['id']}/split", json={}).status_code == 404
    assert stored(settings) == before
    assert [row["id"] for row in client.get("/datasets").json()] == [source["id"]]


def test_a_full_disk_is_507(client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    source = uploaded(client)
    before = stored(settings)
    answer = '{"ok": false, "error": {"code": "storage_full", "line": null, "message": "full"}}'
    done = subprocess.CompletedProcess([], 1, stdout=answer.encode())
    monkeypatch.setattr("app.services.dataset.subprocess.run", lambda *_, **__: done)
    refused = client.post(f"/datasets/{source['id']}/split", json={})
    assert (refused.status_code, refused.json()["code"]) == (507, "storage_full")
    assert stored(settings) == before


@pytest.mark.parametrize("moment", ["between the files and the rows", "between the two files"])
def test_a_service_killed_in_a_split_leaves_nothing_after_its_next_start(settings: Settings, moment: str) -> None:
    with TestClient(create_app(settings)) as client:
        source = uploaded(client)
        before = stored(settings)
    dies = {
        "between the files and the rows": "datasets.add = die",
        "between the two files": (
            "publish = storage.Place.publish\n"
            "storage.Place.publish = lambda place, name: publish(place, name) if 'rest' in name else die()"
        ),
    }[moment]
    code = f"""
import os, signal
from pathlib import Path
from app.database import Database
from app.services import dataset as datasets, splitting, storage
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
{dies}
splitting.split(Database({settings.database_url!r}), Path({str(settings.upload_dir)!r}), {source["id"]!r},
                fraction=0.2, seed=1, stratify=False)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=BACKEND, env=os.environ | {"PYTHONPATH": str(BACKEND)})
    assert done.returncode == -signal.SIGKILL
    assert len(stored(settings)) > len(before) + 1
    with TestClient(create_app(settings)) as client:
        assert [row["id"] for row in client.get("/datasets").json()] == [source["id"]]
        assert stored(settings) == before


def test_both_rows_are_written_on_either_database(database: Database, tmp_path: Path) -> None:
    content = TICKETS.encode()
    (tmp_path / "one_tickets.csv").write_bytes(content)
    source = Dataset(
        id="one", name="N" * 200, dataset_type="training", file_name="tickets.csv", stored_name="one_tickets.csv",
        file_format="csv", size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(),
    )  # fmt: skip
    found = datasets.inspect(tmp_path / "one_tickets.csv", file_format="csv", mapping=None, encoding=None)
    datasets.fill(source, found)
    database.write(lambda session: datasets.add(session, source))
    made = splitting.split(database, tmp_path, "one", fraction=0.5, seed=0, stratify=False)
    with database.read() as session:
        for dataset in made:
            row = datasets.get(session, dataset.id)
            assert (row.row_count, len(row.name), row.origin["sha256"]) == (10, 200, source.sha256)
        assert datasets.get(session, "one").origin is None
    with pytest.raises(DatasetRejected, match="keep their shares"):
        splitting.split(database, tmp_path, "one", fraction=0.5, seed=0, stratify=True)
