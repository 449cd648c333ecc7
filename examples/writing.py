"""What the generators have in common: rows as the bytes of a file, files written beside them. Standard library only."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    """UTF-8, one record a line below the names of the columns."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue().encode()


def as_jsonl(records: Iterable[Mapping[str, object]]) -> bytes:
    """UTF-8, one record a line."""
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def write(files: Mapping[str, bytes]) -> None:
    """Put files beside this one, and say so."""
    folder = Path(__file__).parent
    for name, content in files.items():
        (folder / name).write_bytes(content)
        records = content.count(b"\n") - name.endswith(".csv")
        print(f"{folder / name}: {records} rows")
