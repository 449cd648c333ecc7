"""From the dataset files to rendered rows: digests checked, every row accounted for, the held-out rows set aside."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slm.data.batches import held_out_lines, in_seeded_order, length_summary, parted, split_held_out
from slm.data.examples import Fault, Text, iter_examples
from slm.data.formats import BrokenSyntax
from slm.data.kinds import REQUIRED
from slm.data.render import BaseRenderer, Dropped, Rendered
from slm.errors import RunFailure
from slm.spec import METHOD_FACTS, DatasetKind, DatasetRef, TrainSpec

_BLOCK = 8 << 20
_SHOWN = 5
"""Lines named in a warning; the counts are complete."""
_ROWS_PER_BEAT = 64
Beat = Callable[[int, int], None]
"""Called with (done, total); raises to stop."""


@dataclass
class Reading:
    """The rows of one file, and what became of those that are not among them."""

    rows: list[Rendered] = field(default_factory=list)
    dropped: list[tuple[int, str]] = field(default_factory=list)
    """(line, reason) of every record that is not learned or scored."""


@dataclass(frozen=True)
class Prepared:
    """What a run learns from and what it is judged by; never a row in both."""

    train: list[Rendered]
    held_out: list[Rendered]
    """In a seeded order: whoever scores fewer takes the first."""
    dropped: list[tuple[int, str]]
    warnings: list[tuple[str, str]]
    """(code, sentence)."""

    def as_fields(self) -> dict[str, object]:
        """The counts of a `prepared` event."""
        rows = [*self.train, *self.held_out]
        return {
            "train_examples": len(self.train),
            "eval_examples": len(self.held_out),
            "tokens": sum(row.size for row in self.train),
            "learned_tokens": sum(row.learned for row in self.train),
            "truncated": sum(row.truncated for row in rows),
            "dropped": len(self.dropped),
            "lengths": length_summary([row.size for row in self.train]),
        }


def prepare(spec: TrainSpec, directory: Path, renderer: BaseRenderer, beat: Beat) -> Prepared:
    """Read and render everything. Raises `RunFailure` where a file is gone or changed, or nothing can be learned."""
    for reference in (spec.train, spec.eval):
        if reference is not None:
            verify(reference, directory, beat)
    train = read(spec.train, spec, directory, renderer, beat)
    if not train.rows:
        raise RunFailure("nothing_to_learn", _nothing(spec.train, train.dropped))
    dropped = list(train.dropped)
    if spec.eval is not None:
        held_out = read(spec.eval, spec, directory, renderer, beat)
        dropped += held_out.dropped
        rows, kept = train.rows, in_seeded_order(held_out.rows, seed=spec.config.seed)
    elif spec.config.from_scratch:
        rows, kept = parted(train.rows, _held_out_texts(spec, directory, beat))
    else:
        rows, kept = split_held_out(
            train.rows,
            fraction=spec.config.eval_fraction,
            seed=spec.config.seed,
            stratified=renderer.stratified,
        )
    warnings = _warnings(spec, rows, kept, dropped)
    return Prepared(renderer.arrange(rows), renderer.arrange(kept, held_out=True), dropped, warnings)


def texts(spec: TrainSpec, directory: Path, beat: Beat) -> Iterator[str]:
    """Every text that is to be learned from, the file's digest checked first; never one that is held out."""
    verify(spec.train, directory, beat)
    held_out = frozenset(_held_out_texts(spec, directory, beat))
    yield from (text for line, text in _texts(spec.train, directory, beat) if line not in held_out)


def _held_out_texts(spec: TrainSpec, directory: Path, beat: Beat) -> list[int]:
    """The lines of the training file that are held out, told by their texts alone, for a run that makes its tokens."""
    config = spec.config
    if spec.eval is not None:
        return []
    width = None if config.packing else config.max_length - 1
    found = _texts(spec.train, directory, beat)
    return held_out_lines(found, fraction=config.eval_fraction, seed=config.seed, width=width)


def _texts(reference: DatasetRef, directory: Path, beat: Beat) -> Iterator[tuple[int, str]]:
    """(line, text) of every usable text."""
    kind = reference.kind or DatasetKind.TEXT
    examples = iter_examples(
        directory / reference.path,
        reference.file_format,
        kind=kind,
        mapping=_mapping(reference.mapping, kind),
        encoding=reference.encoding,
    )
    for count, (record, example) in enumerate(examples):
        if count % _ROWS_PER_BEAT == 0:
            beat(count, reference.row_count)
        if isinstance(example, Text):
            yield record.line, example.text


def verify(reference: DatasetRef, directory: Path, beat: Beat) -> None:
    """Raises `RunFailure` unless the file's SHA-256 is the one that the run was asked to learn from."""
    path = directory / reference.path
    digest = hashlib.sha256()
    try:
        total, done = path.stat().st_size, 0
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                done += len(block)
                beat(done, total)
    except FileNotFoundError:
        raise RunFailure("data_missing", f"The file of dataset '{reference.name}' is gone.") from None
    if digest.hexdigest() != reference.sha256:
        raise RunFailure("data_changed", f"The file of dataset '{reference.name}' is not what was uploaded.")


def read(reference: DatasetRef, spec: TrainSpec, directory: Path, renderer: BaseRenderer, beat: Beat) -> Reading:
    """Every record of a file, rendered or dropped with its reason."""
    kind = reference.kind
    if kind is None or kind not in METHOD_FACTS[spec.config.method].kinds:
        said = kind.value if kind else "unknown"
        raise RunFailure(
            "data_unusable",
            f"Dataset '{reference.name}' holds {said} data, which {spec.config.method.value} cannot learn from.",
        )
    reading = Reading()
    examples = iter_examples(
        directory / reference.path,
        reference.file_format,
        kind=kind,
        mapping=_mapping(reference.mapping, kind),
        encoding=reference.encoding,
    )
    try:
        for count, (record, example) in enumerate(examples):
            if count % _ROWS_PER_BEAT == 0:
                beat(count, reference.row_count)
            if isinstance(example, Fault):
                reading.dropped.append((record.line, example.message))
                continue
            rendered = renderer.render(example, record.line)
            if isinstance(rendered, Dropped):
                reading.dropped.append((record.line, rendered.reason))
            else:
                reading.rows.append(rendered)
    except BrokenSyntax as error:
        raise RunFailure("data_unusable", f"Dataset '{reference.name}' cannot be read: {error}") from error
    return reading


def _mapping(mapping: Mapping[str, str] | None, kind: DatasetKind) -> Mapping[str, str]:
    """Role → column; without one, columns are called as their roles."""
    return mapping if mapping is not None else {role: role for role in REQUIRED[kind]}


def _warnings(
    spec: TrainSpec, rows: list[Rendered], held_out: list[Rendered], dropped: list[tuple[int, str]]
) -> list[tuple[str, str]]:
    found = []
    cut = [row.line for row in (*rows, *held_out) if row.truncated]
    if cut:
        what = "1 example is" if len(cut) == 1 else f"{len(cut)} examples are"
        limit = f"{spec.config.max_length} tokens"
        found.append(("truncated", f"{what} longer than max_length ({limit}) and cut ({_lines(cut)})."))
    if dropped:
        what = "1 record is" if len(dropped) == 1 else f"{len(dropped)} records are"
        found.append(("dropped", f"{what} not used. {_reasons(dropped)}"))
    unlearned = sum(row.unlearned_turns > 0 for row in (*rows, *held_out))
    if unlearned:
        found.append(
            ("last_answer_only", f"The model's chat template rewrites earlier answers, so in {unlearned} conversations "
                                 "only the later ones are learned.")
        )  # fmt: skip
    if not held_out:
        found.append(("no_held_out", "No rows are held out, so nothing says how the model does on unseen rows."))
    return found


def _nothing(reference: DatasetRef, dropped: list[tuple[int, str]]) -> str:
    if not dropped:
        return f"Dataset '{reference.name}' has no records."
    return f"None of the {len(dropped)} records of '{reference.name}' can be learned from. {_reasons(dropped)}"


def _reasons(dropped: list[tuple[int, str]]) -> str:
    """The commonest reasons with their counts and first lines."""
    counts = Counter(reason for _, reason in dropped).most_common(3)
    lines = {reason: [line for line, why in dropped if why == reason] for reason, _ in counts}
    return " ".join(f"{reason.rstrip('.')} ({_lines(found)})." for reason, found in lines.items())


def _lines(lines: list[int]) -> str:
    first = sorted(lines)[:_SHOWN]
    more = f" and {len(lines) - len(first)} more" if len(lines) > len(first) else ""
    return f"{'line' if len(lines) == 1 else 'lines'} {', '.join(map(str, first))}{more}"
