"""Pulls from a hub: the right files, checked, told byte by byte, with a sentence for everything that can go wrong."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from stand_in_hub import COMMIT, Hub, serving
from tiny_models import base_folder

from slm.errors import Cancelled, RunFailure
from slm.hub import chosen, fetch_from_hub, require_reachable, weight_files
from slm.spec import HubSource

SOURCE = HubSource(hub="org/tiny")
TOKEN = "hf_secretsecretsecret"


def quiet(_done: int, _total: int) -> None:
    return None


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model beside everything that must never be taken."""
    folder = base_folder(tmp_path_factory.mktemp("repository"))
    (folder / "slm-weights.json").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "modeling_evil.py").write_text("raise SystemExit('code from a repository was run')")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.safetensors").write_bytes(b"another format")
    return folder


@pytest.fixture
def hub(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in [name for name in os.environ if "proxy" in name.lower() or name.startswith("HF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # as slm.run leaves it
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent")
    with serving(repository) as opened:
        monkeypatch.setenv("HF_ENDPOINT", opened.url)
        yield opened


@pytest.fixture
def working(tmp_path: Path) -> Path:
    folder = tmp_path / "working"
    folder.mkdir()
    return folder


def failure(source: HubSource, working: Path) -> RunFailure:
    with pytest.raises(RunFailure) as caught:
        fetch_from_hub(source, working, quiet)
    return caught.value


def test_weights_configuration_and_tokenizer_arrive_unchanged(hub: Hub, repository: Path, working: Path) -> None:
    told: list[tuple[int, int]] = []
    fetch_from_hub(SOURCE, working, lambda done, total: told.append((done, total)))
    arrived = {path.name for path in working.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= arrived
    assert not {"pytorch_model.bin", "modeling_evil.py", "onnx", ".cache"} & arrived
    for name in arrived:
        assert (working / name).read_bytes() == (repository / name).read_bytes()
    total = sum(path.stat().st_size for path in working.iterdir())
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_every_file_is_of_the_commit_that_was_listed(hub: Hub, working: Path) -> None:
    fetch_from_hub(HubSource(hub="org/tiny", revision="main"), working, quiet)
    resolved = [path for _, path, _ in hub.asked if "/resolve/" in path]
    assert resolved
    assert all(f"/resolve/{COMMIT}/" in path for path in resolved)


def test_the_token_opens_a_private_repository(hub: Hub, working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = TOKEN
    assert failure(SOURCE, working).reason.code == "source_not_found"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    fetch_from_hub(SOURCE, working, quiet)
    assert (working / "model.safetensors").is_file()
    assert hub.asked[-1][2] == f"Bearer {TOKEN}"


def test_a_wrong_token_is_told_and_not_repeated(hub: Hub, working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "another"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    found = failure(SOURCE, working)
    assert found.reason.code == "source_not_found"
    assert TOKEN not in found.message + found.hint


def test_terms_that_were_not_accepted_are_told(hub: Hub, working: Path) -> None:
    hub.gated = True
    found = failure(SOURCE, working)
    assert found.reason.code == "source_forbidden"
    assert "HF_TOKEN" in found.message


@pytest.mark.parametrize(
    ("source", "word"),
    [
        (HubSource(hub="org/other"), "org/other"),
        (HubSource(hub="not a name"), "not a name"),
        (HubSource(hub="org/tiny", revision="v9"), "'v9'"),
    ],
)
def test_what_is_not_there_is_named(hub: Hub, working: Path, source: HubSource, word: str) -> None:
    found = failure(source, working)
    assert found.reason.code == "source_not_found"
    assert word in found.message


def test_a_file_that_arrives_changed_is_refused(hub: Hub, working: Path) -> None:
    hub.corrupt = "model.safetensors"
    found = failure(SOURCE, working)
    assert found.reason.code == "digest_mismatch"
    assert "model.safetensors" in found.message


def test_a_connection_that_keeps_breaking_is_told(hub: Hub, working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download.time, "sleep", lambda _seconds: None)
    hub.cut = "model.safetensors"
    found = failure(SOURCE, working)
    assert found.reason.code == "offline"
    assert "broke off" in found.message
    assert not (working / "model.safetensors").exists()


def test_a_cancel_is_obeyed_within_a_file(hub: Hub, working: Path) -> None:
    def stop(done: int, _total: int) -> None:
        if done > 0:
            raise Cancelled

    with pytest.raises(Cancelled):
        fetch_from_hub(SOURCE, working, stop)
    assert not (working / "model.safetensors").exists()


def test_no_room_is_told_before_anything_is_fetched(hub: Hub, working: Path) -> None:
    hub.claimed = {"model.safetensors": 10**16}
    found = failure(SOURCE, working)
    assert found.reason.code == "disk_full"
    assert [path for _, path, _ in hub.asked if "/resolve/" in path] == []


def test_no_hub_fails_at_once(hub: Hub, working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused.getsockname()[1]}")
        found = failure(SOURCE, working)
    assert found.reason.code == "offline"
    assert "cannot be reached" in found.message
    assert hub.asked == []


def test_a_name_that_does_not_resolve_fails_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    with pytest.raises(RunFailure, match=r"hub\.invalid cannot be reached"):
        require_reachable("https://hub.invalid")


def test_behind_a_proxy_nothing_is_asked_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.invalid:3128")
    require_reachable("https://hub.invalid")


# ── which files ──────────────────────────────────────────────────────────────────────────────────────────────────────

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["model.safetensors", "model.fp16.safetensors", "consolidated.safetensors"], ["model.safetensors"]),
        ([*SHARDS, "consolidated.safetensors", "model.safetensors.index.json"], SHARDS),
        (["model.safetensors", *SHARDS], ["model.safetensors"]),
        (["other.safetensors", "pytorch_model.bin"], []),
    ],
)
def test_one_set_of_weights_is_taken(names: list[str], expected: list[str]) -> None:
    assert weight_files(names) == expected


@pytest.mark.parametrize(
    "names",
    [
        ["pytorch_model.bin", "config.json"],
        ["config.json"],
        ["a.Q4_0.gguf", "a.Q8_0.gguf"],
        ["onnx/model.safetensors", "config.json"],
        ["model.pt", "model.ckpt"],
    ],
)
def test_nothing_but_pickles_or_a_choice_is_refused(names: list[str]) -> None:
    with pytest.raises(RunFailure, match="never loaded") as caught:
        chosen(dict.fromkeys(names, 1), "org/tiny")
    assert caught.value.reason.code == "weights_refused"


def test_a_lone_gguf_is_taken_with_the_small_files() -> None:
    names = ["a.gguf", "config.json", "tokenizer.model", "merges.txt", "chat_template.jinja", "run.py", "a.bin"]
    assert chosen(dict.fromkeys(names, 1), "org/tiny") == [
        "a.gguf",
        "chat_template.jinja",
        "config.json",
        "merges.txt",
        "tokenizer.model",
    ]
