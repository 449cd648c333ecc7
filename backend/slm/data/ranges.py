"""The measuring of a whole file: in one process, or of a large JSONL file in several, piece by piece of whole lines.

Both ways give the same result, line numbers and order included: a piece is cut into the very blocks that it has when
the file is read from its start, and what the processes found is joined in the order of the pieces. Only JSONL in UTF-8
is shared out, because there a line's end is a record's end, wherever one begins to look.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import chain
from operator import itemgetter
from pathlib import Path

from slm.data import forks
from slm.data.blocks import WHOLE, LineBlocks, Span, spans
from slm.data.duplicates import IN_MEMORY, Collected, Duplicates
from slm.data.formats import Block, BrokenSyntax, iter_blocks, line_records
from slm.data.measure import Tally, grouped
from slm.data.schema import Guess
from slm.data.survey import Reading, Survey, collect
from slm.spec import FileFormat

LARGE = 8 * 1024 * 1024
"""Bytes from which on sharing out is worth its few milliseconds."""
PIECE = 4 * 1024 * 1024
"""Bytes that a process takes at a time."""
_MOST_PIECES = 255
_HEAD_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Measured:
    """One pass over the whole file."""

    survey: Survey
    tally: Tally
    duplicates: int
    duplicates_exact: bool


@dataclass(slots=True)
class _Part:
    """One pass over one piece; `lines` physical lines are in it."""

    lines: int
    survey: Survey
    tally: Tally

    def join(self, later: _Part) -> None:
        """Take up the piece that follows."""
        self.survey.join(later.survey)
        self.tally.join(later.tally, self.lines)
        self.lines += later.lines


_Parts = list[tuple[int, _Part | None]]
"""Which piece, and what is in it; None where a line of it is broken."""


def first_pass(path: Path, file_format: FileFormat, encoding: str | None, reading: Reading | None) -> Measured:
    """Survey the file and tally it by `reading`, or by what its first block suggests.

    Raises `BrokenSyntax` for the first broken line, `OSError`, or `forks.Lost`.
    """
    pieces = _pieces(path, file_format, encoding)
    found = _shared_out(path, pieces, reading) if len(pieces) > 1 else None
    return found or _alone(path, file_format, encoding, reading)


def second_pass(path: Path, file_format: FileFormat, encoding: str | None, reading: Reading) -> Tally:
    """Tally by another `reading` a file that was read to its end before."""
    tally = Tally(*reading)
    pieces = _pieces(path, file_format, encoding)
    if len(pieces) == 1:
        for block in iter_blocks(path, file_format, encoding=encoding, by_schema=True):
            tally.see(block, *grouped(block))
        return tally
    claims = forks.Claims(len(pieces))
    work = partial(_tallied, path, pieces, claims, reading)
    with closing(claims), forks.at_work([work] * (_workers(pieces) - 1)) as answers:
        parts = sorted(chain(work(), *answers), key=itemgetter(0))
    lines = 0
    for _, length, part in parts:
        tally.join(part, lines)
        lines += length
    return tally


def _pieces(path: Path, file_format: FileFormat, encoding: str | None) -> list[Span]:
    """What is measured side by side: more pieces than processes, so that none waits long for another."""
    size, width = path.stat().st_size, forks.width()
    if file_format is not FileFormat.JSONL or encoding is not None or size < LARGE or width == 1:
        return [WHOLE]
    with path.open("rb") as file:
        return spans(file, size, min(_MOST_PIECES, max(width, size // PIECE)))


def _workers(pieces: Sequence[Span]) -> int:
    return min(forks.width(), len(pieces))


def _alone(path: Path, file_format: FileFormat, encoding: str | None, reading: Reading | None) -> Measured:
    survey, duplicates = Survey(), Duplicates(path.parent)
    tally = Tally(*reading) if reading else None
    for block in iter_blocks(path, file_format, encoding=encoding, by_schema=True):
        tally = _see(block, survey, duplicates, tally)
    repeated = duplicates.count()
    return Measured(survey, tally or Tally(None, {}), repeated, duplicates.exact)


def _see(block: Block, survey: Survey, duplicates: Duplicates, tally: Tally | None) -> Tally:
    groups, odd = grouped(block)
    survey.see(block, groups, odd)
    collect(duplicates, block, groups, odd)
    tally = tally or Tally(*survey.reading())
    tally.see(block, groups, odd)
    return tally


def _shared_out(path: Path, pieces: list[Span], reading: Reading | None) -> Measured | None:
    """The first pass by several processes, this one among them; None where one met more columns than are counted."""
    workers = _workers(pieces)
    reading = reading or _suggested(path)
    in_memory = IN_MEMORY // workers
    duplicates = Duplicates(path.parent, in_memory=in_memory)
    with ExitStack() as stack:
        claims = stack.enter_context(closing(forks.Claims(len(pieces))))
        work = partial(_measured, path, pieces, claims, reading)
        files = [stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for _ in range(workers - 1)]
        tasks = [partial(_collected, work, Duplicates(file=file, in_memory=in_memory)) for file in files]
        answers = stack.enter_context(forks.at_work(tasks))
        found = work(duplicates)
        for file, (parts, collected) in zip(files, answers, strict=True):
            found += parts
            duplicates.join(collected, file)
        whole = _Part(0, Survey(), Tally(*reading))
        for number, part in sorted(found, key=itemgetter(0)):
            if part is None:
                raise _broken(path, pieces[number], whole.lines + 1)
            if number and part.survey.full:
                return None
            whole.join(part)
        repeated = duplicates.count()
    return Measured(whole.survey, whole.tally, repeated, duplicates.exact)


def _suggested(path: Path) -> Reading:
    """What the first lines suggest; where it is wrong, the file is read twice."""
    survey = Survey()
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        first = BytesIO(head[: head.rfind(b"\n") + 1]) if b"\n" in head else file
        block = next(line_records(LineBlocks(first, None, carriage_returns=False)), None)
    if block is not None:
        survey.see(block, *grouped(block))
    return survey.reading()


def _collected(work: Callable[[Duplicates], _Parts], duplicates: Duplicates) -> tuple[_Parts, Collected]:
    """In a process of its own."""
    return work(duplicates), duplicates.collected()


def _measured(
    path: Path, pieces: Sequence[Span], claims: forks.Claims, reading: Reading, duplicates: Duplicates
) -> _Parts:
    """What each piece holds that this process comes by. At a broken line, whose number nobody knows here, it ends."""
    parts = _Parts()
    for number, lines, blocks in _claimed(path, pieces, claims):
        survey, tally = Survey(), Tally(*reading)
        try:
            for block in blocks:
                _see(block, survey, duplicates, tally)
        except BrokenSyntax:
            parts.append((number, None))
            for _ in claims:  # what follows is for nobody now
                pass
        else:
            parts.append((number, _Part(lines.line - 1, survey, tally)))
    return parts


def _tallied(
    path: Path, pieces: Sequence[Span], claims: forks.Claims, reading: Reading
) -> list[tuple[int, int, Tally]]:
    """(Which piece, its lines, its tally) of each that this process comes by."""
    parts = []
    for number, lines, blocks in _claimed(path, pieces, claims):
        tally = Tally(*reading)
        for block in blocks:
            tally.see(block, *grouped(block))
        parts.append((number, lines.line - 1, tally))
    return parts


def _claimed(
    path: Path, pieces: Sequence[Span], claims: forks.Claims
) -> Iterator[tuple[int, LineBlocks, Iterator[Block]]]:
    """Each piece that this process comes by: which it is, its lines as far as they were read, its records."""
    guess = Guess()
    with path.open("rb") as file:
        for number in claims:
            lines = LineBlocks(file, None, carriage_returns=False, span=pieces[number])
            yield number, lines, line_records(lines, guess)


def _broken(path: Path, span: Span, line: int) -> BrokenSyntax | forks.Lost:
    """What is broken in the piece whose first line has the number `line`."""
    with path.open("rb") as file:
        try:
            for _ in line_records(LineBlocks(file, None, carriage_returns=False, span=span, line=line)):
                pass
        except BrokenSyntax as error:
            return error
    return forks.Lost("The file changed while it was read.")
