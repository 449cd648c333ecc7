"""`slm doctor`: what this machine can do, and why not."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from app.cli import tables
from app.cli.places import running_service, settings
from app.cli.shell import Code, Stop, print_json, say
from app.config import Settings
from app.errors import PlatformError

LIBRARIES = ("torch", "transformers", "peft", "safetensors", "fastapi", "sqlalchemy")
_RUN_BYTES = 2 * 10**9
"""What a training of a model of 0.1 to 0.2 billion parameters writes at most."""
_MARKS = {"ok": "✓", "note": "•", "missing": "✗"}


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `missing` means that the platform does not work without it."""

    subject: str
    state: str
    sentence: str


def doctor(*, as_json: bool) -> None:
    """Print what was found. Raises `Stop` (failed) where something essential is missing."""
    found = settings()
    findings = list(_findings(found))
    if as_json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            say(f"{_MARKS[finding.state]} {finding.subject:<{width}}  {finding.sentence}")
    if any(finding.state == "missing" for finding in findings):
        raise Stop("Something essential is missing; see the lines above.", Code.FAILED)


def _findings(found: Settings) -> Iterator[Finding]:
    yield Finding("Python", "ok", f"{sys.version.split()[0]} in {sys.prefix}")
    yield from _libraries()
    yield from _machine()
    yield from _folders(found)
    yield _database(found)
    yield from _weights(found)
    yield from _service(found)


def _libraries() -> Iterator[Finding]:
    for name in LIBRARIES:
        try:
            yield Finding(name, "ok", metadata.version(name))
        except metadata.PackageNotFoundError:
            sentence = "not installed: run `pip install -r requirements.txt` in backend/."
            yield Finding(name, "missing", sentence)


def _machine() -> Iterator[Finding]:
    from app.services.hardware import machine

    here = machine()
    fewer = f", {here.usable_cores} of them for us" if here.usable_cores < here.physical_cores else ""
    cores = f"{here.physical_cores} physical cores{fewer}" + (
        "" if here.cpu_bf16 else ", no bfloat16: trains in float32"
    )
    yield Finding("processor", "ok", f"{here.processor}, {cores}")
    gigabytes = here.memory_bytes / 1e9
    state = "ok" if gigabytes >= 4 else "note"
    yield Finding("memory", state, f"{gigabytes:.0f} GB" + ("" if gigabytes >= 4 else "; 4 GB or more are needed"))
    if here.gpus:
        yield Finding("GPU", "ok", ", ".join(here.gpus))
    elif sys.platform == "darwin" and os.uname().machine == "arm64":
        yield Finding("GPU", "ok", "Apple's, through MPS")
    else:
        yield Finding("GPU", "note", "none that NVIDIA's driver shows; trainings use the processor")


def _folders(found: Settings) -> Iterator[Finding]:
    for name in ("data_dir", "upload_dir", "models_dir"):
        folder: Path = getattr(found, name)
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(existing).free
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            yield Finding(name, "missing", f"{folder} cannot be written to; choose another with {name.upper()}.")
        elif free < _RUN_BYTES:
            sentence = f"{folder}: only {tables.size(free)} free; a training may need {tables.size(_RUN_BYTES)}."
            yield Finding(name, "note", sentence)
        else:
            yield Finding(name, "ok", f"{folder} ({tables.size(free)} free)")


def _database(found: Settings) -> Finding:
    from sqlalchemy import make_url
    from sqlalchemy.exc import SQLAlchemyError

    from app.migrations import require_known

    url = make_url(found.database_url)
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return Finding("database", "ok", f"{shown} (made at the first start)")
    try:
        require_known(found.database_url)
    except PlatformError as error:
        return Finding("database", "missing", error.message)
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0]
        return Finding("database", "missing", f"{shown} does not answer: {reason}")
    return Finding("database", "ok", shown)


def _weights(found: Settings) -> Iterator[Finding]:
    from app.services.model import SEEDS
    from slm.spec import WEIGHTS_MARKER

    for seed in SEEDS:
        if (found.models_dir / seed.key / WEIGHTS_MARKER).is_file():
            yield Finding(seed.name, "ok", "weights are here")
        else:
            yield Finding(seed.name, "note", f"no weights: simulated until `slm pull {seed.key}`")


def _service(found: Settings) -> Iterator[Finding]:
    running = running_service(found.data_dir)
    if running is not None:
        yield Finding("service", "ok", f"{running.url}, process {running.pid}, since {running.started_at}")
        return
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", 8000)) == 0
    yield Finding("service", "note", "not running; `slm serve` starts it")
    if taken:
        yield Finding("port 8000", "note", "taken by another program; `slm serve --next-free` uses the next free one")
