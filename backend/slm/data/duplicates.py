"""How many rows of a file occurred before, at any size, in bounded memory: 64-bit hashes, sorted on disk.

Equal rows have equal hashes, so a repetition is never missed. Two different rows share a hash with a chance of
n² / 2^65 over a file of n rows (one in thirty million for a million rows): in that sense the count is exact. Beyond
`limit` different rows a shrinking share of the hashes is kept and the count is an estimate, and called so.
"""

from __future__ import annotations

import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

_PARTS = 1024
"""Hashes are counted part by part, so that one part of even a billion rows fits in memory."""
IN_MEMORY = 200_000
"""Different hashes collected before they are sorted and written: about 80 bytes each."""
_LIMIT = 100_000_000
_Run = tuple[IO[bytes], int, "array[int]"]
"""Sorted hashes in a file: the number of those before it, and where each part begins, and the last one ends."""
_SPAN = 2**64 // _PARTS


@dataclass(frozen=True, slots=True)
class Collected:
    """What one process found in its stretch of a file, to be joined with what others found in theirs."""

    repeated: int
    kept: int
    runs: list[tuple[int, array[int]]]
    """In the file that it was given."""
    hashes: array[int]
    """Those in memory: none where there are runs."""


class Duplicates:
    """Counts repeated 64-bit hashes. `folder` is where the (unnamed) temporary file lies; None is the system's choice.

    `file`, where given, takes the hashes instead. Raises `OSError` where the disk is full.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        file: IO[bytes] | None = None,
        in_memory: int = IN_MEMORY,
        limit: int = _LIMIT,
    ) -> None:
        self._hashes: set[int] = set()
        self._folder, self._in_memory, self._limit = folder, in_memory, limit
        self._file = file
        self._runs: list[_Run] = []
        self._kept = _PARTS
        self._written = 0
        self._repeated = 0

    @property
    def exact(self) -> bool:
        return self._kept == _PARTS

    def add(self, hashes: Iterable[int], count: int) -> None:
        """`count` more rows have these hashes."""
        before = len(self._hashes)
        self._hashes.update(hashes)
        self._repeated += before + count - len(self._hashes)
        if len(self._hashes) >= self._in_memory:
            self._spill()

    def collected(self) -> Collected:
        """For `join` in another process. Ends the collection."""
        if self._file is not None and self._runs:
            self._spill()
            self._file.flush()
        runs = [(offset, starts) for _, offset, starts in self._runs]
        return Collected(self._repeated, self._kept, runs, array("q", self._hashes))

    def join(self, other: Collected, file: IO[bytes], *, in_memory: int = IN_MEMORY) -> None:
        """Count the rows of another process too, which was given `file`; it must stay open until `count` is done.

        Each process keeps to the limit on its own, so that together they are exact for as many rows at least. That one
        has ended, so that there is room for `in_memory` hashes now.
        """
        self._in_memory = in_memory
        self._repeated += other.repeated
        self._kept = min(self._kept, other.kept)
        self._runs += [(file, offset, starts) for offset, starts in other.runs]
        self.add(other.hashes, len(other.hashes))

    def count(self) -> int:
        """How many rows repeat an earlier one. Ends the collection."""
        if not self._runs:
            return self._repeated
        self._spill()
        repeated = sum(map(self._count_part, range(self._kept)))
        if self._file is not None:
            self._file.close()
        return self._repeated + repeated * _PARTS // self._kept

    def _spill(self) -> None:
        """Write the hashes sorted, each once, remembering where each part begins."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  (closed by `count`, unnamed on disk)
        ordered = array("q", sorted(self._hashes))
        self._hashes = set()
        starts = [bisect_left(ordered, part * _SPAN - 2**63) for part in range(self._kept)]
        end = len(ordered) if self.exact else bisect_left(ordered, self._kept * _SPAN - 2**63)
        self._runs.append((self._file, self._written, array("I", [*starts, end])))
        self._file.write(memoryview(ordered)[:end])
        self._written += end
        if self._written >= self._limit and self._kept > 1:
            self._kept //= 2
            self._limit *= 2

    def _count_part(self, part: int) -> int:
        found = array("q")
        for file, offset, starts in self._runs:
            size = (starts[part + 1] - starts[part]) * found.itemsize
            if size:
                file.seek((offset + starts[part]) * found.itemsize)
                found.frombytes(file.read(size))
        return len(found) - len(set(found))
