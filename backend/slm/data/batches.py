"""Which examples are learned together: the held-out split, the order of an epoch, micro-batches of like lengths.

Everything here is a pure function of the seed, the epoch and the lengths, and draws nothing from a global generator:
that is what lets a killed run go on in the middle of an epoch with the very batches it would have seen.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

from torch.utils.data import Sampler

from slm.data.render import Rendered

_POOL = 16
"""Effective batches that are sorted by length together: enough to save padding, few enough to stay random."""


def split_held_out(
    rows: Sequence[Rendered], *, fraction: float, seed: int, stratified: bool = False
) -> tuple[list[Rendered], list[Rendered]]:
    """(training rows, held-out rows), disjoint; rows with the same prompt (or text) stay on one side.

    Held out are `fraction` of the rows, at least one where two different prompts exist; `stratified`, about that share
    of each expected answer, none of which is held out whole. The split depends on nothing but the rows and the seed.
    Held-out rows come in a seeded order, training rows in that of the file.
    """
    strata: dict[str | None, dict[tuple[int, ...], list[int]]] = {}
    known: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        key = tuple(row.prompt_ids or row.input_ids)
        if key not in known:
            known[key] = strata.setdefault(row.expected if stratified else None, {}).setdefault(key, [])
        known[key].append(index)
    if fraction <= 0 or len(known) < 2:
        return list(rows), []
    dice = random.Random(seed)
    held_out: list[int] = []
    least = 0 if len(strata) > 1 else 1
    for groups in strata.values():
        held_out += _some(groups, fraction, dice, least=least)
    if not held_out:
        held_out = _some(max(strata.values(), key=len), fraction, dice, least=1)
    if len(strata) > 1:
        dice.shuffle(held_out)
    chosen = set(held_out)
    return [row for index, row in enumerate(rows) if index not in chosen], [rows[index] for index in held_out]


def held_out_lines(texts: Iterable[tuple[int, str]], *, fraction: float, seed: int, width: int | None) -> list[int]:
    """The lines of texts to hold out, found before there is a tokenizer, so that one can be made of the others alone.

    Texts of which a model would read the same `width` tokens (None: all of them) stay on one side: each token holds at
    least one byte, so that such texts begin with the same `width` bytes.
    """
    rows = [
        Rendered(line, list(blake2b(text.encode()[:width], digest_size=16).digest()), [], [], None, truncated=False)
        for line, text in texts
    ]
    return [row.line for row in split_held_out(rows, fraction=fraction, seed=seed)[1]]


def parted(rows: Sequence[Rendered], lines: Sequence[int]) -> tuple[list[Rendered], list[Rendered]]:
    """(training rows, held-out rows): those of these lines, in their order, are held out."""
    by_line = {row.line: row for row in rows}
    chosen = set(lines)
    return [row for row in rows if row.line not in chosen], [by_line[line] for line in lines if line in by_line]


def _some(groups: dict[tuple[int, ...], list[int]], fraction: float, dice: random.Random, *, least: int) -> list[int]:
    """Indices of whole groups until `fraction` of all indices are reached; one group is always left."""
    keys = list(groups)
    dice.shuffle(keys)
    wanted = max(least, round(sum(map(len, groups.values())) * fraction))
    found: list[int] = []
    for key in keys[:-1]:
        if len(found) >= wanted:
            break
        found += groups[key]
    return found


def in_seeded_order(rows: Sequence[Rendered], *, seed: int) -> list[Rendered]:
    """The rows shuffled, so that whoever scores only the first few scores a fair sample, always the same."""
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    return shuffled


class EffectiveBatches(Sampler[list[int]]):
    """Micro-batches of indices, `accumulation` of them to one optimizer step of `batch_size` examples.

    Each epoch is shuffled anew; examples of like length meet in a step, and within it in a micro-batch. The first step
    of all holds the longest example, so that too little memory shows at once. Only an epoch's last step is smaller.
    """

    def __init__(self, lengths: Sequence[int], *, batch_size: int, micro_batch: int, seed: int) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.micro_batch = micro_batch
        self.accumulation = math.ceil(batch_size / micro_batch)
        self.seed = seed
        self.epoch = 0

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return max(1, math.ceil(len(self.lengths) / self.batch_size))

    def __len__(self) -> int:
        full, rest = divmod(len(self.lengths), self.batch_size)
        return full * self.accumulation + math.ceil(rest / self.micro_batch)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.batches():
            for start in range(0, len(batch), self.micro_batch):
                yield batch[start : start + self.micro_batch]

    def batches(self) -> list[list[int]]:
        """The epoch's effective batches in order, each sorted from its longest example down."""
        dice = random.Random(self.seed * 1_000_003 + self.epoch)
        order = list(range(len(self.lengths)))
        dice.shuffle(order)
        rest = len(order) % self.batch_size
        pooled, last = order[: len(order) - rest], order[len(order) - rest :]
        batches: list[list[int]] = []
        pool = self.batch_size * _POOL
        for start in range(0, len(pooled), pool):
            chosen = sorted(pooled[start : start + pool], key=lambda index: -self.lengths[index])
            batches += [chosen[at : at + self.batch_size] for at in range(0, len(chosen), self.batch_size)]
        dice.shuffle(batches)
        if self.epoch == 0 and batches:
            longest = max(range(len(batches)), key=lambda at: self.lengths[batches[at][0]])
            batches[0], batches[longest] = batches[longest], batches[0]
        if last:
            batches.append(sorted(last, key=lambda index: -self.lengths[index]))
        return batches


def like_lengths(rows: Sequence[Rendered], size: int) -> list[list[Rendered]]:
    """Batches for scoring, longest first; the order of rows does not matter to a sum."""
    return [[rows[index] for index in batch] for batch in by_length(rows, size)]


def by_length(rows: Sequence[Rendered], size: int) -> list[list[int]]:
    """The indices of such batches."""
    ordered = sorted(range(len(rows)), key=lambda index: -rows[index].size)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def length_summary(lengths: Sequence[int]) -> dict[str, int]:
    """Median, 95th percentile and maximum, in tokens."""
    if not lengths:
        return {"p50": 0, "p95": 0, "max": 0}
    ordered = sorted(lengths)
    return {
        "p50": ordered[len(ordered) // 2],
        "p95": ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))],
        "max": ordered[-1],
    }
