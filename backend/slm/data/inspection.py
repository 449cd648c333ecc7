"""What a data file holds, decided from all its rows in one streaming pass: kind, columns, faults by line, statistics.

Run as a child process by the platform, so that a large upload never holds up the service:
`python -m slm.data.inspection PATH --format csv` prints one JSON document and exits 0, or 1 with the reason.
Memory stays bounded: hashes of rows are sorted on disk, so that duplicates are counted exactly at any size.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any

import orjson

from slm.data.examples import (
    Classification,
    Detector,
    Example,
    Fault,
    Messages,
    Preference,
    PromptCompletion,
    as_document,
    kind_of_mapping,
    to_example,
)
from slm.data.formats import BrokenSyntax, Record, checked_encoding, iter_records
from slm.spec import DatasetKind, FileFormat

MAX_FAULTS = 100
MAX_LABELS = 200
_HASH_BYTES = 12
_HASHES_IN_MEMORY = 500_000


class NoUsableRow(Exception):
    """The file holds no record at all, or none with content."""


@dataclass
class Inspection:
    row_count: int = 0
    columns: list[str] = field(default_factory=list)
    kind: str | None = None
    kind_reason: str = ""
    mapping: dict[str, str] | None = None
    faults: dict[str, Any] = field(default_factory=dict)
    statistics: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def inspect_file(
    path: Path,
    *,
    file_format: FileFormat,
    mapping: dict[str, str] | None = None,
    encoding: str | None = None,
) -> Inspection:
    """Read the file twice: once for names, syntax and duplicates, once for examples and faults.

    Raises `BrokenSyntax`, `NoUsableRow`, or `ValueError` for a mapping or an encoding that cannot be.
    """
    encoding = checked_encoding(encoding)
    found = _Columns()
    for record in iter_records(path, file_format, encoding=encoding):
        found.see(record)
    if found.rows == 0:
        raise NoUsableRow("The file holds no data row. Add at least one record and upload it again.")
    if found.filled == 0:
        raise NoUsableRow(f"All {found.rows} rows are empty. Fill at least one and upload the file again.")
    result = Inspection(row_count=found.rows, columns=list(found.names))
    if mapping:
        result.kind, result.mapping = kind_of_mapping(mapping, result.columns).value, dict(mapping)
        result.kind_reason = "The kind follows from the mapping that was given."
    else:
        kind, result.mapping, result.kind_reason = found.detector.decide()
        result.kind = kind.value if kind else None
    duplicates = found.duplicates.count()
    tally = _Tally()
    for record in iter_records(path, file_format, encoding=encoding):
        tally.see(record, result.kind, result.mapping)
    result.faults = {"count": tally.fault_count, "first": tally.faults}
    result.statistics = tally.statistics(rows=found.rows, empty=found.rows - found.filled, duplicates=duplicates)
    return result


class _Columns:
    """The first pass: names, how many rows, how many with content, and which rows are the same."""

    def __init__(self) -> None:
        self.rows = 0
        self.filled = 0
        self.names: dict[str, None] = {}
        self.detector = Detector()
        self.duplicates = _Duplicates()
        self._last: tuple[str, ...] = ()

    def see(self, record: Record) -> None:
        self.rows += 1
        names = tuple(record.values)
        if names != self._last:
            self.names.update(dict.fromkeys(names))
            self._last = names
        if record.fault is None:
            self.detector.see(names)
        if any(_has_content(value) for value in record.values.values()):
            self.filled += 1
        self.duplicates.add(record.values)


def _has_content(value: Any) -> bool:
    return bool(value.strip()) if isinstance(value, str) else value is not None and value != [] and value != {}


class _Duplicates:
    """Counts rows that occurred before, exactly: 96-bit digests, sorted runs on disk beyond half a million rows."""

    def __init__(self) -> None:
        self._hashes: list[bytes] = []
        self._runs: list[IO[bytes]] = []

    def add(self, values: dict[str, Any]) -> None:
        content = repr(list(values.items())).encode("utf-8", "surrogatepass")
        self._hashes.append(hashlib.blake2b(content, digest_size=_HASH_BYTES).digest())
        if len(self._hashes) >= _HASHES_IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        run = tempfile.TemporaryFile()
        run.writelines(sorted(self._hashes))
        run.seek(0)
        self._runs.append(run)
        self._hashes = []

    def count(self) -> int:
        """How many rows repeat an earlier one. Ends the collection."""
        streams: list[Iterator[bytes]] = [iter(sorted(self._hashes))]
        streams += [iter(lambda run=run: run.read(_HASH_BYTES), b"") for run in self._runs]
        previous, repeated = b"", 0
        for digest in heapq.merge(*streams):
            repeated += digest == previous
            previous = digest
        for run in self._runs:
            run.close()
        return repeated


class _Tally:
    """The second pass: examples, faults and what the statistics need."""

    def __init__(self) -> None:
        self.faults: list[dict[str, Any]] = []
        self.fault_count = 0
        self.examples = 0
        self.characters = 0
        self.longest = 0
        self.learned_characters = 0
        self.turns: Counter[int] = Counter()
        self.labels: Counter[str] = Counter()

    def see(self, record: Record, kind: str | None, mapping: dict[str, str] | None) -> None:
        if record.fault is not None:
            self._fault(record.line, Fault(None, record.fault))
            return
        if kind is None or mapping is None:
            length = sum(len(value) for value in record.values.values() if isinstance(value, str))
            self._measure(length, length)
            return
        example = to_example(record.values, kind=DatasetKind(kind), mapping=mapping)
        if isinstance(example, Fault):
            self._fault(record.line, example)
            return
        self.examples += 1
        self._count(example)

    def _fault(self, line: int, fault: Fault) -> None:
        self.fault_count += 1
        if len(self.faults) < MAX_FAULTS:
            self.faults.append({"line": line, "field": fault.field, "message": fault.message})

    def _measure(self, length: int, learned: int) -> None:
        self.characters += length
        self.learned_characters += learned
        self.longest = max(self.longest, length)

    def _count(self, example: Example) -> None:
        if isinstance(example, Messages):
            self.turns[len(example.messages)] += 1
            spoken = sum(len(turn.content) for turn in example.messages if turn.role == "assistant")
            self._measure(sum(len(turn.content) for turn in example.messages), spoken)
        elif isinstance(example, PromptCompletion):
            self._measure(len(example.prompt) + len(example.completion), len(example.completion))
        elif isinstance(example, Preference):
            prompt = sum(len(turn.content) for turn in example.prompt)
            self._measure(prompt + len(example.chosen) + len(example.rejected), len(example.chosen))
        else:
            self._measure(len(example.text), len(example.text))
            if isinstance(example, Classification) and (example.label in self.labels or len(self.labels) < MAX_LABELS):
                self.labels[example.label] += 1

    def statistics(self, *, rows: int, empty: int, duplicates: int) -> dict[str, Any]:
        found: dict[str, Any] = {
            "rows": rows,
            "examples": self.examples,
            "empty": empty,
            "duplicates": duplicates,
            "characters": self.characters,
            "learned_characters": self.learned_characters,
            "longest_characters": self.longest,
        }
        if self.turns:
            found["turns"] = {str(count): rows for count, rows in sorted(self.turns.items())}
        if self.labels:
            found["labels"] = dict(self.labels.most_common())
        return found


def read_rows(
    path: Path,
    file_format: FileFormat,
    *,
    offset: int,
    limit: int,
    kind: str | None = None,
    mapping: dict[str, str] | None = None,
    encoding: str | None = None,
) -> list[dict[str, Any]]:
    """Rows `offset` … as they stand in the file, each beside the example it becomes, or its fault."""
    rows = []
    for record in islice(iter_records(path, file_format, encoding=encoding), offset, offset + limit):
        row: dict[str, Any] = {"line": record.line, "values": record.values, "example": None, "fault": record.fault}
        if record.fault is None and kind is not None and mapping is not None:
            example = to_example(record.values, kind=DatasetKind(kind), mapping=mapping)
            if isinstance(example, Fault):
                row["fault"] = example.message
            else:
                row["example"] = as_document(example)
        rows.append(row)
    return rows


def _answer(arguments: argparse.Namespace) -> dict[str, Any]:
    mapping = orjson.loads(arguments.mapping) if arguments.mapping else None
    try:
        inspection = inspect_file(
            Path(arguments.path),
            file_format=FileFormat(arguments.format),
            mapping=mapping,
            encoding=arguments.encoding,
        )
    except BrokenSyntax as error:
        return {"ok": False, "error": {"code": "broken_syntax", "line": error.line, "message": error.message}}
    except NoUsableRow as error:
        return {"ok": False, "error": {"code": "no_usable_row", "line": None, "message": str(error)}}
    except ValueError as error:
        return {"ok": False, "error": {"code": "mapping", "line": None, "message": str(error)}}
    return {"ok": True, "inspection": inspection.as_dict()}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m slm.data.inspection", description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--format", required=True, choices=[member.value for member in FileFormat])
    parser.add_argument("--mapping", help="JSON: role → column")
    parser.add_argument("--encoding")
    answer = _answer(parser.parse_args(argv))
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
