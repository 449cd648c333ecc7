"""A scorecard row by row: what was asked, what was expected, what each model said, how that scored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slm.answers import Scores
from slm.baselines import frame
from slm.data.examples import Classification, Example, Preference, Text
from slm.data.render import Rendered
from slm.events import write_atomic
from slm.metrics import Metric
from slm.overlap import text_of

LONGEST = 20_000
"""Characters shown of a prompt or an expected answer."""
_NOT_BY_ROW = frozenset({"f1", "perplexity"})
"""Metrics that say nothing of a single row, or say the loss again."""


@dataclass(frozen=True)
class Column:
    """One model's part of the table; its metrics are over the very rows that are shown."""

    outputs: Sequence[str] | None
    scores: Scores | None
    metrics: Mapping[str, Metric]


def write(
    path: Path,
    tokenizer: Any,
    rows: Sequence[Rendered],
    examples: Mapping[int, Example],
    columns: Mapping[str, Column],
) -> None:
    """One JSON line for each row: `row` is its line in the data. Whole or not at all."""
    each = {name: _by_row(column, len(rows)) for name, column in columns.items()}
    lines = []
    for at, row in enumerate(rows):
        prompt, expected = _asked(tokenizer, row, examples.get(row.line))
        sample: dict[str, Any] = {"row": row.line, "prompt": prompt, "expected": expected}
        for name, column in columns.items():
            sample[f"{name}_output"] = column.outputs[at] if column.outputs is not None else None
        sample["scores"] = {name: scores[at] for name, scores in each.items()}
        lines.append(json.dumps(sample, ensure_ascii=False, allow_nan=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())


def _by_row(column: Column, rows: int) -> list[dict[str, float]]:
    found = [dict(scores) for scores in column.scores] if column.scores is not None else [{} for _ in range(rows)]
    for at, scores in enumerate(found):
        for name, metric in column.metrics.items():
            if name not in _NOT_BY_ROW:
                scores[name] = metric.of_rows(np.asarray([at])).value
    return found


def _asked(tokenizer: Any, row: Rendered, example: Example | None) -> tuple[str | None, str | None]:
    """What was asked and what was expected, in words."""
    if isinstance(example, Preference):
        return "\n".join(turn.content for turn in example.prompt)[:LONGEST], example.chosen[:LONGEST]
    if isinstance(example, Classification | Text):
        return text_of(example)[:LONGEST], row.expected
    return _question(tokenizer, row)[:LONGEST], row.expected[:LONGEST] if row.expected is not None else None


def _question(tokenizer: Any, row: Rendered) -> str:
    """What was asked, as text: without the template's frame where the row is one plain question."""
    ids = row.prompt_ids or row.input_ids
    if row.prompt_ids and getattr(tokenizer, "chat_template", None):
        head, tail = frame(tokenizer)
        if ids[: len(head)] == head and ids[len(ids) - len(tail) :] == tail:
            ids = ids[len(head) : len(ids) - len(tail)]
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
