"""A pull publishes a whole folder or nothing, once, whoever else is at it; and never touches what a person owns."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from stand_in_hub import serving
from tiny_models import base_folder

from slm.bundled import BUNDLED, SMOLLM2
from slm.errors import Cancelled, Interrupted, RunFailure
from slm.events import EventLog, Stop, iter_events
from slm.files import file_digest, open_shared, try_lock
from slm.spec import WEIGHTS_MARKER, FolderSource, HubSource, PullSpec, WheelSource
from slm.weights import count_parameters, gguf_to_convert, read_marker, run_pull

BACKEND = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's folder of weights, without our marker."""
    folder = base_folder(tmp_path_factory.mktemp("tiny"))
    (folder / WEIGHTS_MARKER).unlink()
    return folder


@pytest.fixture
def models(tmp_path: Path, tiny: Path) -> Path:
    """A models_dir with that folder in it, called `mine`."""
    folder = tmp_path / "models"
    shutil.copytree(tiny, folder / "mine")
    return folder


def pull(
    directory: Path, source: FolderSource | HubSource | WheelSource, destination: Path, *, attempt: int = 1
) -> list[dict[str, Any]]:
    """Run a pull here, as `slm.run` would; its numbered events."""
    directory.mkdir(exist_ok=True)
    log = EventLog(directory, attempt=attempt)
    try:
        run_pull(spec(source, destination), directory, log, Stop(directory))
    finally:
        log.close()
    return [event for event in iter_events(directory / "events.jsonl") if "seq" in event]


def spec(source: FolderSource | HubSource | WheelSource, destination: Path) -> PullSpec:
    return PullSpec(run_id="r", attempt=1, model_id="m", name="Tiny", source=source, destination=str(destination))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != WEIGHTS_MARKER}


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".tmp-")]


# ── publishing ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_is_described_and_published(tmp_path: Path, models: Path) -> None:
    told = pull(tmp_path / "run", FolderSource(folder=str(models / "mine")), models / "copy")
    assert [event["type"] for event in told] == ["started", "phase", "phase", "finished"]
    marker = read_marker(models / "copy")
    assert marker == told[-1]["model"]
    assert marker is not None
    weights = models / "copy" / "model.safetensors"
    assert marker["sha256"] == file_digest(weights)
    assert marker["size_bytes"] == weights.stat().st_size
    assert marker["architecture"] == "LlamaForCausalLM"
    assert marker["model_type"] == "llama"
    assert contents(models / "copy") == contents(models / "mine")
    assert leftovers(models) == []


def test_parameters_are_counted_as_the_model_counts_them(tmp_path: Path, models: Path) -> None:
    from transformers import AutoModelForCausalLM

    told = pull(tmp_path / "run", FolderSource(folder=str(models / "mine")), models / "copy")
    model = AutoModelForCausalLM.from_pretrained(models / "copy", local_files_only=True)
    assert told[-1]["model"]["parameters_count"] == model.num_parameters()


def test_a_folder_in_its_own_place_is_marked_and_left_alone(tmp_path: Path, models: Path) -> None:
    """Files that we would not take (a pickle, notes) belong to the person and stay."""
    mine = models / "mine"
    (mine / "pytorch_model.bin").write_bytes(b"precious")
    (mine / "notes").mkdir()
    (mine / "config.json").chmod(0o640)
    before = {path.name: path.stat().st_ino for path in mine.iterdir()}
    pull(tmp_path / "run", FolderSource(folder=str(mine)), mine)
    after = {path.name: path.stat().st_ino for path in mine.iterdir() if path.name != WEIGHTS_MARKER}
    assert after == before
    assert (mine / "config.json").stat().st_mode & 0o777 == 0o640
    assert read_marker(mine) is not None


def test_the_copy_can_be_changed_without_the_original(tmp_path: Path, models: Path) -> None:
    """Weights may share their bytes with the person's folder; whatever is ever rewritten must not."""
    pull(tmp_path / "run", FolderSource(folder=str(models / "mine")), models / "copy")
    for path in (models / "copy").iterdir():
        if path.suffix != ".safetensors":
            path.write_bytes(b"{}")
    assert (models / "mine" / "config.json").read_bytes() != b"{}"


def test_links_in_a_folder_are_followed(tmp_path: Path, models: Path) -> None:
    elsewhere = tmp_path / "blob"
    (models / "mine" / "model.safetensors").rename(elsewhere)
    (models / "mine" / "model.safetensors").symlink_to(elsewhere)
    pull(tmp_path / "run", FolderSource(folder=str(models / "mine")), models / "copy")
    elsewhere.unlink()
    assert count_parameters(models / "copy" / "model.safetensors") > 0


def test_weights_that_are_there_are_not_fetched_again(tmp_path: Path, models: Path) -> None:
    first = pull(tmp_path / "one", FolderSource(folder=str(models / "mine")), models / "copy")
    shutil.rmtree(models / "mine")
    again = pull(tmp_path / "two", FolderSource(folder=str(models / "mine")), models / "copy")
    assert [event["type"] for event in again] == ["started", "finished"]
    assert again[-1]["model"] == first[-1]["model"]


def test_a_folder_in_the_way_is_moved_aside_and_told(tmp_path: Path, models: Path) -> None:
    (models / "copy").mkdir()
    (models / "copy" / "thesis.txt").write_text("precious")
    told = pull(tmp_path / "run", FolderSource(folder=str(models / "mine")), models / "copy")
    (warned,) = [event for event in told if event["type"] == "warned"]
    assert warned["code"] == "moved_aside"
    (aside,) = models.glob("copy.replaced-*")
    assert (aside / "thesis.txt").read_text() == "precious"
    assert aside.name in warned["message"]
    assert not (models / "copy" / "thesis.txt").exists()


def test_weights_from_a_hub_are_readable_by_all(tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    with serving(tiny) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        pull(tmp_path / "run", HubSource(hub="org/tiny"), tmp_path / "models" / "hub-org--tiny")
    published = tmp_path / "models" / "hub-org--tiny"
    assert {path.stat().st_mode & 0o777 for path in published.iterdir()} == {0o644}
    assert all(path.is_file() for path in published.iterdir())


def test_a_model_without_a_tokenizer_is_told(tmp_path: Path, models: Path) -> None:
    for path in (models / "mine").glob("tokenizer*"):
        path.unlink()
    told = pull(tmp_path / "run", FolderSource(folder=str(models / "mine")), models / "copy")
    assert [event["code"] for event in told if event["type"] == "warned"] == ["tokenizer_missing"]


# ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def refused(tmp_path: Path, models: Path) -> RunFailure:
    with pytest.raises(RunFailure) as caught:
        pull(tmp_path / "run", FolderSource(folder=str(models / "mine")), models / "copy")
    assert not (models / "copy").exists()
    assert leftovers(models) == []
    return caught.value


def test_pickles_are_refused(tmp_path: Path, models: Path) -> None:
    weights = models / "mine" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    found = refused(tmp_path, models)
    assert found.reason.code == "weights_refused"
    assert "pickled" in found.message


def test_weights_without_a_configuration_are_refused(tmp_path: Path, models: Path) -> None:
    (models / "mine" / "config.json").unlink()
    assert "config.json" in refused(tmp_path, models).message


@pytest.mark.parametrize("content", [b"[1]", b"{", b'"text"'])
def test_a_broken_configuration_is_refused(tmp_path: Path, models: Path, content: bytes) -> None:
    (models / "mine" / "config.json").write_bytes(content)
    assert refused(tmp_path, models).reason.code == "weights_refused"


def test_a_missing_folder_is_named(tmp_path: Path, models: Path) -> None:
    shutil.rmtree(models / "mine")
    found = refused(tmp_path, models)
    assert found.reason.code == "source_not_found"
    assert "'mine'" in found.message


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-100],
        lambda content: content + b"\0",
        lambda content: content[:50],
        lambda content: b"",
        lambda content: struct.pack("<Q", 1 << 60) + content[8:],
        lambda content: b"PK\x03\x04" + content[4:],
        lambda content: struct.pack("<Q", 2) + b"[]",
        lambda content: struct.pack("<Q", 12) + b'{"a": {"b":1}}'[:12],
    ],
)
def test_a_damaged_weights_file_is_refused(tmp_path: Path, models: Path, damage: Any) -> None:
    weights = models / "mine" / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    found = refused(tmp_path, models)
    assert found.reason.code == "weights_refused"
    assert "model.safetensors" in found.message


def test_two_gguf_files_leave_a_choice_that_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    assert gguf_to_convert(tmp_path) == tmp_path / "a.gguf"
    (tmp_path / "b.gguf").touch()
    with pytest.raises(RunFailure, match="several GGUF"):
        gguf_to_convert(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]"])
def test_a_marker_that_cannot_be_read_is_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / WEIGHTS_MARKER).write_bytes(content)
    assert read_marker(tmp_path) is None


# ── many at once, and crashes ────────────────────────────────────────────────────────────────────────────────────────


def test_two_checkouts_may_pull_at_once(tmp_path: Path, models: Path) -> None:
    """One fetches, the others wait for it and find the same."""
    told: dict[int, list[dict[str, Any]]] = {}

    def one(number: int) -> None:
        told[number] = pull(tmp_path / f"run{number}", FolderSource(folder=str(models / "mine")), models / "copy")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({json.dumps(events[-1]["model"]) for events in told.values()}) == 1
    fetched = [events for events in told.values() if any(event["type"] == "phase" for event in events)]
    assert len(fetched) == 1


def test_waiting_for_another_pull_can_be_cancelled(tmp_path: Path, models: Path) -> None:
    held = open_shared(models / ".lock-copy")
    assert try_lock(held)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "cancel").write_text("{}")
    with pytest.raises(Cancelled):
        pull(tmp_path / "run", FolderSource(folder=str(models / "mine")), models / "copy")
    os.close(held)


def test_what_a_crash_left_is_swept_and_a_neighbours_work_is_not(tmp_path: Path, models: Path) -> None:
    (models / ".tmp-123-copy").mkdir()
    (models / ".tmp-123-copy" / "model.safetensors").touch()
    for name in (".tmp-123-copy-medium", ".tmp-123-my-copy", ".tmp-copy"):
        (models / name).mkdir()
    pull(tmp_path / "run", FolderSource(folder=str(models / "mine")), models / "copy")
    assert sorted(leftovers(models)) == [".tmp-123-copy-medium", ".tmp-123-my-copy", ".tmp-copy"]


@pytest.mark.parametrize("moment", ["model.safetensors", "tokenizer.json"])
def test_a_pull_that_is_killed_leaves_nothing_that_looks_whole(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """kill -9 in the middle of a file; the next pull ends as if nothing had happened."""
    destination, directory = tmp_path / "models" / "hub", tmp_path / "run"
    directory.mkdir()
    for name in [name for name in os.environ if "proxy" in name.lower()]:
        monkeypatch.delenv(name)
    with serving(tiny) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        (directory / "run.json").write_text(spec(HubSource(hub="org/tiny"), destination).model_dump_json())
        hub.cut = moment  # the client tries again for some seconds: time to kill it
        process = subprocess.Popen([sys.executable, "-m", "slm.run", str(directory)], cwd=BACKEND)
        deadline = time.monotonic() + 60
        while not any(path.endswith(moment) for method, path, _ in hub.asked if method == "GET"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not destination.exists()
        assert leftovers(tmp_path / "models") != []
        hub.cut = None
        told = pull(directory, HubSource(hub="org/tiny"), destination)
    assert told[-1]["type"] == "finished"
    assert leftovers(tmp_path / "models") == []
    assert contents(destination) == contents(tiny)


def test_sigterm_interrupts_between_two_blocks(tmp_path: Path, models: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    stop = Stop(directory)
    stop._terminate(signal.SIGTERM, None)
    log = EventLog(directory, attempt=1)
    with pytest.raises(Interrupted):
        run_pull(spec(FolderSource(folder=str(models / "mine")), models / "copy"), models, log, stop)
    log.close()
    assert not (models / "copy").exists()
    assert leftovers(models) == []


# ── the real thing ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.weights
def test_the_bundled_model_is_what_was_pinned() -> None:
    """Looks at what the set-up pulled; that pull itself is part of every set-up."""
    from app.config import Settings

    folder = Settings(_env_file=None).models_dir / SMOLLM2
    marker = read_marker(folder)
    if marker is None:
        reason = "The bundled weights are not on this machine; `slm pull smollm2` brings them."
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    assert marker["source"] == BUNDLED[SMOLLM2].model_dump()
    assert marker["parameters_count"] == 134_515_008
    assert count_parameters(folder / "model.safetensors") == 134_515_008
    assert marker["sha256"] == file_digest(folder / "model.safetensors")
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == 0o644
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    assert tokenizer["eos_token"] == "<|im_end|>"
    assert tokenizer["pad_token"] == "<|endoftext|>"


@pytest.mark.weights
@pytest.mark.slow
def test_the_bundled_model_is_pulled_from_the_ordinary_index(tmp_path: Path) -> None:
    told = pull(tmp_path / "run", BUNDLED[SMOLLM2], tmp_path / "models" / SMOLLM2)
    assert [event["phase"] for event in told if event["type"] == "phase"] == ["downloading", "converting", "saving"]
    assert [event["code"] for event in told if event["type"] == "warned"] == ["dequantised"]
    assert told[-1]["model"]["parameters_count"] == 134_515_008
    beats = [event for event in iter_events(tmp_path / "run" / "events.jsonl") if event["type"] == "beat"]
    assert any(0 < beat["done"] < beat["total"] for beat in beats if beat["phase"] == "downloading")
