"""Downloads through the client: whole and right, or not there at all."""

from __future__ import annotations

import hashlib
from pathlib import Path

import httpx2
import pytest

from slm_client import Client, NotFound, ServiceUnreachable

CONTENT = b"weights" * 50_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def serving(content: bytes, tag: str = DIGEST) -> Client:
    """A client of a service that answers every request with `content`."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/artifacts/a%2Fb/download" or request.url.path == "/artifacts/a/b/download"
        return httpx2.Response(200, content=content, headers={"ETag": f'"{tag}"'})

    return Client(transport=httpx2.MockTransport(answer))


def test_the_file_appears_with_its_bytes(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with serving(CONTENT) as client:
        path = client.artifacts.download("a/b", tmp_path / "model.gguf", lambda done, total: told.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_damaged_file_does_not_appear(tmp_path: Path) -> None:
    with serving(CONTENT[:-1] + b"!") as client, pytest.raises(ServiceUnreachable, match="came damaged"):
        client.artifacts.download("a/b", tmp_path / "model.gguf")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_artifact_is_not_found(client: Client, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="Artifact not found"):
        client.artifacts.download("unknown", tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
