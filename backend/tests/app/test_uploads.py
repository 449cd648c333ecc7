"""What happens to a file on its way in: kept byte for byte, or gone without a trace and with a sentence."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from service import free_port, until

from app.config import BACKEND, Settings
from app.main import create_app
from app.services import dataset as datasets
from app.services.storage import Incoming, safe_name, sweep

CSV = b"prompt,completion\nhello,world\n"


def send(client: TestClient, content: bytes = CSV, name: str = "data.csv", **fields: str) -> Any:
    return client.post(
        "/datasets/upload", files={"file": (name, content)}, data={"name": "Data", "dataset_type": "training"} | fields
    )


def stored(settings: Settings) -> list[str]:
    folder = settings.upload_dir
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd.csv", "..\\..\\boot.csv", "/etc/passwd.csv", "CON.csv", "nul.csv", "a\nb.csv", "-rf.csv",
        "x" * 400 + ".csv", "Größe.csv", "数据.csv", "$(touch x).csv", ".csv", "a b%2F..%2Fc.csv",
    ],
)  # fmt: skip
def test_a_name_never_becomes_a_path(client: TestClient, settings: Settings, name: str) -> None:
    answer = send(client, name=name)
    assert answer.status_code in (201, 422), answer.text
    made = stored(settings)
    if answer.status_code == 201:
        (file,) = made
        assert file.startswith(answer.json()["id"])
        assert (settings.upload_dir / file).read_bytes() == CSV
        assert len(file.encode()) < 255
    else:
        assert made == []
        assert answer.json()["detail"]


@pytest.mark.parametrize("name", ["a/b.csv", "..", "", "   ", "con", "LPT1.csv", "a\x00b.csv", "名" * 200 + ".jsonl"])
def test_safe_names_are_one_harmless_component(name: str) -> None:
    safe = safe_name(name)
    assert safe
    assert len(safe.encode()) <= 140
    assert not set(safe) & set('/\\\0:*?"<>|\n')
    assert safe not in (".", "..")
    assert safe.partition(".")[0].lower() not in {"con", "lpt1"}


def test_the_digest_is_that_of_the_bytes_sent(client: TestClient) -> None:
    content = b'prompt,completion\r\n"007",NA\r\n"=1+1","x\ny"\r\n' * 1
    made = send(client, content).json()
    detail = client.get(f"/datasets/{made['id']}").json()
    assert detail["sha256"] == hashlib.sha256(content).hexdigest()
    assert client.get(f"/datasets/{made['id']}/download").content == content


def test_too_large_is_413_told_from_the_length_or_from_the_bytes(settings: Settings) -> None:
    small = settings.model_copy(update={"max_upload_bytes": 1000})
    with TestClient(create_app(small)) as client:
        answer = send(client, CSV + b"a,b\n" * 1000)
        assert answer.status_code == 413
        assert "1,000 bytes" in answer.json()["detail"]
        declared = client.post("/datasets/upload", content=b"", headers={"content-length": "900000000"})
        assert declared.status_code == 413
    assert stored(small) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("where", ["write", "fsync"])
def test_a_full_disk_is_507_and_leaves_nothing(
    client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch, number: int, where: str
) -> None:
    def full(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    if where == "fsync":
        monkeypatch.setattr("app.services.storage.os.fsync", full)
    else:
        opened = Incoming.__init__

        def on_a_full_disk(self: Incoming, folder: Path, name: str) -> None:
            opened(self, folder, name)
            self._file.close()
            self._file = type("Full", (), {"write": full, "close": lambda _: None, "fileno": lambda _: -1})()

        monkeypatch.setattr(Incoming, "__init__", on_a_full_disk)
    answer = send(client)
    assert answer.status_code == 507
    assert "disk" in answer.json()["detail"]
    monkeypatch.undo()
    assert stored(settings) == []
    assert client.get("/datasets").json() == []
    assert send(client).status_code == 201


@pytest.mark.parametrize("content", [b"", b"prompt,completion\n", b'prompt\n"never closed', b"\xff\xfea\x00,\x00b\x00"])
def test_a_refused_file_leaves_nothing(client: TestClient, settings: Settings, content: bytes) -> None:
    answer = send(client, content)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].endswith(".")
    assert stored(settings) == []


def test_a_row_that_cannot_be_written_takes_its_file_along(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("the database has gone")

    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        monkeypatch.setattr(datasets, "add", fails)
        answer = send(client)
        assert answer.status_code == 500
        assert "RuntimeError" not in answer.text
        assert stored(settings) == []


def test_parts_come_in_any_order(client: TestClient) -> None:
    head = 'Content-Disposition: form-data; name="{}"{}\r\n\r\n'
    parts = [
        (head.format("file", '; filename="data.csv"')).encode() + CSV,
        head.format("dataset_type", "").encode() + b"evaluation",
        head.format("name", "").encode() + b"Last",
    ]
    body = b"".join(b"--x\r\n" + part + b"\r\n" for part in parts) + b"--x--\r\n"
    answer = client.post("/datasets/upload", content=body, headers={"content-type": "multipart/form-data; boundary=x"})
    assert (answer.status_code, answer.json()["name"]) == (201, "Last")


# -- crashes


class Running:
    """A service in a process of its own, whose upload may be told to die at a moment."""

    def __init__(self, settings: Settings, *, dies: str = "") -> None:
        self.port = free_port()
        code = f"""
import os, signal, uvicorn
from app.services import dataset, storage
die = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
{dies}
uvicorn.run("app.main:app", port={self.port}, log_level="error")
"""
        environment = os.environ | {
            "DATABASE_URL": settings.database_url, "UPLOAD_DIR": str(settings.upload_dir),
            "DATA_DIR": str(settings.data_dir), "MODELS_DIR": str(settings.models_dir), "WARM_PROCESS": "false",
        }  # fmt: skip
        self.process = subprocess.Popen([sys.executable, "-c", code], cwd=BACKEND, env=environment)

    def __enter__(self) -> Running:
        until(self._answers, what="an answer of the service")
        return self

    def _answers(self) -> bool:
        assert self.process.poll() is None
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=30).close()
        except OSError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def post(self, body: bytes, *, length: int | None = None) -> socket.socket:
        """The upload's bytes on a socket; `length` is what the header claims."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        head = (
            f"POST /datasets/upload HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {length or len(body)}\r\n\r\n"
        )
        connection.sendall(head.encode() + body)
        return connection


def body_of(content: bytes) -> bytes:
    fields = "".join(
        f'--x\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in {"name": "Data", "dataset_type": "training"}.items()
    )
    head = fields + '--x\r\nContent-Disposition: form-data; name="file"; filename="d.csv"\r\n\r\n'
    return head.encode() + content + b"\r\n--x--\r\n"


@pytest.mark.parametrize(
    ("moment", "dies"),
    [
        ("while it looks into the file", "dataset.inspect = die"),
        ("between file and row", "dataset.add = die"),
    ],
)
def test_a_service_killed_in_an_upload_leaves_nothing_after_its_next_start(
    settings: Settings, moment: str, dies: str
) -> None:
    with TestClient(create_app(settings)) as client:
        kept = send(client).json()["id"]
    with Running(settings, dies=dies) as running, running.post(body_of(CSV)):
        assert running.process.wait(30) == -9, moment
    assert len(stored(settings)) > 1
    with TestClient(create_app(settings)) as client:
        assert [row["id"] for row in client.get("/datasets").json()] == [kept]
        (file,) = stored(settings)
        assert file.startswith(kept)
        assert client.get(f"/datasets/{kept}/download").content == CSV


def test_a_client_that_goes_away_in_mid_upload_leaves_nothing(settings: Settings) -> None:
    with Running(settings) as running:
        with running.post(body_of(CSV)[:-40], length=10_000_000):
            until(lambda: stored(settings), what="the upload's beginning")
        until(lambda: stored(settings) == [], what="the end of what was begun")
        with running.post(body_of(CSV)) as connection:
            assert b" 201 " in connection.recv(64)


def test_what_was_half_deleted_is_swept_at_the_next_start(settings: Settings) -> None:
    """A deletion renames first: what is left of it after a crash is known by its name, everything else stays."""
    halves = [settings.data_dir / "runs/.trash-one", settings.data_dir / "artifacts/two/.trash-adapter"]
    whole = [settings.data_dir / "runs/three", settings.data_dir / "artifacts/two/model"]
    for folder in (*halves, *whole):
        folder.mkdir(parents=True)
        (folder / "file").write_text("content")
    with TestClient(create_app(settings)):
        until(lambda: not any(folder.exists() for folder in halves), what="the sweep")
        assert all((folder / "file").read_text() == "content" for folder in whole)


def test_the_sweep_leaves_others_and_whatever_was_accepted_alone(tmp_path: Path) -> None:
    (tmp_path / "abc_data.csv").write_bytes(CSV)  # accepted once; its database was deleted
    (tmp_path / ".trash-def_data.csv").write_bytes(CSV)
    with Incoming(tmp_path, "living") as incoming:
        incoming.write(CSV)
        assert sweep(tmp_path, lambda _: False) == [".trash-def_data.csv"]
        assert incoming.path.read_bytes() == CSV
        incoming.complete()
        incoming.publish("living_data.csv")
        assert sweep(tmp_path, lambda _: False) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["abc_data.csv", "living_data.csv"]
