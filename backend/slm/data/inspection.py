"""What a data file holds, decided from all its rows: kind, columns, faults by line, statistics.

Run as a child process by the platform, so that a large upload never holds up the service:
`python -m slm.data.inspection PATH --format csv` prints one JSON document and exits 0, or 1 with the reason.
The file is read once; only where later rows overturn what the first block suggested is it measured a second time.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from slm.data.examples import Fault, as_document, to_example
from slm.data.formats import BrokenSyntax, Record, checked_encoding, iter_blocks
from slm.data.kinds import kind_of_mapping
from slm.data.measure import MAX_LABELS, Tally
from slm.data.ranges import Measured, first_pass, second_pass
from slm.data.survey import Survey
from slm.spec import DatasetKind, FileFormat


class NoUsableRow(Exception):
    """The file holds no record at all, or none with content."""


class WrongMapping(ValueError):
    """The mapping that was given makes no kind of data, or names a column that the file has not."""


@dataclass
class Inspection:
    row_count: int
    """Data records, usable or not."""
    columns: list[str]
    """Field names in the order in which they first occur; the first 4096."""
    kind: str | None
    """A `DatasetKind`, or null where the columns fit none or more than one."""
    kind_reason: str
    """Why, in a sentence; where `kind` is null it shows the mapping that would settle it."""
    mapping: dict[str, str] | None
    """Role → column, as given or as detected."""
    faults: dict[str, Any] = field(default_factory=dict)
    """`count` of records that cannot be used and the `first` hundred: line, field, message."""
    statistics: dict[str, Any] = field(default_factory=dict)
    """See docs/data-formats.md."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def inspect_file(
    path: Path,
    *,
    file_format: FileFormat,
    mapping: dict[str, str] | None = None,
    encoding: str | None = None,
) -> Inspection:
    """Read and measure the whole file; memory does not grow with it.

    Raises `BrokenSyntax`, `NoUsableRow`, `WrongMapping`, `ValueError` for an unknown encoding, or `OSError`.
    """
    with _no_collecting():
        return _inspected(path, file_format, mapping, checked_encoding(encoding))


@contextmanager
def _no_collecting() -> Iterator[None]:
    """Parsed rows hold no cycles: the collector would only walk them, again and again (a tenth of all time)."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _inspected(path: Path, file_format: FileFormat, mapping: dict[str, str] | None, encoding: str | None) -> Inspection:
    reading = (_mapped_kind(mapping, list(mapping.values())), mapping) if mapping else None
    measured = first_pass(path, file_format, encoding, reading)
    survey, tally = measured.survey, measured.tally
    _check_content(survey)
    columns = list(survey.columns)
    if mapping:
        kind: DatasetKind | None = _mapped_kind(mapping, columns)
        found, reason = dict(mapping), f"The mapping that was given makes {kind.value if kind else 'nothing'}."
    else:
        kind, detected, reason = survey.detector.decide()
        found = detected or {}
    if (tally.kind, tally.mapping) != (kind, found):
        tally = second_pass(path, file_format, encoding, (kind, found))
    return Inspection(
        row_count=survey.rows,
        columns=columns,
        kind=kind.value if kind else None,
        kind_reason=reason,
        mapping=found or None,
        faults={"count": tally.fault_count, "first": tally.faults},
        statistics=_statistics(measured, tally),
    )


def _mapped_kind(mapping: Mapping[str, str], columns: list[str]) -> DatasetKind:
    try:
        return kind_of_mapping(mapping, columns)
    except ValueError as error:
        raise WrongMapping(str(error)) from None


def _check_content(survey: Survey) -> None:
    if survey.rows == 0:
        raise NoUsableRow("The file holds no data row. Add at least one record and upload it again.")
    if survey.filled == 0:
        counted = "The only row is" if survey.rows == 1 else f"All {survey.rows} rows are"
        raise NoUsableRow(f"{counted} without content. Fill at least one and upload the file again.")


def _statistics(measured: Measured, tally: Tally) -> dict[str, Any]:
    """Every figure of docs/data-formats.md; lengths in characters (Unicode code points)."""
    survey = measured.survey
    per_field = {name: survey.characters[name] for name in survey.columns}
    if tally.kind is DatasetKind.MESSAGES and not per_field.get(tally.mapping["messages"]):
        per_field[tally.mapping["messages"]] = tally.characters
    found: dict[str, Any] = {
        "rows": survey.rows,
        "examples": tally.examples,
        "empty": survey.rows - survey.filled,
        "duplicates": measured.duplicates,
        "duplicates_exact": measured.duplicates_exact,
        "characters": tally.characters if tally.kind else sum(per_field.values()),
        "learned_characters": tally.learned,
        "longest_characters": tally.longest,
        "field_characters": per_field,
    }
    if tally.kind is DatasetKind.MESSAGES:
        found["turns"] = {str(count): rows for count, rows in sorted(tally.turns.items())}
    if tally.kind is DatasetKind.CLASSIFICATION:
        found["labels"] = dict(tally.labels.most_common(MAX_LABELS))
        found["distinct_labels"] = len(tally.labels) if tally.labels_complete else None
    return found


def read_rows(
    path: Path,
    file_format: FileFormat,
    *,
    offset: int,
    limit: int,
    kind: DatasetKind | str | None = None,
    mapping: dict[str, str] | None = None,
    encoding: str | None = None,
) -> list[dict[str, Any]]:
    """Rows `offset` … as they stand in the file (`line`, `values`), each with its `example` or its `fault`.

    Reading starts at the top of the file each time, in blocks: about half a second for every 50 MB before `offset`.
    """
    rows = []
    for record in _stretch(path, file_format, offset, limit, encoding):
        row: dict[str, Any] = {"line": record.line, "values": record.values, "example": None, "fault": record.fault}
        if record.fault is None and kind is not None and mapping is not None:
            example = to_example(record.values, kind=DatasetKind(kind), mapping=mapping)
            if isinstance(example, Fault):
                row["fault"] = example.message
            else:
                row["example"] = as_document(example)
        rows.append(_writable(row))
    return rows


def _stretch(path: Path, file_format: FileFormat, offset: int, limit: int, encoding: str | None) -> Iterator[Record]:
    """The records of rows `offset` to `offset + limit`, passing over whole blocks before."""
    number = 0
    for block in iter_blocks(path, file_format, encoding=encoding):
        for place in range(max(offset - number, 0), min(offset + limit - number, len(block.rows))):
            yield block.record(place)
        number += len(block.rows)
        if number >= offset + limit:
            return


def _writable(row: dict[str, Any]) -> dict[str, Any]:
    """The row, without values that JSON writers refuse (nested hundreds deep), which then says so."""
    try:
        orjson.dumps(row)
    except orjson.JSONEncodeError:
        return row | {"values": {}, "example": None, "fault": "The record is nested too deeply to be shown."}
    return row


def _answer(arguments: argparse.Namespace) -> dict[str, Any]:
    try:
        inspection = inspect_file(
            Path(arguments.path),
            file_format=FileFormat(arguments.format),
            mapping=_mapping(arguments.mapping),
            encoding=arguments.encoding,
        )
    except BrokenSyntax as error:
        return refusal(error.code, error.message, error.line)
    except NoUsableRow as error:
        return refusal("no_usable_row", str(error))
    except WrongMapping as error:
        return refusal("mapping", str(error))
    except ValueError as error:
        return refusal("encoding", str(error))
    except OSError as error:
        return refusal("unreadable", f"The file could not be read: {error.strerror or error}.")
    return {"ok": True, "inspection": inspection.as_dict()}


def refusal(code: str, message: str, line: int | None = None) -> dict[str, Any]:
    """The document that a child process answers where it cannot do what it was asked."""
    return {"ok": False, "error": {"code": code, "line": line, "message": message}}


def _mapping(text: str | None) -> dict[str, str] | None:
    if not text or not text.strip():
        return None
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(column, str) for column in found.values()):
        example = '{"prompt": "question", "completion": "answer"}'
        raise WrongMapping(f"mapping: it must be a JSON object from role to column, for example {example}.")
    return found or None


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m slm.data.inspection", description=__doc__)
    parser.add_argument("path")
    parser.add_argument("--format", required=True, choices=[member.value for member in FileFormat])
    parser.add_argument("--mapping", help="JSON: role → column")
    parser.add_argument("--encoding", help="convert from this encoding; without it the file must be UTF-8")
    # NumPy would start threads that have no work here; and a process that has threads does not fork.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    answer = _answer(parser.parse_args(argv))
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
