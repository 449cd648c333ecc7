"""What a method would learn from a dataset, before it does: token by token, counted, with what should be known first.

The tokens come from the very renderer that training uses, so what is shown is what is learned. A run of its own, forked
from the warm process to answer one question; its answer is `result.json`. Small files are counted whole, of large ones
a seeded sample, and the answer says so.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slm import checkpoints
from slm.data.batches import length_summary
from slm.data.examples import Classification, Example, Fault, iter_examples
from slm.data.formats import BrokenSyntax
from slm.data.kinds import REQUIRED
from slm.data.render import BaseRenderer, Dropped, Piece, Rendered
from slm.errors import RunFailure
from slm.events import EventLog, Stop, write_atomic
from slm.methods import METHODS, Recipe
from slm.spec import METHOD_FACTS, Method, PreviewSpec

RESULT = "result.json"
SHOWN_CUT = 200
"""Tokens shown of what `max_length` takes away; their number is always told."""
REACH = 256 << 20
"""Bytes of a file from which the sample is drawn: a person waits for the answer."""
BARS = 20
"""Of the histogram, at most."""
_UNLIMITED = 1 << 30
_LOST = {
    Method.SFT: "the end of the answer is lost",
    Method.DPO: "the end of an answer is lost",
    Method.CLASSIFY: "the end of the text is not read",
}


def preview(spec: PreviewSpec, directory: Path, log: EventLog, stop: Stop | None = None) -> None:
    """Carry out a preview; on return `result.json` holds it and the log ends with `finished`. Raises `RunFailure`."""
    asked = (stop or Stop(directory)).check

    def beat(done: int, total: int) -> None:
        asked()
        log.beat("preparing", done=done, total=total)

    found = _Preview(spec, directory).look(beat)
    write_atomic(directory / RESULT, json.dumps(found, ensure_ascii=False).encode(errors="replace"))
    log.append("finished", rows_read=found["rows_read"])


@dataclass
class _Counted:
    """Of the rows that were counted, whether or not they are shown."""

    rows: int = 0
    examples: int = 0
    tokens: int = 0
    learned: int = 0
    truncated: int = 0
    lost: int = 0
    """Rows of which `max_length` takes away something to learn."""
    unlearned_turns: int = 0
    lengths: list[int] = field(default_factory=list)
    """In tokens, before anything is cut."""
    dropped: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Side:
    """One sequence that is learned, beside what it would be without `max_length`."""

    name: str | None
    """Of two answers to compare: `chosen` or `rejected`."""
    learned: Rendered
    whole: Rendered


@dataclass(frozen=True)
class _Read:
    """What became of one record."""

    line: int
    label: str | None = None
    sides: tuple[_Side, ...] = ()
    dropped: str | None = None
    """Why nothing is learned from it."""
    length: int | None = None
    """In tokens, before anything is cut; of two answers the longer one's. None where not even that can be told."""


class _Preview:
    def __init__(self, spec: PreviewSpec, directory: Path) -> None:
        self.spec, self.directory = spec, directory
        self.path = directory / spec.dataset.path
        recipe: Recipe = METHODS[spec.method]
        config = checkpoints.load_config(spec.model)
        if (refusal := recipe.refusal(config)) is not None:
            raise RunFailure("model_unsupported", refusal)
        tokenizer = checkpoints.load_tokenizer(spec.model)
        limit = getattr(config, "max_position_embeddings", None)
        self.length = min(spec.max_length, limit) if isinstance(limit, int) else spec.max_length
        self.renderer: BaseRenderer = recipe.renderer(tokenizer, max_length=self.length)
        self.unlimited: BaseRenderer = recipe.renderer(tokenizer, max_length=_UNLIMITED)
        self.counted = _Counted()
        self.sampled = ""

    def look(self, beat: Any) -> dict[str, Any]:
        """The whole answer; `beat(done, total)` is called now and then and may raise."""
        spec = self.spec
        counted, last = self._chosen()
        shown: list[dict[str, Any]] = []
        for index, (line, example) in enumerate(self._examples()):
            if index % 64 == 0:
                beat(index, last)
            if index >= last:
                break
            in_window = spec.offset <= index < spec.offset + spec.limit
            if in_window or index in counted:
                read = self._read(line, example)
                if index in counted:
                    self._count(read)
                if in_window:
                    shown += self._show(read)
        return {
            "method": spec.method.value,
            "max_length": self.length,
            "base_model_id": spec.model.model_id,
            "counts": self._counts(),
            "lengths": {**length_summary(self.counted.lengths), "histogram": histogram(self.counted.lengths)},
            "warnings": self._warnings(),
            "examples": shown,
            "rows_read": self.counted.rows,
            "rows_total": spec.dataset.row_count,
        }

    def _chosen(self) -> tuple[frozenset[int] | range, int]:
        """Which rows are counted, and where reading may end."""
        rows, most = self.spec.dataset.row_count, self.spec.most_rows
        end = self.spec.offset + self.spec.limit
        size = self.path.stat().st_size if self.path.is_file() else 0
        within = rows if size <= REACH else max(most, rows * REACH // size)
        if rows <= most:
            return range(rows), max(rows, end)
        self.sampled = f"a sample of {most:,} of {rows:,} rows"
        if within < rows:
            self.sampled += f", drawn from the first {within:,}"
        drawn = random.Random(self.spec.seed).sample(range(within), most)
        return frozenset(drawn), max(max(drawn) + 1, end)

    def _examples(self) -> Iterator[tuple[int, Example | Fault]]:
        reference, kind = self.spec.dataset, self.spec.dataset.kind
        if kind is None or kind not in METHOD_FACTS[self.spec.method].kinds:
            said = kind.value if kind else "unknown"
            raise RunFailure(
                "data_unusable",
                f"Dataset '{reference.name}' holds {said} data, which {self.spec.method.value} cannot learn from.",
            )
        mapping = reference.mapping if reference.mapping is not None else {role: role for role in REQUIRED[kind]}
        try:
            for record, example in iter_examples(
                self.path, reference.file_format, kind=kind, mapping=mapping, encoding=reference.encoding
            ):
                yield record.line, example
        except FileNotFoundError:
            raise RunFailure("data_missing", f"The file of dataset '{reference.name}' is gone.") from None
        except BrokenSyntax as error:
            raise RunFailure("data_unusable", f"Dataset '{reference.name}' cannot be read: {error}") from error

    def _read(self, line: int, example: Example | Fault) -> _Read:
        if isinstance(example, Fault):
            return _Read(line, dropped=example.message)
        label = example.label if isinstance(example, Classification) else None
        learned = self.renderer.render(example, line)
        whole = learned
        if isinstance(learned, Dropped) or learned.truncated:
            whole = self.unlimited.render(example, line)
        if isinstance(learned, Dropped) or isinstance(whole, Dropped):
            reason = learned.reason if isinstance(learned, Dropped) else ""
            return _Read(line, label, dropped=reason, length=None if isinstance(whole, Dropped) else _longer(whole))
        if learned.rejected is None or whole.rejected is None:
            return _Read(line, label, (_Side(None, learned, whole),), length=_longer(whole))
        chosen = _Side("chosen", replace(learned, rejected=None), replace(whole, rejected=None))
        rejected = _Side("rejected", learned.rejected, whole.rejected)
        return _Read(line, label, (chosen, rejected), length=_longer(whole))

    def _count(self, read: _Read) -> None:
        counted = self.counted
        counted.rows += 1
        if read.length is not None:
            counted.lengths.append(read.length)
        if read.dropped is not None:
            counted.dropped.append((read.line, read.dropped))
            return
        counted.examples += 1
        counted.tokens += sum(len(side.learned.input_ids) for side in read.sides)
        counted.learned += sum(side.learned.learned for side in read.sides)
        counted.truncated += any(side.learned.truncated for side in read.sides)
        counted.lost += any(side.whole.learned > side.learned.learned for side in read.sides)
        counted.unlearned_turns += any(side.learned.unlearned_turns for side in read.sides)

    def _show(self, read: _Read) -> list[dict[str, Any]]:
        nothing = {"pieces": [], "cut": [], "cut_tokens": 0, "tokens": 0, "learned_tokens": 0, "truncated": False}
        common = {"line": read.line, "label": read.label, "dropped": read.dropped}
        if read.dropped is not None:
            return [{**common, **nothing, "side": None}]
        return [{**common, **self._tokens(side), "side": side.name} for side in read.sides]

    def _tokens(self, side: _Side) -> dict[str, Any]:
        learned, whole = side.learned, side.whole
        start, end = cut_between(learned.input_ids, whole.input_ids)
        upto = min(end, start + SHOWN_CUT)
        lead = replace(whole, input_ids=whole.input_ids[:upto], labels=whole.labels[:upto])
        return {
            "pieces": [_as_fields(piece) for piece in self.renderer.pieces(learned)],
            "cut": [_as_fields(piece) for piece in self.renderer.pieces(lead)[start:]] if upto > start else [],
            "cut_tokens": end - start,
            "tokens": len(learned.input_ids),
            "learned_tokens": learned.learned,
            "truncated": learned.truncated,
        }

    def _counts(self) -> dict[str, int]:
        counted = self.counted
        return {
            "examples": counted.examples,
            "tokens": counted.tokens,
            "learned_tokens": counted.learned,
            "truncated": counted.truncated,
            "dropped": len(counted.dropped),
        }

    def _warnings(self) -> list[str]:
        """What a person should know before training, in sentences."""
        counted, found = self.counted, []
        if self.sampled:
            found.append(f"The figures are those of {self.sampled}.")
        if self.length < self.spec.max_length:
            found.append(f"This model reads at most {self.length} tokens, so max_length is {self.length}.")
        longer = sum(length > self.length for length in counted.lengths)
        if longer:
            what = _LOST.get(self.spec.method, "the end of the text is lost")
            lost = f"; {what} in {_rows(counted.lost)}" if counted.lost else ""
            found.append(f"{_share(longer, len(counted.lengths))} of rows exceed {self.length} tokens{lost}.")
        reasons = Counter(reason for _, reason in counted.dropped).most_common(3)
        for reason, times in reasons:
            first = next(line for line, why in counted.dropped if why == reason)
            found.append(f"{_rows(times)} cannot be learned from (the first is line {first}): {reason}")
        if counted.unlearned_turns:
            found.append(
                f"The model's chat template rewrites earlier answers, so in {_rows(counted.unlearned_turns)} "
                "only the later ones are learned."
            )
        if counted.rows and not counted.examples:
            found.append("Nothing is left to learn: a training on these data would fail.")
        return found


def _longer(row: Rendered) -> int:
    """Tokens of the longer sequence, which `max_length` is about."""
    return max(len(row.input_ids), len(row.rejected.input_ids) if row.rejected else 0)


def cut_between(learned: list[int], whole: list[int]) -> tuple[int, int]:
    """Where in `whole` the tokens stand that `learned` lacks: cut off its end, or from before a closing token."""
    missing = len(whole) - len(learned)
    start = next((at for at, token in enumerate(learned) if token != whole[at]), len(learned))
    return start, start + max(missing, 0)


def histogram(lengths: list[int]) -> list[dict[str, int]]:
    """Bars of equal, round width from 0 on; `to` is not included."""
    if not lengths:
        return []
    width, longest = 1, max(lengths)
    while longest // width + 1 > BARS:
        width = next(step for step in _round_numbers() if step > width)
    bars = Counter(length // width for length in lengths)
    return [{"from": bar * width, "to": (bar + 1) * width, "count": bars[bar]} for bar in range(max(bars) + 1)]


def _round_numbers() -> Iterator[int]:
    """1, 2, 5, 10, 20, 50, …"""
    power = 1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10


def _as_fields(piece: Piece) -> dict[str, Any]:
    return {"text": piece.text, "id": piece.id, "learned": piece.learned}


def _share(part: int, whole: int) -> str:
    percent = 100 * part / whole
    return "less than 1 %" if percent < 1 else f"{percent:.0f} %"


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"
