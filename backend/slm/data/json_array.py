"""The records of a `.json` file: an array of objects read one element at a time, or a single object.

An element's end is found by its brackets and strings, then `orjson` parses the element alone, so that an array is held
to the very rules of JSONL (no NaN, no lone surrogate, depth, size) and a fault knows its physical line. A streaming
parser like ijson would read the same file, but replaces a lone surrogate by "?" and does not know lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from slm.data.blocks import MAX_RECORD_BYTES, BrokenSyntax, sound_text, too_long

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_FLAT = re.compile(rb'\{[^"{}\[\]]*+(?:' + _STRING + rb'[^"{}\[\]]*+)*+\}', re.DOTALL)
_TOKEN = re.compile(_STRING + rb'|[\[\]{}"]', re.DOTALL)
_SCALAR = re.compile(_STRING + rb'|[^\s,\]"][^\s,\]]*+(?=[\s,\]])', re.DOTALL)
_SPACE = re.compile(rb"[ \t\r\n]*+")
_OPENING, _QUOTE = b"[{", ord('"')
_MEND = "Mend it and upload the file again."
_CUT = "the file ends before the array is closed; it was cut off, or a quote or bracket is not closed"


def json_error(
    raw: bytes, error: orjson.JSONDecodeError, line: int, advice: str = _MEND, record: int | None = None
) -> BrokenSyntax:
    """The sentence for `raw`, which starts at `line` (of an array, the `record`) and does not parse."""
    broken = sound_text(raw, line)[1]
    if broken is not None:
        return broken
    number = line + error.lineno - 1
    where = f"Line {number}" if record is None else f"Line {number} (record {record})"
    return BrokenSyntax(f"{where} is not valid JSON ({error.msg.rstrip('.')}). {advice}", number)


class ArrayReader:
    """Reads one file's chunks; `elements` yields (line, raw element)."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = b""
        self._at = 0
        self._line = 1
        self._ended = False

    def is_array(self) -> bool | None:
        """Whether the document is an array, else an object; None for white space only. Raises for anything else."""
        mark = self._next_mark()
        if mark == b"":
            return None
        if mark not in (b"[", b"{"):
            raise self._broken("the file must hold a JSON array of objects, or one object")
        return mark == b"["

    def single(self) -> tuple[int, Any]:
        """The one object of the file, with its line."""
        while self._more():
            if len(self._buffer) - self._at > MAX_RECORD_BYTES:
                raise too_long(self._line)
        raw = self._buffer[self._at :]
        try:
            return self._line, orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            advice = _MEND
            if _parses(raw.lstrip().partition(b"\n")[0]):
                advice = "If each line is an object of its own, name the file .jsonl; else put the objects in [ ]."
            raise json_error(raw, error, self._line, advice) from None

    def elements(self) -> Iterator[tuple[int, bytes]]:
        self._skip(1)
        if self._next_mark() == b"]":
            self._skip(1)
        else:
            while True:
                yield self._element()
                mark = self._next_mark()
                if mark not in (b",", b"]"):
                    raise self._broken("a comma or the closing ] is missing after a record" if mark else _CUT)
                self._skip(1)
                if mark == b"]":
                    break
                if self._next_mark() == b"]":
                    raise self._broken("a comma stands before the closing ]; remove it")
        if self._next_mark() != b"":
            raise self._broken("more text follows the end of the array; remove it")

    def _element(self) -> tuple[int, bytes]:
        if self._next_mark() in (b",", b"]", b"}", b":"):
            raise self._broken("a record is missing between commas or brackets")
        tried = 0
        while True:
            size = len(self._buffer) - self._at
            full = self._ended or size > MAX_RECORD_BYTES
            if full or size >= 2 * tried:  # doubling keeps the work linear in a long record
                end, tried = _end_of_value(self._buffer, self._at), size
                if end - self._at > MAX_RECORD_BYTES:
                    raise too_long(self._line)
                if end > 0:
                    return self._taken(end)
            if full:
                raise self._unfinished()
            self._more()

    def _taken(self, end: int) -> tuple[int, bytes]:
        raw, line = self._buffer[self._at : end], self._line
        self._line += raw.count(b"\n")
        self._at = end
        return line, raw

    def _unfinished(self) -> BrokenSyntax:
        """A record has no end: the file was cut off, a quote or bracket was never closed, or it is too long."""
        raw = self._buffer[self._at :]
        try:
            orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            if raw and "unexpected end" not in error.msg:
                return json_error(raw, error, self._line)
        return self._broken(_CUT) if self._ended else too_long(self._line)

    def _broken(self, problem: str) -> BrokenSyntax:
        return BrokenSyntax(f"Line {self._line}: {problem}. {_MEND}", self._line)

    def _next_mark(self) -> bytes:
        """The next byte that is not white space, not consumed; empty at the end of the file."""
        while True:
            space = _SPACE.match(self._buffer, self._at)
            end = space.end() if space else self._at
            self._line += self._buffer.count(b"\n", self._at, end)
            self._at = end
            if end < len(self._buffer):
                return self._buffer[end : end + 1]
            if not self._more():
                return b""

    def _skip(self, count: int) -> None:
        self._at += count

    def _more(self) -> bool:
        chunk = next(self._chunks, None)
        if chunk is None:
            self._ended = True
            return False
        self._buffer = self._buffer[self._at :] + chunk
        self._at = 0
        return True


def _parses(raw: bytes) -> bool:
    try:
        return isinstance(orjson.loads(raw), dict)
    except orjson.JSONDecodeError:
        return False


def _end_of_value(buffer: bytes, start: int) -> int:
    """Where the value at `start` ends; -1 where the buffer does not hold all of it."""
    if start >= len(buffer):
        return -1
    if buffer[start] not in _OPENING:
        scalar = _SCALAR.match(buffer, start)
        return scalar.end() if scalar else -1
    flat = _FLAT.match(buffer, start)
    if flat:
        return flat.end()
    depth = 0
    for token in _TOKEN.finditer(buffer, start):
        at = token.start()
        mark = buffer[at]
        if mark == _QUOTE:
            if token.end() - at == 1:
                return -1
        elif mark in _OPENING:
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                return token.end()
    return -1
