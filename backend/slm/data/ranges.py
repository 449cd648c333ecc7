"""The measuring of a whole file: in one process, or of a large JSONL file in several, a range of whole lines each.

Both ways give the same result, line numbers and order included: a range is cut into the very blocks that it has when
the file is read from its start, and what the processes found is joined in the order of the ranges. Only JSONL in UTF-8
is shared out, because there a line's end is a record's end, wherever one begins to look.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from slm.data import forks
from slm.data.blocks import WHOLE, LineBlocks, Span, spans
from slm.data.duplicates import IN_MEMORY, Collected, Duplicates
from slm.data.formats import Block, BrokenSyntax, iter_blocks, line_records
from slm.data.measure import Tally, grouped
from slm.data.survey import Reading, Survey, collect
from slm.spec import FileFormat

LARGE = 8 * 1024 * 1024
"""Bytes from which on sharing out is worth its few milliseconds."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One pass over the whole file."""

    survey: Survey
    tally: Tally
    duplicates: int
    duplicates_exact: bool


@dataclass(slots=True)
class _Part:
    """One pass over one range; `lines` physical lines are in it."""

    lines: int
    survey: Survey
    tally: Tally

    def join(self, later: _Part) -> None:
        """Take up the range that follows."""
        self.survey.join(later.survey)
        self.tally.join(later.tally, self.lines)
        self.lines += later.lines


def first_pass(path: Path, file_format: FileFormat, encoding: str | None, reading: Reading | None) -> Measured:
    """Survey the file and tally it by `reading`, or by what its first block suggests.

    Raises `BrokenSyntax` for the first broken line, `OSError`, or `forks.Lost`.
    """
    ranges = _ranges(path, file_format, encoding)
    found = _shared_out(path, ranges, reading) if len(ranges) > 1 else None
    return found or _alone(path, file_format, encoding, reading)


def second_pass(path: Path, file_format: FileFormat, encoding: str | None, reading: Reading) -> Tally:
    """Tally by another `reading` a file that was read to its end before."""
    ranges = _ranges(path, file_format, encoding)
    if len(ranges) == 1:
        tally = Tally(*reading)
        for block in iter_blocks(path, file_format, encoding=encoding, by_schema=True):
            tally.see(block, *grouped(block))
        return tally
    tasks = [partial(_tallied, path, span, reading) for span in ranges[1:]]
    with forks.at_work(tasks) as answers:
        lines, tally = _tallied(path, ranges[0], reading)
        for length, part in answers:
            tally.join(part, lines)
            lines += length
    return tally


def _ranges(path: Path, file_format: FileFormat, encoding: str | None) -> list[Span]:
    """What is measured side by side."""
    size = path.stat().st_size
    if file_format is not FileFormat.JSONL or encoding is not None or size < LARGE:
        return [WHOLE]
    with path.open("rb") as file:
        return spans(file, size, forks.width())


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


def _shared_out(path: Path, ranges: list[Span], reading: Reading | None) -> Measured | None:
    """The first pass by several processes, this one among them; None where one met more columns than are counted."""
    reading = reading or _suggested(path)
    in_memory = IN_MEMORY // len(ranges)
    duplicates = Duplicates(path.parent, in_memory=in_memory)
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for _ in ranges[1:]]
        tasks = [
            partial(_collected, path, span, reading, Duplicates(file=file, in_memory=in_memory))
            for span, file in zip(ranges[1:], files, strict=True)
        ]
        answers = stack.enter_context(forks.at_work(tasks))
        whole = _measured(path, ranges[0], reading, duplicates)
        if whole is None:
            raise _broken(path, ranges[0], 1)
        for span, file, (part, collected) in zip(ranges[1:], files, answers, strict=True):
            if part is None or collected is None:
                raise _broken(path, span, whole.lines + 1)
            if part.survey.full:
                return None
            whole.join(part)
            duplicates.join(collected, file)
        repeated = duplicates.count()
    return Measured(whole.survey, whole.tally, repeated, duplicates.exact)


def _suggested(path: Path) -> Reading:
    survey = Survey()
    first = next(iter_blocks(path, FileFormat.JSONL), None)
    if first is not None:
        survey.see(first, *grouped(first))
    return survey.reading()


def _collected(
    path: Path, span: Span, reading: Reading, duplicates: Duplicates
) -> tuple[_Part | None, Collected | None]:
    """In a process of its own."""
    part = _measured(path, span, reading, duplicates)
    return part, None if part is None else duplicates.collected()


def _measured(path: Path, span: Span, reading: Reading, duplicates: Duplicates) -> _Part | None:
    """None where a line is broken: its number is not known here."""
    survey, tally = Survey(), Tally(*reading)
    with path.open("rb") as file:
        lines = LineBlocks(file, None, carriage_returns=False, span=span)
        try:
            for block in line_records(lines, by_schema=True):
                _see(block, survey, duplicates, tally)
        except BrokenSyntax:
            return None
        return _Part(lines.line - 1, survey, tally)


def _tallied(path: Path, span: Span, reading: Reading) -> tuple[int, Tally]:
    tally = Tally(*reading)
    with path.open("rb") as file:
        lines = LineBlocks(file, None, carriage_returns=False, span=span)
        for block in line_records(lines, by_schema=True):
            tally.see(block, *grouped(block))
        return lines.line - 1, tally


def _broken(path: Path, span: Span, line: int) -> BrokenSyntax | forks.Lost:
    """What is broken in the range whose first line has the number `line`."""
    with path.open("rb") as file:
        try:
            for _ in line_records(LineBlocks(file, None, carriage_returns=False, span=span, line=line)):
                pass
        except BrokenSyntax as error:
            return error
    return forks.Lost("The file changed while it was read.")
