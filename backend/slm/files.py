"""What every writer of files here needs: a lock between processes, a digest, a look at the free disk.

Standard library only. Locks are the kernel's: they vanish with the process that holds them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from slm.errors import RunFailure

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

BLOCK = 1 << 20
Beat = Callable[[int, int], None]
"""Called with (bytes done, bytes in all; 0 where unknown); raises `Cancelled` when the run was asked to stop."""


def open_shared(path: Path, *, append: bool = False) -> int:
    """A descriptor for reading and writing that no child inherits; the file is made where it is missing."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | (os.O_APPEND if append else 0)
    return os.open(path, flags, 0o644)


def try_lock(descriptor: int) -> bool:
    """Lock an open file for this process alone, without waiting; closing the descriptor lets go.

    On Windows a byte far behind the content is locked, because a lock there forbids reading what it covers.
    """
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, 1 << 30, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Bytes of an open file; Windows has no `pread`."""
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, size)


def sync_folder(path: Path) -> None:
    """Make a rename in this folder survive a power cut; Windows does not let folders be opened, and needs it not."""
    if sys.platform != "win32":
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def file_digest(path: Path, beat: Beat | None = None) -> str:
    """SHA-256 of a file in hex; reports its progress in bytes."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(8 * BLOCK):
            digest.update(block)
            done += len(block)
            if beat is not None:
                beat(done, total)
    return digest.hexdigest()


def require_space(folder: Path, needed: int) -> None:
    """Raises `RunFailure` (disk_full) with both figures where less than `needed` bytes are free below `folder`."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunFailure(
            "disk_full",
            f"{readable(needed)} of free disk are needed below {folder}; {readable(free)} are free.",
            hint="Free disk space there, or set MODELS_DIR to a folder on a larger disk, then pull again.",
        )


def readable(size: int) -> str:
    """A size for people: `93 MB`, `1.6 GB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
