"""Downloads: the very bytes, whole or in parts, with conditions that save what the caller has already."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import httpx2
import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.models import Artifact

CONTENT = bytes(range(256)) * 400
TAG = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
Get = Callable[..., httpx2.Response]


def stored(client: TestClient, settings: Settings, path: str = "artifacts/a/model.gguf") -> str:
    """An artifact's row, and its file where the path lies below the data folder."""
    file = settings.data_dir / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(CONTENT)
    row = Artifact(kind="export", path=path, size_bytes=len(CONTENT), sha256=TAG.strip('"'))
    client.app.state.database.write(lambda session: session.add(row))  # type: ignore[attr-defined]
    return str(row.id)


@pytest.fixture
def get(client: TestClient, settings: Settings) -> Get:
    url = f"/artifacts/{stored(client, settings)}/download"
    return lambda **headers: client.get(url, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_all_bytes_with_their_digest(get: Get) -> None:
    answer = get()
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (200, CONTENT, TAG)
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="model.gguf"'


@pytest.mark.parametrize(
    ("asked", "part", "said"),
    [
        ("bytes=0-0", CONTENT[:1], "bytes 0-0/102400"),
        ("bytes=100-299", CONTENT[100:300], "bytes 100-299/102400"),
        ("bytes=102000-", CONTENT[102000:], "bytes 102000-102399/102400"),
        ("bytes=-5", CONTENT[-5:], "bytes 102395-102399/102400"),
        ("bytes=102399-999999", CONTENT[-1:], "bytes 102399-102399/102400"),
        ("bytes=-999999", CONTENT, "bytes 0-102399/102400"),
    ],
)
def test_one_range(get: Get, asked: str, part: bytes, said: str) -> None:
    answer = get(range=asked)
    assert (answer.status_code, answer.content) == (206, part)
    assert answer.headers["content-range"] == said
    assert answer.headers["content-length"] == str(len(part))
    assert answer.headers["etag"] == TAG


@pytest.mark.parametrize("asked", ["bytes=", "bytes=-", "lines=1-2", "bytes=5-2", "bytes=a-b", "bytes=0-1,5-6", "0-5"])
def test_what_is_no_single_range_gives_all(get: Get, asked: str) -> None:
    answer = get(range=asked)
    assert (answer.status_code, answer.content) == (200, CONTENT)


@pytest.mark.parametrize("asked", ["bytes=102400-", "bytes=102400-102500", "bytes=-0"])
def test_a_range_behind_the_end_is_refused_with_the_size(get: Get, asked: str) -> None:
    answer = get(range=asked)
    assert answer.status_code == 416
    assert answer.headers["content-range"] == "bytes */102400"
    assert answer.json()["code"] == "range_not_satisfiable"
    assert "102400 bytes" in answer.json()["detail"]


@pytest.mark.parametrize("held", [TAG, f"W/{TAG}", f'"other", {TAG}', "*"])
def test_what_the_caller_has_already_is_not_sent(get: Get, held: str) -> None:
    answer = get(if_none_match=held)
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", TAG)


def test_an_other_file_is_sent(get: Get) -> None:
    assert get(if_none_match='"other"').content == CONTENT


@pytest.mark.parametrize("condition", ['"other"', f"W/{TAG}", "Mon, 01 Jan 2024 00:00:00 GMT"])
def test_a_part_of_another_file_is_never_mixed_in(get: Get, condition: str) -> None:
    assert get(range="bytes=5-9", if_range=TAG).content == CONTENT[5:10]
    answer = get(range="bytes=5-9", if_range=condition)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert get(range="bytes=999999-", if_range=condition).status_code == 200


def test_what_is_gone_is_said(client: TestClient, settings: Settings) -> None:
    assert client.get("/artifacts/unknown/download").json()["detail"] == "Artifact not found"
    artifact = stored(client, settings)
    (settings.data_dir / "artifacts/a/model.gguf").unlink()
    answer = client.get(f"/artifacts/{artifact}/download")
    assert (answer.status_code, answer.json()["code"]) == (404, "file_missing")
    assert answer.json()["detail"] == "The file model.gguf is no longer in the data folder; make it again."


def test_nothing_outside_the_data_folder_is_sent(client: TestClient, settings: Settings) -> None:
    artifact = stored(client, settings, "../outside.txt")
    assert (settings.data_dir / "../outside.txt").resolve().is_file()
    assert client.get(f"/artifacts/{artifact}/download").status_code == 404


def test_a_dataset_is_sent_the_same_way(client: TestClient) -> None:
    content = b"text\nred\ngreen\n"
    form = {"name": "Colours", "dataset_type": "training"}
    made = client.post("/datasets/upload", data=form, files={"file": ("Farben & Töne.csv", content)}).json()
    url = f"/datasets/{made['id']}/download"
    whole = client.get(url)
    assert (whole.content, whole.headers["etag"]) == (content, f'"{made["sha256"]}"')
    assert client.get(url, headers={"range": "bytes=5-7"}).content == b"red"
    assert client.get(url, headers={"if-none-match": whole.headers["etag"]}).status_code == 304
