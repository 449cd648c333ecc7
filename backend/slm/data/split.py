"""Two files out of one: a fraction of the records, drawn by lot, and the rest.

No record is altered, lost or doubled. Records that ask the same (equal prompt or text, whatever case and white space)
stay on one side, so that nothing of one file can be remembered from the other. The draw depends on the seed and the
records alone. Memory grows by one bit per record: keys are sorted on disk, in parts.

Run as a child process by the platform: `python -m slm.data.split PATH --format csv … --rest FILE --part FILE` prints
one JSON document and exits 0, or 1 with the reason.
"""

from __future__ import annotations

import argparse
import codecs
import errno
import hashlib
import os
import sys
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from math import floor
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

import orjson

from slm.data.examples import (
    Classification,
    Example,
    Fault,
    Message,
    Messages,
    Preference,
    PromptCompletion,
    iter_examples,
)
from slm.data.formats import BrokenSyntax, Record, iter_raw, iter_records
from slm.data.inspection import Inspection, NoUsableRow, WrongMapping, inspect_file, refusal
from slm.spec import DatasetKind, FileFormat

MAX_LABELS = 10_000
_PARTS = 256
_IN_MEMORY = 1 << 16
"""Records whose keys are held before they are written: 24 bytes each."""
_WORDS = 3
"""Of each record: its lot, its label's number, its own number."""
_WRITTEN = 1 << 20


class NotSplittable(ValueError):
    """The records cannot be put into two files as asked; the message is a sentence."""


@dataclass(frozen=True, slots=True)
class Source:
    """The file, and how it is read."""

    path: Path
    file_format: FileFormat
    kind: DatasetKind | None
    mapping: Mapping[str, str]
    encoding: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """A file that was made, whose bytes are on the disk, and what it holds."""

    size_bytes: int
    sha256: str
    inspection: Inspection

    def as_dict(self) -> dict[str, Any]:
        return {"size_bytes": self.size_bytes, "sha256": self.sha256, "inspection": self.inspection.as_dict()}


def split_file(
    source: Source, rest: Path, part: Path, *, fraction: float, seed: int, stratify: bool
) -> tuple[Written, Written]:
    """Write about `fraction` of the records to `part` and all others to `rest`, each in the order of the source.

    With `stratify` each label keeps its share (labelled texts only). Each file keeps the source's format, header,
    separator and byte order mark; one that was converted becomes UTF-8.
    Raises `NotSplittable`, `BrokenSyntax` where the source no longer reads, or `OSError`.
    """
    if stratify and source.kind is not DatasetKind.CLASSIFICATION:
        holds = source.kind.value if source.kind else "nothing that is understood yet"
        raise NotSplittable(f"stratify: only texts with labels can keep their shares; this dataset holds {holds}.")
    with _Lots(rest.parent) as lots:
        _draw_lots(source, lots, seed=seed, stratify=stratify)
        chosen = lots.choose(fraction)
        rows = lots.rows
    header, records = _records(source)
    outputs = [_Output(path, source.file_format, header) for path in (rest, part)]
    try:
        number = -1
        for number, record in zip(range(rows), records, strict=False):
            outputs[chosen[number >> 3] >> (number & 7) & 1].add(record)
        if number != rows - 1:
            raise NotSplittable("The file was changed while it was being split; upload it again.")
        digests = [output.finish() for output in outputs]
    finally:
        for output in outputs:
            output.close()
    made = [
        Written(output.size, digest, _look(source, output.path))
        for output, digest in zip(outputs, digests, strict=True)
    ]
    return made[0], made[1]


def _draw_lots(source: Source, lots: _Lots, *, seed: int, stratify: bool) -> None:
    labels: dict[str, int] = {}
    for record, example in _examples(source):
        label = 0
        if stratify and isinstance(example, Classification):
            label = labels.setdefault(example.label, len(labels) + 1)
            if len(labels) > MAX_LABELS:
                raise NotSplittable(f"stratify: the dataset has more than {MAX_LABELS:,} labels; split it without.")
        lots.add(_lot(_what_it_asks(record, example), seed), label)


def _examples(source: Source) -> Iterator[tuple[Record, Example | Fault]]:
    if source.kind is None:
        for record in iter_records(source.path, source.file_format, encoding=source.encoding):
            yield record, Fault(None, "")
        return
    yield from iter_examples(
        source.path, source.file_format, kind=source.kind, mapping=source.mapping, encoding=source.encoding
    )


def _what_it_asks(record: Record, example: Example | Fault) -> list[str]:
    """The texts by which records are told apart: what the model is given; of an unusable record all it holds."""
    if isinstance(example, Messages):
        return _turns(_before_the_answer(example.messages))
    if isinstance(example, PromptCompletion):
        return ["user", example.prompt]
    if isinstance(example, Preference):
        return _turns(example.prompt) or [example.chosen, example.rejected]
    if isinstance(example, Fault):
        try:
            return [orjson.dumps(record.values, option=orjson.OPT_SORT_KEYS).decode()]
        except orjson.JSONEncodeError:  # nested deeper than orjson writes
            return [repr(record.values)]
    return [example.text]


def _before_the_answer(turns: tuple[Message, ...]) -> tuple[Message, ...]:
    first = next(place for place, turn in enumerate(turns) if turn.role == "assistant")
    return turns[:first] or turns


def _turns(turns: tuple[Message, ...]) -> list[str]:
    return [text for turn in turns for text in (turn.role, turn.content)]


def _lot(texts: list[str], seed: int) -> int:
    """A number below 2^64, the same for texts that differ in case and white space only."""
    digest = hashlib.blake2b(digest_size=8, key=seed.to_bytes(8, "little"))
    for text in texts:
        plain = " ".join(text.split()).casefold().encode()
        digest.update(len(plain).to_bytes(8, "little") + plain)
    return int.from_bytes(digest.digest(), "big")


class _Lots:
    """The records' lots, sorted by their first byte into parts on disk; records of one lot are a group."""

    def __init__(self, folder: Path) -> None:
        self.rows = 0
        self._labels: Counter[int] = Counter()
        self._held = [array("Q") for _ in range(_PARTS)]
        self._holding = 0
        self._where: list[list[tuple[int, int]]] = [[] for _ in range(_PARTS)]
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed by __exit__)

    def __enter__(self) -> _Lots:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, lot: int, label: int) -> None:
        self._held[lot >> 56].extend((lot, label, self.rows))
        self.rows += 1
        self._labels[label] += 1
        self._holding += 1
        if self._holding >= _IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        for part, held in enumerate(self._held):
            if held:
                self._where[part].append((self._file.tell(), len(held)))
                self._file.write(held)
                self._held[part] = array("Q")
        self._holding = 0

    def _stretches(self, part: int) -> Iterator[array[int]]:
        for offset, length in self._where[part]:
            self._file.seek(offset)
            found = array("Q")
            found.frombytes(self._file.read(length * found.itemsize))
            yield found

    def _groups(self, part: int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Each lot of the part, in order, and how many records of each label it has."""
        sizes: Counter[tuple[int, int]] = Counter()
        for found in self._stretches(part):
            sizes.update(zip(found[::_WORDS], found[1::_WORDS], strict=True))
        for lot, members in groupby(sorted(sizes), key=itemgetter(0)):
            yield lot, [(member[1], sizes[member]) for member in members]

    def choose(self, fraction: float) -> bytearray:
        """One bit per record: 1 where it belongs to the fraction. Groups come by lot, until a label has its share."""
        if self.rows < 2:
            raise NotSplittable("The dataset has a single row; two are needed to split it.")
        self._spill()
        wanted = _shares(self._labels, fraction)
        chosen = bytearray((self.rows + 7) // 8)
        taken = 0
        smallest = (self.rows, 0)
        for part in range(_PARTS):
            lots = set()
            for lot, members in self._groups(part):
                size = sum(count for _, count in members)
                smallest = min(smallest, (size, lot))
                useful = sum(min(wanted[label], count) for label, count in members)
                if 2 * useful >= size and taken + size < self.rows:
                    for label, count in members:
                        wanted[label] = max(wanted[label] - count, 0)
                    taken += size
                    lots.add(lot)
            self._mark(part, lots, chosen)
        if smallest[0] == self.rows:
            raise NotSplittable("All rows ask the same, so that none can be held out from the others.")
        if not taken:  # every group is larger than what is wanted
            self._mark(smallest[1] >> 56, {smallest[1]}, chosen)
        return chosen

    def _mark(self, part: int, lots: set[int], chosen: bytearray) -> None:
        for found in self._stretches(part) if lots else ():
            for lot, row in zip(found[::_WORDS], found[2::_WORDS], strict=True):
                if lot in lots:
                    chosen[row >> 3] |= 1 << (row & 7)


def _shares(labels: Counter[int], fraction: float) -> dict[int, int]:
    """How many records of each label to take: the fraction of all, largest remainders first, at least one in all."""
    rows = labels.total()
    shares = {label: floor(count * fraction) for label, count in labels.items()}
    by_remainder = sorted(labels, key=lambda label: (shares[label] - labels[label] * fraction, label))
    missing = min(max(round(rows * fraction), 1), rows - 1) - sum(shares.values())
    for label in by_remainder[: max(missing, 0)]:
        shares[label] += 1
    return shares


class _Output:
    """One of the two files: records written in the source's format, counted and hashed."""

    def __init__(self, path: Path, file_format: FileFormat, header: bytes) -> None:
        self.path = path
        self._file = path.open("wb", buffering=_WRITTEN)
        self._json = file_format is FileFormat.JSON
        self._end = {FileFormat.CSV: _line_end(header), FileFormat.JSONL: b"\n", FileFormat.JSON: b""}[file_format]
        self._digest = hashlib.sha256()
        self.size = 0
        self._put(header)
        self._before = b"[\n"

    def _put(self, content: bytes) -> None:
        self._file.write(content)
        self._digest.update(content)
        self.size += len(content)

    def add(self, record: bytes) -> None:
        if self._json:
            record = self._before + record
            self._before = b",\n"
        elif not record.endswith((b"\n", b"\r")):
            record += self._end
        self._put(record)

    def finish(self) -> str:
        """All bytes on the disk; their SHA-256 in hex."""
        if self._json:
            self._put(b"\n]\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()
        return self._digest.hexdigest()

    def close(self) -> None:
        self._file.close()


def _line_end(header: bytes) -> bytes:
    return next((end for end in (b"\r\n", b"\n", b"\r") if header.endswith(end)), b"\n")


def _records(source: Source) -> tuple[bytes, Iterator[bytes]]:
    """What each file begins with (byte order mark, CSV's header), and the records after it."""
    with source.path.open("rb") as file:
        marked = source.encoding is None and file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
    records = iter_raw(source.path, source.file_format, encoding=source.encoding)
    header = next(records, b"") if source.file_format is FileFormat.CSV else b""
    return (codecs.BOM_UTF8 if marked else b"") + header, records


def _look(source: Source, path: Path) -> Inspection:
    """What the new file holds, read as its source is."""
    try:
        return inspect_file(path, file_format=source.file_format, mapping=dict(source.mapping) or None)
    except WrongMapping:  # an optional column that no row of this file has
        return inspect_file(path, file_format=source.file_format)
    except NoUsableRow:
        raise NotSplittable("One of the two files would hold nothing but rows without content.") from None


def _answer(arguments: argparse.Namespace) -> dict[str, Any]:
    source = Source(
        path=Path(arguments.path),
        file_format=FileFormat(arguments.format),
        kind=DatasetKind(arguments.kind) if arguments.kind else None,
        mapping=orjson.loads(arguments.mapping),
        encoding=arguments.encoding,
    )
    try:
        rest, part = split_file(
            source,
            Path(arguments.rest),
            Path(arguments.part),
            fraction=arguments.fraction,
            seed=arguments.seed,
            stratify=arguments.stratify,
        )
    except NotSplittable as error:
        return refusal("split", str(error))
    except BrokenSyntax as error:
        return refusal(error.code, error.message, error.line)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return refusal("storage_full" if full else "unreadable", f"The file could not be split: {error.strerror}.")
    return {"ok": True, "rest": rest.as_dict(), "part": part.as_dict()}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m slm.data.split", description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--format", required=True, choices=[member.value for member in FileFormat])
    parser.add_argument("--kind", choices=[member.value for member in DatasetKind])
    parser.add_argument("--mapping", default="{}", help="JSON: role → column")
    parser.add_argument("--encoding", help="convert from this encoding; without it the file must be UTF-8")
    parser.add_argument("--fraction", type=float, required=True, help="how much of it goes to --part")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--stratify", action="store_true", help="each label keeps its share")
    parser.add_argument("--rest", required=True, help="file to write")
    parser.add_argument("--part", required=True, help="file to write")
    answer = _answer(parser.parse_args(argv))
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
