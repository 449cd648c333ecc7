"""Records of a data file, one after another, in constant memory: CSV, JSON, JSONL.

Values are never altered: a CSV cell is the very text of the file (`007`, `NA`, `=1+1`). Broken *syntax* (bytes that are
not UTF-8, an unclosed quote, a line that does not parse) raises `BrokenSyntax` at the first broken line, because what
was meant cannot be known. A record that parses but has the wrong shape is yielded with a `fault`.
`iter_records` serves whoever reads rows; `iter_blocks` serves the inspection, which measures thousands at a time.
Standard library and orjson only: the platform starts this in a small child process.
"""

from __future__ import annotations

import csv
import io
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import orjson

from slm.data.blocks import (
    BLOCK_BYTES,
    MAX_RECORD_BYTES,
    BrokenSyntax,
    LineBlocks,
    checked_encoding,
    sound_text,
    too_long,
    utf8_chunks,
)
from slm.data.json_array import ArrayReader, json_error
from slm.data.schema import Guess, Schema
from slm.spec import FileFormat

__all__ = [
    "MAX_COLUMNS",
    "MAX_RECORD_BYTES",
    "SURPLUS",
    "Block",
    "BrokenSyntax",
    "Record",
    "Unusable",
    "checked_encoding",
    "format_of",
    "iter_blocks",
    "iter_raw",
    "iter_records",
    "line_records",
]

MAX_COLUMNS = 4096
SURPLUS = ""
"""The key under which a CSV row's surplus fields are shown; no column can have this name."""
_DELIMITERS = (",", ";", "\t")
_BAR = "|"
"""The rarest separator, taken only where the header holds none of the others: `a|b` may well be a column's name."""
_NUL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_JSONL_ADVICE = "Each line must be one JSON object."


@dataclass(frozen=True, slots=True)
class Record:
    """One data record; `line` is the physical line where it starts. With a `fault` it cannot be used."""

    line: int
    values: dict[str, Any]
    fault: str | None = field(default=None)


@dataclass(frozen=True, slots=True)
class Unusable:
    """Stands in a block for a JSON record that parses but must not be taken up, with the reason."""

    message: str


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive records. CSV: `names` is the header and each row a list of cells; JSON: each row a parsed value.

    `first` is the number of the first record where lines alone do not tell records apart: in a JSON array. With a
    `schema` the rows are records of that schema.
    """

    names: tuple[str, ...] | None
    rows: list[Any]
    lines: Sequence[int]
    first: int | None = None
    schema: Schema | None = None

    def record(self, index: int) -> Record:
        row, line = self.rows[index], self.lines[index]
        if self.schema is not None:
            return Record(line, self.schema.values(row))
        if self.names is None:
            return _json_record(line, row)
        if len(row) == len(self.names):
            return Record(line, dict(zip(self.names, row, strict=True)))
        values: dict[str, Any] = dict(zip(self.names, row, strict=False))
        if len(row) > len(self.names):
            values[SURPLUS] = row[len(self.names) :]
        noun = "field" if len(row) == 1 else "fields"
        fault = f"{len(row)} {noun} where the header names {len(self.names)}; quote text that holds the separator."
        return Record(line, values, fault)


def format_of(file_name: str) -> FileFormat:
    """The format by the name's extension. Raises `ValueError` with a sentence for any other extension."""
    extension = PurePath(file_name).suffix.lower().removeprefix(".")
    try:
        return FileFormat(extension)
    except ValueError:
        shown = f"'.{extension[:40]}' files" if extension else "files without an extension"
        raise ValueError(f"Cannot read {shown}; upload a .csv, .json or .jsonl file.") from None


def iter_records(path: Path, file_format: FileFormat, *, encoding: str | None = None) -> Iterator[Record]:
    """Every record in order. Raises `BrokenSyntax`; memory does not grow with the file.

    `encoding` asks for a conversion (`latin-1`, `utf-16`, …); without it the bytes must be UTF-8.
    """
    for block in iter_blocks(path, file_format, encoding=encoding):
        yield from map(block.record, range(len(block.rows)))


def iter_blocks(
    path: Path, file_format: FileFormat, *, encoding: str | None = None, by_schema: bool = False
) -> Iterator[Block]:
    """The same records in blocks of about 512 KiB (a longer record makes a longer block).

    `by_schema`: the rows of a JSONL block may all be of one `schema`, see `line_records`.
    """
    encoding = checked_encoding(encoding)
    with path.open("rb") as file:
        if file_format is FileFormat.JSONL:
            lines = LineBlocks(file, encoding, carriage_returns=False)
            yield from line_records(lines, Guess() if by_schema else None)
        else:
            yield from (_csv_blocks if file_format is FileFormat.CSV else _json_blocks)(file, encoding)


def iter_raw(path: Path, file_format: FileFormat, *, encoding: str | None = None) -> Iterator[bytes]:
    """Every record as it stands in the file, in the order of `iter_records`; with an `encoding`, as UTF-8.

    CSV: the header first, each row with its line end (the last may lack one). JSON: elements, JSONL: lines without end.
    Raises `BrokenSyntax` where a record's end cannot be found; whether it parses is for `iter_records` to say.
    """
    encoding = checked_encoding(encoding)
    read = {FileFormat.CSV: _csv_raw, FileFormat.JSONL: _jsonl_raw, FileFormat.JSON: _json_raw}[file_format]
    with path.open("rb") as file:
        yield from read(file, encoding)


class _CsvFeed:
    """A file's lines through `csv.reader`; `loaded` turns true when a new block of the file was opened."""

    def __init__(self, file: BinaryIO, encoding: str | None, kept: list[str] | None = None) -> None:
        """`kept`, where given, takes each line that the reader takes."""
        self._blocks = LineBlocks(file, encoding, carriage_returns=True)
        self.loaded = False
        self.fed = 0
        self.record_line = 1
        lines: Iterator[str] = chain.from_iterable(self._texts())
        if kept is not None:
            lines = _keeping(lines, kept)
        self.first = next(lines, "")
        self.reader = csv.reader(chain((self.first,), lines), strict=True, delimiter=_delimiter(self.first))

    def _texts(self) -> Iterator[io.StringIO]:
        for block in self._blocks:
            if self.fed > MAX_RECORD_BYTES:
                raise _never_closed(self.record_line)
            self.loaded = True
            self.fed += len(block)
            text, broken = sound_text(block, self._blocks.line)
            yield io.StringIO(text, newline="")
            if broken is not None:
                raise broken
            self._blocks.line = self.reader.line_num + 1


def _keeping(lines: Iterator[str], kept: list[str]) -> Iterator[str]:
    for line in lines:
        kept.append(line)
        yield line


def _csv_blocks(file: BinaryIO, encoding: str | None) -> Iterator[Block]:
    csv.field_size_limit(MAX_RECORD_BYTES)
    feed = _CsvFeed(file, encoding)
    if not feed.first:
        return
    if not feed.first.strip():
        raise BrokenSyntax("Line 1 is empty; a CSV file starts with a line of column names.", 1)
    try:
        names = _header(next(feed.reader))
        yield from _csv_rows(feed.reader, feed, names)
    except csv.Error as error:
        raise _csv_error(str(error), feed.record_line) from None


def _csv_rows(reader: Any, feed: _CsvFeed, names: tuple[str, ...]) -> Iterator[Block]:
    rows: list[list[str]] = []
    starts: list[int] = []
    start = feed.record_line = reader.line_num + 1
    for row in reader:
        if row:
            rows.append(row)
            starts.append(start)
        start = feed.record_line = reader.line_num + 1
        if feed.loaded:
            feed.loaded, feed.fed = False, 0
            if len(row) > 1 and sum(map(len, row)) > MAX_RECORD_BYTES:
                raise too_long(starts[-1])
            if rows:
                yield Block(names, rows, starts)
                rows, starts = [], []
    if rows:
        yield Block(names, rows, starts)


def _csv_raw(file: BinaryIO, encoding: str | None) -> Iterator[bytes]:
    csv.field_size_limit(MAX_RECORD_BYTES)
    kept: list[str] = []
    feed = _CsvFeed(file, encoding, kept)
    try:
        for row in feed.reader:
            feed.fed = 0
            if row:
                yield "".join(kept).encode()
            kept.clear()
    except csv.Error as error:
        raise _csv_error(str(error), feed.record_line) from None


def _delimiter(header: str) -> str:
    """The separator that occurs most often outside quotes in the header line; the comma where none does."""
    outside = "".join(header.split('"')[::2])
    if _BAR in outside and not any(mark in outside for mark in _DELIMITERS):
        return _BAR
    return max(_DELIMITERS, key=lambda mark: (outside.count(mark), mark == ","))


def _csv_error(problem: str, line: int) -> BrokenSyntax:
    if "unexpected end of data" in problem or "field larger than" in problem:
        return _never_closed(line)
    if "expected after" in problem:
        remedy = "Write a quote inside quoted text as two quotes."
        return BrokenSyntax(f"Line {line}: text follows a closing quote. {remedy}", line)
    return BrokenSyntax(f"Line {line}: {problem.rstrip('.')}. Mend this line and upload the file again.", line)


def _never_closed(line: int) -> BrokenSyntax:
    remedy = "Close it, or write a quote inside text as two quotes."
    problem = f"Line {line}: a quote is opened but not closed before the end of the file, or within 16 MiB"
    return BrokenSyntax(f"{problem}. {remedy}", line)


def _header(names: list[str]) -> tuple[str, ...]:
    if len(names) > MAX_COLUMNS:
        raise BrokenSyntax(f"Line 1 names {len(names)} columns; at most {MAX_COLUMNS} are read.", 1)
    seen: set[str] = set()
    for position, name in enumerate(names, 1):
        if not name.strip():
            raise BrokenSyntax(f"Line 1: column {position} has no name. Every column needs one.", 1)
        if name in seen:
            raise BrokenSyntax(f"Line 1: two columns are called '{name[:60]}'. Rename one of them.", 1)
        seen.add(name)
    return tuple(names)


def line_records(blocks: LineBlocks, guess: Guess | None = None) -> Iterator[Block]:
    """The records of JSONL; where they end, `blocks.line` is the number of the line after the last.

    With a `guess`, the rows of a block may all be of one `schema`, as the first rows of the blocks before suggest.
    """
    for block in blocks:
        small = len(block) <= MAX_RECORD_BYTES
        schema, rows = guess.rows(block) if guess and small else (None, None)
        if rows is None and small:
            rows = _parsed_together(block)
            if guess and rows:
                guess.learn(rows[0])
        if rows is not None:
            yield Block(None, rows, range(blocks.line, blocks.line + len(rows)), schema=schema)
            blocks.line += len(rows)
            continue
        raws = block.split(b"\n")
        if not raws[-1]:
            raws.pop()
        kept = [(line, raw) for line, raw in enumerate(raws, blocks.line) if raw.strip()]
        blocks.line += len(raws)
        if kept:
            yield Block(None, [_parsed(raw, line) for line, raw in kept], [line for line, _ in kept])


def _parsed_together(block: bytes) -> list[Any] | None:
    """Every line's value, parsed in one call; None where a line is not one value, or needs a look of its own.

    The lines become one array with a random number between them that nobody can have written into the file. If as many
    of these numbers as there were line ends stand at every second place of the array, and nothing else does, then every
    line is one value: a bracket left open would have taken the number after it into its own depths.
    """
    if b"\\" in block and b"\\u000" in block:  # five bytes are sought faster than six
        return None
    body = block.removesuffix(b"\n")
    joined = body.replace(b"\n", _BETWEEN)
    count = (len(joined) - len(body)) // (len(_BETWEEN) - 1)
    try:
        found: list[Any] = orjson.loads(b"".join((b"[", joined, b"]")))
    except orjson.JSONDecodeError:
        return None
    if len(found) != 2 * count + 1 or found[1::2].count(_SEPARATOR) != count:
        return None
    return found[::2]


_SEPARATOR = secrets.randbelow(9 * 10**11) + 10**11
_BETWEEN = b",%d," % _SEPARATOR


def _jsonl_raw(file: BinaryIO, encoding: str | None) -> Iterator[bytes]:
    for block in LineBlocks(file, encoding, carriage_returns=False):
        yield from filter(None, map(bytes.strip, block.split(b"\n")))


def _json_raw(file: BinaryIO, encoding: str | None) -> Iterator[bytes]:
    reader = ArrayReader(utf8_chunks(file, encoding))
    if reader.is_array():
        yield from (raw for _, raw in reader.elements())
    else:
        yield orjson.dumps(reader.single()[1])


def _parsed(raw: bytes, line: int) -> Any:
    if len(raw) > MAX_RECORD_BYTES:
        raise too_long(line)
    try:
        return _without_nul(raw, orjson.loads(raw))
    except orjson.JSONDecodeError as error:
        advice = _JSONL_ADVICE
        if line == 1 and raw.lstrip()[:1] in (b"[", b"{") and error.pos >= len(raw.rstrip()) - 1:
            advice += " If the file is one JSON value over several lines, name it .json."
        raise json_error(raw, error, line, advice) from None


def _json_blocks(file: BinaryIO, encoding: str | None) -> Iterator[Block]:
    reader = ArrayReader(utf8_chunks(file, encoding))
    is_array = reader.is_array()
    if is_array is False:
        line, value = reader.single()
        yield Block(None, [value], [line])
    if not is_array:
        return
    rows: list[Any] = []
    lines: list[int] = []
    size = 0
    done = 0
    for line, raw in reader.elements():
        try:
            row = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise json_error(raw, error, line, record=done + len(rows) + 1) from None
        rows.append(_without_nul(raw, row))
        lines.append(line)
        size += len(raw)
        if size >= BLOCK_BYTES:
            yield Block(None, rows, lines, done + 1)
            done += len(rows)
            rows, lines, size = [], [], 0
    if rows:
        yield Block(None, rows, lines, done + 1)


def _without_nul(raw: bytes, row: Any) -> Any:
    if b"\\u0000" in raw and _NUL_ESCAPE.search(raw):
        return Unusable("The record holds a NUL character (\\u0000), which cannot be stored or learned. Remove it.")
    return row


def _json_record(line: int, row: Any) -> Record:
    if isinstance(row, dict):
        if len(row) > MAX_COLUMNS:
            return Record(line, {}, f"The record has {len(row)} fields; at most {MAX_COLUMNS} are read.")
        return Record(line, row)
    if isinstance(row, Unusable):
        return Record(line, {}, row.message)
    kind = {list: "a list", str: "text", bool: "true or false", type(None): "null"}.get(type(row), "a number")
    return Record(line, {}, f"The record is {kind}, not an object with named fields.")
