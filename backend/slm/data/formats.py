"""Records of a data file, one after another, in constant memory: CSV, JSON, JSONL.

Values are never altered: a CSV cell is the very text of the file (`007`, `NA`, `=1+1`). Broken *syntax* (bytes that are
not UTF-8, an unclosed quote, a line that does not parse) raises `BrokenSyntax` at the first broken line, because what
was meant cannot be known. A record that parses but has the wrong shape is yielded with a `fault`.
Standard library, orjson and ijson only: the platform starts this in a small child process.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, BinaryIO

import ijson
import orjson

from slm.spec import FileFormat

MAX_RECORD_BYTES = 16 * 1024 * 1024
MAX_COLUMNS = 4096
_DELIMITERS = (",", ";", "\t")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_REMEDY = "Save the file as UTF-8, or name its encoding when you upload it (encoding=latin-1, for example)."


class BrokenSyntax(Exception):
    """The file cannot be read. `line` is the first broken line (in a JSON file may be unknown: None)."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(frozen=True, slots=True)
class Record:
    """One data record. `line` is where it starts in the file; in a JSON array, its number counted from 1."""

    line: int
    values: dict[str, Any]
    fault: str | None = field(default=None)


def format_of(file_name: str) -> FileFormat:
    """The format by the name's extension. Raises `ValueError` with a sentence for any other extension."""
    extension = PurePath(file_name).suffix.lower().removeprefix(".")
    try:
        return FileFormat(extension)
    except ValueError:
        shown = f"'.{extension}' files" if extension else "files without an extension"
        raise ValueError(f"Cannot read {shown}; upload a .csv, .json or .jsonl file.") from None


def iter_records(path: Path, file_format: FileFormat, *, encoding: str | None = None) -> Iterator[Record]:
    """Every record in order. Raises `BrokenSyntax`; memory does not grow with the file.

    `encoding` asks for a conversion (`latin-1`, `utf-16`, …); without it the bytes must be UTF-8.
    """
    if file_format is FileFormat.CSV:
        yield from _csv_records(path, encoding)
    elif file_format is FileFormat.JSONL:
        yield from _jsonl_records(path, encoding)
    else:
        yield from _json_records(path, encoding)


def checked_encoding(name: str | None) -> str | None:
    """The codec's own name. Raises `ValueError` with a sentence for one that is unknown or not a text encoding."""
    if not name or not name.strip():
        return None
    try:
        info = codecs.lookup(name.strip())
        "".encode(info.name)
    except (LookupError, ValueError):
        raise ValueError(
            f"Unknown encoding '{name[:40]}'; common ones are utf-8, latin-1, cp1252 and utf-16."
        ) from None
    return None if info.name == "utf-8" else info.name


def _text_lines(path: Path, encoding: str | None) -> Iterator[str]:
    """Physical lines with their ends. A line that is too long, holds NUL or is not text raises, naming its number."""
    number = 0
    if encoding:
        with path.open("r", encoding=encoding, newline="") as text:
            try:
                for number, line in enumerate(text, 1):
                    yield _checked(line.removeprefix("\ufeff") if number == 1 else line, number)
            except UnicodeError:
                message = f"Line {number + 1} is not {encoding} text. Name the encoding the file really has."
                raise BrokenSyntax(message, number + 1) from None
        return
    with path.open("rb") as file:
        while raw := file.readline(MAX_RECORD_BYTES + 1):
            number += 1
            if number == 1:
                raw = _without_bom(raw)
            if len(raw) > MAX_RECORD_BYTES:
                raise BrokenSyntax(f"Line {number} is longer than 16 MiB; split it into smaller records.", number)
            yield _checked(_decoded(raw, number), number)


def _without_bom(raw: bytes) -> bytes:
    if raw.startswith(_UTF16):
        raise BrokenSyntax(f"Line 1: the file is UTF-16, not UTF-8. {_REMEDY}", 1)
    return raw.removeprefix(codecs.BOM_UTF8)


def _decoded(raw: bytes, number: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1} (0x{raw[error.start]:02x})"
        raise BrokenSyntax(f"Line {number} is not valid UTF-8 at {where}. {_REMEDY}", number) from None


def _checked(line: str, number: int) -> str:
    if "\0" in line:
        raise BrokenSyntax(f"Line {number} holds a NUL character; remove it, or name the file's encoding.", number)
    return line


class _Counted:
    """Lines for `csv.reader`, remembering how many were taken and where the current record began."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.taken = 0
        self.start = 1

    def __iter__(self) -> _Counted:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.taken += 1
        return line


def _csv_records(path: Path, encoding: str | None) -> Iterator[Record]:
    csv.field_size_limit(MAX_RECORD_BYTES)
    source = _text_lines(path, encoding)
    first = next(source, None)
    while first is not None and not first.strip():
        raise BrokenSyntax("Line 1 is empty; a CSV file starts with a line of column names.", 1)
    if first is None:
        return
    lines = _Counted(_chain(first, source))
    reader = csv.reader(lines, strict=True, delimiter=_delimiter(first))
    header = _header(_next_row(reader, lines) or [])
    width = len(header)
    while (row := _next_row(reader, lines)) is not None:
        if len(row) == width:
            yield Record(lines.start, dict(zip(header, row, strict=True)))
        elif row:
            fault = f"{len(row)} fields where the header names {width}; quote text that holds the separator."
            yield Record(lines.start, dict(zip(header, row, strict=False)), fault)


def _chain(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _delimiter(header: str) -> str:
    """The separator that occurs most often outside quotes in the header line; the comma where none does."""
    outside = "".join(header.split('"')[::2])
    return max(_DELIMITERS, key=lambda mark: (outside.count(mark), mark == ","))


def _next_row(reader: Any, lines: _Counted) -> list[str] | None:
    lines.start = lines.taken + 1
    try:
        row: list[str] | None = next(reader, None)
    except csv.Error as error:
        raise BrokenSyntax(_csv_sentence(str(error), lines), lines.start) from None
    return row


def _csv_sentence(problem: str, lines: _Counted) -> str:
    start = lines.start
    if "unexpected end of data" in problem or "field larger than" in problem:
        return (
            f"Line {start}: a quote is opened but never closed. Close it, or write a quote inside text as two quotes."
        )
    if "expected after" in problem:
        return f"Line {start}: text follows a closing quote. Write a quote inside quoted text as two quotes."
    return f"Line {start}: {problem.rstrip('.')}. Mend this line and upload the file again."


def _header(names: list[str]) -> list[str]:
    if len(names) > MAX_COLUMNS:
        raise BrokenSyntax(f"Line 1 names {len(names)} columns; at most {MAX_COLUMNS} are read.", 1)
    for position, name in enumerate(names, 1):
        if not name.strip():
            raise BrokenSyntax(f"Line 1: column {position} has no name. Every column needs one.", 1)
        if name in names[: position - 1]:
            raise BrokenSyntax(f"Line 1: two columns are called '{name[:60]}'. Rename one of them.", 1)
    return names


def _jsonl_records(path: Path, encoding: str | None) -> Iterator[Record]:
    for number, raw in enumerate(_byte_lines(path, encoding), 1):
        if not raw.strip():
            continue
        try:
            value = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            message = f"Line {number} is not valid JSON ({error.msg.rstrip('.')}). Each line must be one JSON object."
            raise BrokenSyntax(message, number) from None
        yield _shaped(number, value)


def _byte_lines(path: Path, encoding: str | None) -> Iterator[bytes]:
    if encoding:
        for line in _text_lines(path, encoding):
            yield line.encode()
        return
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(MAX_RECORD_BYTES + 1):
            number += 1
            if number == 1:
                raw = _without_bom(raw)
            if len(raw) > MAX_RECORD_BYTES:
                raise BrokenSyntax(f"Line {number} is longer than 16 MiB; split it into smaller records.", number)
            if not raw.isascii():
                _decoded(raw, number)
            yield raw


def _shaped(line: int, value: Any) -> Record:
    if isinstance(value, dict):
        if len(value) > MAX_COLUMNS:
            return Record(line, {}, f"{len(value)} fields; at most {MAX_COLUMNS} are read.")
        return Record(line, value)
    kind = {list: "a list", str: "text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
    return Record(line, {}, f"The record is {kind}, not an object with named fields.")


def _json_records(path: Path, encoding: str | None) -> Iterator[Record]:
    with _json_bytes(path, encoding) as file:
        start = _first_byte(file)
        if start is None:
            return
        if start != b"[":
            if start != b"{":
                raise BrokenSyntax("The file must hold a JSON array of objects, or one object.", 1)
            yield _shaped(1, _whole(file))
            return
        count = 0
        try:
            for count, value in enumerate(ijson.items(file, "item", use_float=True), 1):
                yield _shaped(count, value)
        except (ijson.JSONError, UnicodeDecodeError, ValueError) as error:
            file.seek(0)
            raise _json_error(file, error, count) from None


def _json_bytes(path: Path, encoding: str | None) -> BinaryIO:
    if not encoding:
        return path.open("rb")
    import tempfile

    converted = tempfile.TemporaryFile(dir=path.parent)
    for line in _text_lines(path, encoding):
        converted.write(line.encode())
    converted.seek(0)
    return converted


def _first_byte(file: BinaryIO) -> bytes | None:
    """The first byte that is not white space; the file is left at the beginning of its content."""
    start = _without_bom(head) if (head := file.read(4)) else b""
    offset = len(head) - len(start)
    file.seek(offset)
    while byte := file.read(1):
        if byte not in b" \t\r\n":
            file.seek(offset)
            return byte
    return None


def _whole(file: BinaryIO) -> Any:
    content = file.read(MAX_RECORD_BYTES + 1)
    if len(content) > MAX_RECORD_BYTES:
        raise BrokenSyntax("The file is one JSON object of more than 16 MiB; use an array of objects.", 1)
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise _parse_error(error) from None


def _parse_error(error: orjson.JSONDecodeError) -> BrokenSyntax:
    message = f"Line {error.lineno} is not valid JSON ({error.msg.rstrip('.')}). Mend it and upload the file again."
    return BrokenSyntax(message, error.lineno)


def _json_error(file: BinaryIO, error: Exception, records: int) -> BrokenSyntax:
    """The broken line where the file is small enough to parse again whole, else the record after which it breaks."""
    content = file.read(4 * MAX_RECORD_BYTES + 1)
    if len(content) <= 4 * MAX_RECORD_BYTES:
        try:
            orjson.loads(content.removeprefix(codecs.BOM_UTF8))
        except orjson.JSONDecodeError as again:
            return _parse_error(again)
    reason = " ".join(str(error).split())[:120]
    return BrokenSyntax(f"The JSON breaks after record {records} ({reason}). Mend it and upload the file again.", None)
