"""The bytes of a data file as UTF-8 blocks of whole lines: encodings, byte order marks, NULs, overlong lines.

The floor below `formats`: it knows lines, not records. A block is 512 KiB, so that memory does
not grow with the file and the work per line is done by C code on a whole block at a time.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

MAX_RECORD_BYTES = 16 * 1024 * 1024
BLOCK_BYTES = 512 * 1024
_MARKS = {codecs.BOM_UTF32_LE: 32, codecs.BOM_UTF32_BE: 32, codecs.BOM_UTF16_LE: 16, codecs.BOM_UTF16_BE: 16}
"""Byte order marks; UTF-32's first, because its little-endian one begins with UTF-16's."""
_NOT_TEXT = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"})
"""Codecs of Python that are not how a data file is written, or that would alter its text."""
_FIRST_BYTES = 4
"""Read alone, so that a byte order mark is never cut in two."""


@dataclass(frozen=True, slots=True)
class Span:
    """Whole lines of a file, from byte `start` to before `stop`; `fresh` is where its second chunk begins."""

    start: int
    fresh: int
    stop: int

    def chunks(self, file: BinaryIO) -> Iterator[bytes]:
        """The bytes, cut where the chunks of the whole file are cut: a span has the very blocks that the file has."""
        file.seek(self.start)
        left = self.stop - self.start
        size = self.fresh - self.start or BLOCK_BYTES
        while chunk := file.read(min(size, left)):
            yield chunk
            left -= len(chunk)
            size = BLOCK_BYTES


WHOLE = Span(0, _FIRST_BYTES, sys.maxsize)


def spans(file: BinaryIO, size: int, count: int) -> list[Span]:
    """A file of `size` bytes in at most `count` spans of about the same length."""
    cuts = [(0, _FIRST_BYTES)]
    for number in range(1, count):
        fresh = _FIRST_BYTES + size * number // count // BLOCK_BYTES * BLOCK_BYTES
        start = _line_start(file, fresh)
        if start > cuts[-1][0] and fresh > _FIRST_BYTES:
            cuts.append((start, fresh))
    ends = [start for start, _ in cuts[1:]] + [WHOLE.stop]
    return [Span(start, fresh, stop) for (start, fresh), stop in zip(cuts, ends, strict=True)]


def _line_start(file: BinaryIO, before: int) -> int:
    """Where the line that reaches byte `before` begins; 0 where that is further back than a line may be long."""
    end = before
    while end > 0 and before - end <= MAX_RECORD_BYTES:
        begin = max(0, end - BLOCK_BYTES)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


class BrokenSyntax(Exception):
    """The file cannot be read. `line` is the first broken physical line, `code` is `broken_syntax` or `encoding`."""

    def __init__(self, message: str, line: int | None, *, code: str = "broken_syntax") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.code = code


def _remedy(encoding: str) -> str:
    return f"Save the file as UTF-8, or name its encoding when you upload it (encoding={encoding}, for example)."


def checked_encoding(name: str | None) -> str | None:
    """The codec's own name, or None for UTF-8. Raises `ValueError` with a sentence for one that is not text."""
    if not name or not name.strip():
        return None
    try:
        found = codecs.lookup(name.strip()).name
        "".encode(found)
        if found.replace("-", "_") in _NOT_TEXT:
            raise LookupError(found)
        codecs.getincrementaldecoder(found)
    except (LookupError, ValueError):
        message = f"Unknown encoding '{name.strip()[:40]}'; common ones are utf-8, latin-1, cp1252 and utf-16."
        raise ValueError(message) from None
    return None if found in ("utf-8", "utf-8-sig") else found


class LineBlocks:
    """The file as blocks of whole UTF-8 lines, without a byte order mark; the last line may lack its end.

    `carriage_returns` takes a lone CR as a line end too, as `csv` does. Whoever reads keeps `line` at the number of the
    first line of the coming block, so that lines are counted once, where it costs least. A line that grows beyond
    16 MiB raises. Bytes are not checked to be UTF-8 where no `encoding` is given; `sound_text` or the JSON parser does.
    """

    def __init__(
        self, file: BinaryIO, encoding: str | None, *, carriage_returns: bool, span: Span = WHOLE, line: int = 1
    ) -> None:
        self.line = line
        self._chunks = utf8_chunks(file, encoding, span)
        self._carriage_returns = carriage_returns

    def __iter__(self) -> Iterator[bytes]:
        rest = b""
        for chunk in self._chunks:
            cut = chunk.rfind(b"\n") + 1
            if cut:
                yield b"".join((rest, memoryview(chunk)[:cut]))
                rest = chunk[cut:]
                continue
            rest += chunk
            cut = rest.rfind(b"\r", 0, len(rest) - 1) + 1 if self._carriage_returns else 0
            if cut:
                yield rest[:cut]
                rest = rest[cut:]
            elif len(rest) > MAX_RECORD_BYTES:
                raise too_long(self.line)
        if rest:
            yield rest


def too_long(line: int) -> BrokenSyntax:
    return BrokenSyntax(f"Line {line}: the record is longer than 16 MiB. Split it into smaller records.", line)


def line_ends(content: bytes) -> int:
    """How many lines end in `content`, by LF, CR LF or a lone CR."""
    return content.count(b"\n") + content.count(b"\r") - content.count(b"\r\n")


def utf8_chunks(file: BinaryIO, encoding: str | None, span: Span = WHOLE) -> Iterator[bytes]:
    """The file in pieces, converted to UTF-8 where an `encoding` is asked for, without a byte order mark.

    What stands before bytes that cannot be converted is yielded before `BrokenSyntax` is raised, so that an earlier
    broken line is found first.
    """
    first = span.start == 0
    for chunk in _converted(span.chunks(file), encoding):
        bits = next((bits for mark, bits in _MARKS.items() if chunk.startswith(mark)), None) if first else None
        if bits and encoding is None:
            raise BrokenSyntax(
                f"Line 1: the file is UTF-{bits}, not UTF-8. {_remedy(f'utf-{bits}')}", 1, code="encoding"
            )
        yield chunk.removeprefix(codecs.BOM_UTF8) if first else chunk
        first = first and not chunk


def _converted(chunks: Iterator[bytes], encoding: str | None) -> Iterator[bytes]:
    if encoding is None:
        yield from chunks
        return
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    line = 1
    for chunk in _ending(chunks):
        pending, state = decoder.getstate()
        try:
            converted = decoder.decode(chunk, final=not chunk).encode()
        except UnicodeError as error:
            start = error.start - len(pending) if isinstance(error, UnicodeDecodeError) else 0
            decoder.setstate((pending, state))
            sound = decoder.decode(chunk[: max(start, 0)]).encode()
            yield sound
            line += line_ends(sound)
            message = f"Line {line} is not {encoding} text. Name the encoding that the file really has."
            raise BrokenSyntax(message, line, code="encoding") from None
        yield converted
        line += line_ends(converted)


def _ending(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks and then an empty one, at which the decoder says whether the text is complete."""
    yield from chunks
    yield b""


def sound_text(block: bytes, line: int) -> tuple[str, BrokenSyntax | None]:
    """The block's text; where a byte is not UTF-8 or NUL, the lines before the broken one, and what is broken."""
    stop, code, problem = block.find(b"\0"), "broken_syntax", ""
    try:
        text = block.decode()
        if stop < 0:
            return text, None
    except UnicodeDecodeError as error:
        if stop < 0 or error.start < stop:
            stop, code = error.start, "encoding"
    start = max(block.rfind(b"\n", 0, stop), block.rfind(b"\r", 0, stop)) + 1
    number = line + line_ends(block[:start])
    if code == "encoding":
        where = f"byte {stop - start + 1} of the line is 0x{block[stop]:02x}"
        problem = f"Line {number} is not valid UTF-8 ({where}). {_remedy('latin-1')}"
    else:
        problem = f"Line {number} holds a NUL character. Remove it; if the file is UTF-16, say encoding=utf-16."
    return block[:start].decode(), BrokenSyntax(problem, number, code=code)
