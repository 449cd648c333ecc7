"""Files of uploaded datasets: written once beside their final place, published by rename, swept after a crash."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import queue
import re
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePath
from types import TracebackType
from typing import Self

from app.errors import PlatformError, StorageFull
from slm.files import open_shared, sync_folder, try_lock

TEMPORARY = ".tmp-"
TRASH = ".trash-"
_GUARD = ".open"
_RESERVED = {"con", "prn", "aux", "nul", *(f"com{n}" for n in range(1, 10)), *(f"lpt{n}" for n in range(1, 10))}
_MAX_NAME = 120


def used_bytes(folder: Path) -> int:
    """What all files below a folder take; what vanishes meanwhile does not count, nor what a link points at."""
    total = 0
    waiting = [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
    return total


def safe_name(original: str) -> str:
    """The original name without anything that a file system or a shell could take for more than a name."""
    name = PurePath(original.replace("\\", "/")).name
    name = re.sub(r"[^\w.\- ]", "_", name).strip(" .") or "file"
    stem, dot, extension = name.rpartition(".")
    if not dot:
        stem, extension = name, ""
    if stem.lower() in _RESERVED:
        stem = f"_{stem}"
    stem = stem.encode()[: _MAX_NAME - len(extension.encode()) - 1].decode(errors="ignore") or "file"
    return f"{stem}{dot}{extension[:16]}"


def sweep(folder: Path, known: Callable[[str], bool]) -> list[str]:
    """Remove what a crash left half written, half deleted, or published without a row; returns the names.

    `known` says whether a dataset of that id has a row. Uploads that another process is taking in are left alone, and
    so is every file that was once accepted: when the database was deleted, its files are still somebody's data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stale = [path for path in folder.iterdir() if path.name.startswith(TRASH)]
    for guard in folder.glob(f"{TEMPORARY}*{_GUARD}"):
        descriptor = open_shared(guard)
        try:
            if not try_lock(descriptor):
                continue
            identity = guard.name.removeprefix(TEMPORARY).removesuffix(_GUARD)
            stale.append(folder / f"{TEMPORARY}{identity}")
            stale += [] if known(identity) else folder.glob(f"{glob.escape(identity)}_*")
            stale.append(guard)
        finally:
            os.close(descriptor)
    for path in stale:
        path.unlink(missing_ok=True)
    return [path.name for path in stale]


def full_disk(error: OSError) -> PlatformError | None:
    """The refusal for a full disk or quota, None for any other error."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("The disk of the upload folder is full; free some space and upload again.")
    return None


class Place:
    """A file in the making: `path` while it is written, by whomever; then `publish` gives it its final name.

    Use as a context manager: what was not published is removed at the end, whatever happened. Until then a locked
    file beside it tells `sweep` that somebody is at work; left by a crash, that what was published may have no row.
    """

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.path = folder / f"{TEMPORARY}{name}"
        self._guard = folder / f"{TEMPORARY}{name}{_GUARD}"
        self._guarding = open_shared(self._guard)
        try_lock(self._guarding)

    def publish(self, stored_name: str) -> Path:
        """Give the complete file its final name by one durable rename."""
        final = self.folder / stored_name
        self.path.rename(final)
        sync_folder(self.folder)
        return final

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.path.unlink(missing_ok=True)
        os.close(self._guarding)
        self._guard.unlink(missing_ok=True)


class Incoming(Place):
    """An upload being written: `write` blocks while the bytes go to disk; a second thread hashes them meanwhile."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(folder, name)
        self.size = 0
        self._file = self.path.open("xb", buffering=0)
        self._digest = hashlib.sha256()
        self._blocks: queue.Queue[bytes | None] = queue.Queue(maxsize=16)
        self._hashing = threading.Thread(target=self._hash, daemon=True)
        self._hashing.start()

    def _hash(self) -> None:
        while (block := self._blocks.get()) is not None:
            self._digest.update(block)

    def write(self, block: bytes) -> None:
        """Raises `StorageFull` where the disk has no room."""
        try:
            view = memoryview(block)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise full_disk(error) or error from error
        self._blocks.put(block)
        self.size += len(block)

    def complete(self) -> str:
        """All bytes on the disk; returns their SHA-256 in hex."""
        self._blocks.put(None)
        self._hashing.join()
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise full_disk(error) or error from error
        self._file.close()
        return self._digest.hexdigest()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._hashing.is_alive():
            self._blocks.put(None)
        self._file.close()
        super().__exit__(kind, error, trace)


def remove(path: Path) -> None:
    """Take a file or a folder off the disk for good: renamed first, so that nobody finds half of it under its name.

    Harmless where nothing is there; goes on with what a crash broke off. Raises `OSError` where something stays.
    """
    trash = path.with_name(f"{TRASH}{path.name}")
    with suppress(FileNotFoundError):
        path.rename(trash)
    if trash.is_dir() and not trash.is_symlink():
        shutil.rmtree(trash)
    else:
        trash.unlink(missing_ok=True)
    if path.parent.is_dir():
        sync_folder(path.parent)


def sweep_unfinished(directory: Path) -> None:
    """Remove what a process that died had written for others into its run directory, published or about to be."""
    for stale in (*directory.glob(f"{TEMPORARY}*"), directory / "artifacts"):
        if stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)


def sweep_directories(data_dir: Path) -> None:
    """Remove what a crash left half deleted of run directories and of trained weights."""
    for pattern in (f"runs/{TRASH}*", f"artifacts/{TRASH}*", f"artifacts/*/{TRASH}*"):
        for stale in data_dir.glob(pattern):
            if stale.is_dir():
                shutil.rmtree(stale, ignore_errors=True)
            else:
                stale.unlink(missing_ok=True)
