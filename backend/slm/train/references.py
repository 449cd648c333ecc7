"""What the base said of the rows, kept in the run directory: asked once, and the very same numbers after a crash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from slm.data.render import Reference, Rendered
from slm.events import write_atomic
from slm.train.rows import Prepared

REFERENCES = "references.json"


def save(directory: Path, prepared: Prepared) -> None:
    """Keep the references of all rows; floats are written so that they read back exactly."""
    document = {"train": _numbers(prepared.train), "held_out": _numbers(prepared.held_out)}
    write_atomic(directory / REFERENCES, json.dumps(document).encode())


def load(directory: Path, prepared: Prepared, *, beta: float) -> Prepared | None:
    """The rows with what an earlier attempt was told; None where there was none, or it had other rows."""
    try:
        document = json.loads((directory / REFERENCES).read_bytes())
        train = _referred(prepared.train, document["train"], beta)
        held_out = _referred(prepared.held_out, document["held_out"], beta)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return replace(prepared, train=train, held_out=held_out)


def _numbers(rows: Sequence[Rendered]) -> list[tuple[int, float, float]]:
    return [(row.line, row.reference.chosen, row.reference.rejected) for row in rows if row.reference is not None]


def _referred(rows: Sequence[Rendered], kept: Sequence[tuple[int, float, float]], beta: float) -> list[Rendered]:
    if [row.line for row in rows] != [line for line, _, _ in kept]:
        raise ValueError("the rows are others")
    return [
        replace(row, reference=Reference(float(chosen), float(rejected), beta))
        for row, (_, chosen, rejected) in zip(rows, kept, strict=True)
    ]
