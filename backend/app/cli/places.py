"""Where this installation keeps its things, wherever `slm` is called from, and which service runs there.

A service holds a lock on `service.lock` in its data folder while it lives; the file says where it answers. So a stale
file is never mistaken for a running service, and no second one starts on the same folder.
"""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from app.cli.shell import Code, Stop
from slm.files import open_shared, read_at, try_lock

if TYPE_CHECKING:
    from app.config import Settings

_RELATIVE_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^/:?][^?]*)((?:\?.*)?)")
LOCK = "service.lock"
SERVICE_LOG = "service.log"
_PROBE_SECONDS = 0.5
"""Whoever asks `running_service` holds a free lock for microseconds; that is not another service."""


def settings() -> Settings:
    """The settings with every folder absolute.

    A relative folder set in the shell means the folder the user is in; one from `.env` or a default means the
    backend's own folder, so that `slm` finds the same data from everywhere.
    """
    from pydantic import ValidationError

    from app.config import BACKEND, Settings

    try:
        found = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        raise Stop(f"The setting {name} (environment or backend/.env): {first['msg']}.", Code.USAGE) from None
    home = BACKEND if (BACKEND / "pyproject.toml").is_file() else Path.cwd()
    changes: dict[str, object] = {}
    for name in ("upload_dir", "data_dir", "models_dir"):
        base = Path.cwd() if _in_shell(name) else home
        changes[name] = (base / getattr(found, name).expanduser()).resolve()
    base = Path.cwd() if _in_shell("database_url") else home
    changes["database_url"] = _absolute_database(found.database_url, base)
    return found.model_copy(update=changes)


def _in_shell(name: str) -> bool:
    return any(key.lower() == name and value for key, value in os.environ.items())


def _absolute_database(url: str, base: Path) -> str:
    """Only SQLite's relative file names depend on a folder."""
    found = _RELATIVE_SQLITE.fullmatch(url)
    return f"{found[1]}{(base / found[2]).resolve()}{found[3]}" if found else url


@dataclass(frozen=True)
class Service:
    """A running service as its lock file describes it."""

    pid: int
    url: str
    started_at: str


class ServiceLock:
    """Held by a service for its life; the kernel frees it when the process dies."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / LOCK
        self._fd: int | None = None

    def acquire(self, service: Service) -> bool:
        """Take it without waiting; False where another service holds it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fd = open_shared(self.path)
        deadline = time.monotonic() + _PROBE_SECONDS
        while not try_lock(fd):
            if time.monotonic() > deadline:
                os.close(fd)
                return False
            time.sleep(0.01)
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, json.dumps(asdict(service)).encode())
        self._fd = fd
        return True

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def running_service(data_dir: Path) -> Service | None:
    """The service that runs on this data folder, or None."""
    if not (data_dir / LOCK).is_file():
        return None
    fd = open_shared(data_dir / LOCK)
    try:
        if try_lock(fd):
            return None
        found = json.loads(read_at(fd, 4096, 0))
        return Service(pid=int(found["pid"]), url=str(found["url"]), started_at=str(found["started_at"]))
    except (ValueError, KeyError, TypeError):
        return None
    finally:
        os.close(fd)
