"""How many rows of a file occurred before, at any size, in bounded memory: 64-bit hashes, sorted on disk.

Equal rows have equal hashes, so a repetition is never missed. Two different rows share a hash with a chance of
n² / 2^65 over a file of n rows (one in thirty million for a million rows): in that sense the count is exact. Beyond
`limit` different rows a shrinking share of the hashes is kept and the count is an estimate, and called so.

NumPy sorts five times as fast as a list does; it is loaded only where there is something to sort.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PARTS = 1024
"""Where hashes are counted part by part, so that one part of even a billion rows fits in memory."""
IN_MEMORY = 500_000
"""Hashes collected before they are sorted and written: 8 bytes each, and as much again while they are."""
_FEW = 200_000
"""Hashes that a set counts before NumPy, which takes 80 ms to load, would have."""
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
        self._hashes = array("q")
        self._folder, self._in_memory, self._limit = folder, in_memory, limit
        self._file = file
        self._runs: list[_Run] = []
        self._kept = _PARTS
        self._written = 0
        self._repeated = 0

    @property
    def exact(self) -> bool:
        return self._kept == _PARTS

    def add(self, hashes: Iterable[int]) -> None:
        """Further rows have these hashes."""
        self._hashes.extend(hashes)
        if len(self._hashes) >= self._in_memory:
            self._spill()

    def collected(self) -> Collected:
        """For `join` in another process. Ends the collection."""
        if self._file is not None and self._runs:
            self._spill()
            self._file.flush()
        runs = [(offset, starts) for _, offset, starts in self._runs]
        return Collected(self._repeated, self._kept, runs, self._hashes)

    def join(self, other: Collected, file: IO[bytes], *, in_memory: int = IN_MEMORY) -> None:
        """Count the rows of another process too, which was given `file`; it must stay open until `count` is done.

        Each process keeps to the limit on its own, so that together they are exact for as many rows at least. That one
        has ended, so that there is room for `in_memory` hashes now.
        """
        self._in_memory = in_memory
        self._repeated += other.repeated
        self._kept = min(self._kept, other.kept)
        self._runs += [(file, offset, starts) for offset, starts in other.runs]
        self.add(other.hashes)

    def count(self) -> int:
        """How many rows repeat an earlier one. Ends the collection."""
        if not self._runs:
            different = set(self._hashes) if len(self._hashes) <= _FEW else _different(self._hashes)
            return self._repeated + len(self._hashes) - len(different)
        self._spill()
        repeated = sum(len(found) - len(_different(found)) for found in self._gathered())
        if self._file is not None:
            self._file.close()
        return self._repeated + repeated * _PARTS // self._kept

    def _spill(self) -> None:
        """Write the hashes sorted, each once, remembering where each part begins."""
        import numpy as np

        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  (closed by `count`, unnamed on disk)
        ordered = _different(self._hashes)
        self._repeated += len(self._hashes) - len(ordered)
        self._hashes = array("q")
        begins = np.arange(_PARTS, dtype=np.int64) * _SPAN + np.int64(-(2**63))
        starts = [*np.searchsorted(ordered, begins).tolist(), len(ordered)][: self._kept + 1]
        self._runs.append((self._file, self._written, array("I", starts)))
        self._file.write(ordered[: starts[-1]].data)
        self._written += starts[-1]
        if self._written >= self._limit and self._kept > 1:
            self._kept //= 2
            self._limit *= 2

    def _gathered(self) -> Iterator[array[int]]:
        """What the runs hold, a few parts at a time: no more than fit in memory, or one."""
        first = 0
        while first < self._kept:
            last, size = first + 1, self._size(first, first + 1)
            while last < self._kept and size + (more := self._size(last, last + 1)) <= self._in_memory:
                last, size = last + 1, size + more
            found = array("q")
            for file, offset, starts in self._runs:
                file.seek((offset + starts[first]) * found.itemsize)
                found.frombytes(file.read((starts[last] - starts[first]) * found.itemsize))
            yield found
            first = last

    def _size(self, first: int, last: int) -> int:
        return sum(starts[last] - starts[first] for _, _, starts in self._runs)


def _different(hashes: array[int]) -> NDArray[np.int64]:
    """Each hash once, in order. `hashes` are put in order too."""
    import numpy as np

    found = np.frombuffer(hashes, dtype=np.int64)
    found.sort()
    return found[np.concatenate(([True], found[1:] != found[:-1]))] if len(found) else found
