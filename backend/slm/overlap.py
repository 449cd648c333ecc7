"""Which evaluation rows were learned from: equal ones, equal but for case and punctuation, or sharing a phrase.

Pure Python, no tensor, so that a plan can ask before anything is loaded: `python -m slm.overlap TRAINING EVALUATION`
takes two `DatasetRef`s as JSON and prints what `find` found. The evaluation rows are held as hashes, the training rows
stream past them, so memory is bounded by `MOST_WORDS` whatever the size of either file.

A phrase is 13 consecutive words. The rule is that of GPT-3's authors (Brown et al. 2020, appendix C): one shared phrase
is an overlap, unless more than ten training rows hold it, which makes it common (an instruction that all repeat).
Two refinements for the small and templated data of fine-tuning: a phrase that most training rows hold is common
however few they are, and a phrase that runs on from a common one does not count (it would be the instruction's end and
a word or two of the row's own).
"""

from __future__ import annotations

import re
import sys
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from slm.data.examples import (
    Classification,
    Example,
    Fault,
    Messages,
    Preference,
    PromptCompletion,
    iter_examples,
)
from slm.data.formats import BrokenSyntax
from slm.data.kinds import REQUIRED
from slm.spec import DatasetRef

Numbered = tuple[int, Example]
"""An example and its line in the data."""
PHRASE = 13
COMMON = 10
"""A phrase that more training rows hold is common."""
MOST_WORDS = 1_000_000
"""Of evaluation rows, taken in their order until there are so many: about 100 MB of hashes."""
MOST_EXAMPLES = 20
EXACT, NORMALISED, NEAR = "exact", "normalised", "near"
_ORDER = {EXACT: 0, NORMALISED: 1, NEAR: 2}
_WORD = re.compile(r"[぀-ヿ㐀-鿿豈-﫿]|[^\s぀-ヿ㐀-鿿豈-﫿]+")
"""Han and kana are written without spaces: each character counts as a word."""
_ASCII_MARKS = {code: " " for code in range(128) if unicodedata.category(chr(code))[0] == "P"}


@dataclass(frozen=True, slots=True)
class Match:
    """An evaluation row and the first training row that it repeats, by their lines in the data."""

    row: int
    training_row: int
    kind: str
    """`exact`, `normalised` or `near`."""


@dataclass(frozen=True)
class Overlap:
    """Each evaluation row counts once, by its strictest kind."""

    rows: int
    """Evaluation rows that were compared."""
    matches: tuple[Match, ...]
    """Every overlapping row, in the order of the evaluation rows."""

    @property
    def lines(self) -> frozenset[int]:
        """The lines of the evaluation rows that overlap."""
        return frozenset(match.row for match in self.matches)

    def as_document(self) -> dict[str, Any]:
        """Counts by kind, the rows compared, the share that overlaps, and the strictest twenty matches."""
        counts = Counter(match.kind for match in self.matches)
        shown = sorted(self.matches, key=lambda match: (_ORDER[match.kind], match.row))[:MOST_EXAMPLES]
        return {
            "exact": counts[EXACT],
            "normalised": counts[NORMALISED],
            "near": counts[NEAR],
            "rows": self.rows,
            "share": len(self.matches) / self.rows if self.rows else 0.0,
            "examples": [{"row": match.row, "training_row": match.training_row, "kind": match.kind} for match in shown],
        }


def find(train_examples: Iterable[Numbered], eval_examples: Iterable[Numbered]) -> Overlap:
    """Compare every training row with the evaluation rows (the first `MOST_WORDS` words of them).

    Hashes have 64 bits: two different texts are taken for equal once in 10^19 comparisons.
    """
    index = _Index(eval_examples)
    for line, example in train_examples:
        index.meet(line, text_of(example))
    return Overlap(len(index.rows), tuple(index.matches()))


def text_of(example: Example) -> str:
    """What is compared of an example: everything that is said in it, but not a label."""
    if isinstance(example, Classification):
        return example.text
    if isinstance(example, PromptCompletion):
        return f"{example.prompt}\n{example.completion}"
    if isinstance(example, Messages):
        return "\n".join(turn.content for turn in example.messages)
    if isinstance(example, Preference):
        return "\n".join([*(turn.content for turn in example.prompt), example.chosen, example.rejected])
    return example.text


def words_of(text: str) -> list[str]:
    """Words as they are compared: Unicode NFKC, without case and punctuation, whatever the spaces between them."""
    if text.isascii():
        return text.lower().translate(_ASCII_MARKS).split()
    folded = unicodedata.normalize("NFKC", text).casefold()
    marks = {ord(sign): " " for sign in set(folded) if unicodedata.category(sign)[0] == "P"}
    return _WORD.findall(folded.translate(marks))


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    exact: int
    normalised: int | None
    """None for a row without a word."""
    phrases: array[int]
    """Number of each phrase, one for each word but the last twelve."""


class _Index:
    """The evaluation rows as hashes, and what the training rows that streamed past had in common with them."""

    def __init__(self, examples: Iterable[Numbered]) -> None:
        self.rows: list[_Row] = []
        self._numbers: dict[int, int] = {}
        """Hash of a phrase → its number."""
        self._known: set[int] = set()
        """Hashes of the words that occur, so that most training text is passed over quickly."""
        self._seen: dict[int, int] = {}
        """Hash of a whole text, as it stands or normalised → first training row."""
        words = 0
        for line, example in examples:
            words += self._add(line, text_of(example))
            if words >= MOST_WORDS:
                break
        self._wanted = {whole for row in self.rows for whole in (row.exact, row.normalised)}
        self._holders = array("q", bytes(8 * len(self._numbers)))
        self._first = array("q", bytes(8 * len(self._numbers)))
        self._met = 0

    def _add(self, line: int, text: str) -> int:
        words = words_of(text)
        phrases = array("q")
        for phrase in _phrases(words):
            phrases.append(self._numbers.setdefault(phrase, len(self._numbers)))
        if phrases:
            self._known.update(map(hash, words))
        self.rows.append(_Row(line, hash(text), _normalised(words), phrases))
        return len(words) + 1

    def meet(self, line: int, text: str) -> None:
        """Take note of what a training row shares with any evaluation row."""
        self._met += 1
        words = words_of(text)
        for whole in (hash(text), _normalised(words)):
            if whole is not None and whole in self._wanted:
                self._seen.setdefault(whole, line)
        for number in self._shared(words):
            if not self._holders[number]:
                self._first[number] = line
            self._holders[number] += 1

    def _shared(self, words: list[str]) -> set[int]:
        """The numbers of the known phrases in these words."""
        if len(words) < PHRASE or not self._numbers:
            return set()
        found, run = set(), 0
        for at, word in enumerate(words):
            run = run + 1 if hash(word) in self._known else 0
            if run >= PHRASE:
                number = self._numbers.get(_hash(words[at - PHRASE + 1 : at + 1]))
                if number is not None:
                    found.add(number)
        return found

    def matches(self) -> Iterator[Match]:
        for row in self.rows:
            if row.exact in self._seen:
                yield Match(row.line, self._seen[row.exact], EXACT)
            elif row.normalised is not None and row.normalised in self._seen:
                yield Match(row.line, self._seen[row.normalised], NORMALISED)
            elif (training_row := self._near(row)) is not None:
                yield Match(row.line, training_row, NEAR)

    def _near(self, row: _Row) -> int | None:
        """The first training row that shares a phrase which is not common, nor runs on from a common one."""
        common = [at for at, number in enumerate(row.phrases) if self._is_common(number)]
        last, following = None, iter([*common, None])
        coming = next(following)
        for at, number in enumerate(row.phrases):
            while coming is not None and coming <= at:
                last, coming = coming, next(following)
            touched = (last is not None and at - last < PHRASE) or (coming is not None and coming - at < PHRASE)
            if self._holders[number] and not touched:
                return self._first[number]
        return None

    def _is_common(self, number: int) -> bool:
        holders = self._holders[number]
        return holders > COMMON or (holders > 1 and 2 * holders > self._met)


def _normalised(words: list[str]) -> int | None:
    # The first sign keeps it apart from the hash of a text that is written so already.
    return hash("\0".join(["", *words])) if words else None


def _phrases(words: list[str]) -> Iterator[int]:
    return (_hash(words[at : at + PHRASE]) for at in range(len(words) - PHRASE + 1))


def _hash(words: list[str]) -> int:
    return hash(" ".join(words))


def read(reference: DatasetRef, directory: Path = Path()) -> Iterator[Numbered]:
    """The usable examples of a dataset with their lines; its path is absolute or relative to `directory`.

    Raises `BrokenSyntax` or `OSError`; a dataset of no known kind has no examples.
    """
    kind = reference.kind
    if kind is None:
        return
    mapping = reference.mapping or {role: role for role in REQUIRED[kind]}
    path = directory / reference.path
    for record, example in iter_examples(
        path, reference.file_format, kind=kind, mapping=mapping, encoding=reference.encoding
    ):
        if not isinstance(example, Fault):
            yield record.line, example


def main(argv: list[str]) -> int:
    """Print `{"ok": true, "overlap": …}`, or `{"ok": false, "error": sentence}` and return 1."""
    if len(argv) != 2:
        sys.exit("usage: python -m slm.overlap TRAINING EVALUATION  (each a DatasetRef as JSON)")
    try:
        training, evaluation = map(DatasetRef.model_validate_json, argv)
        answer: dict[str, Any] = {"ok": True, "overlap": find(read(training), read(evaluation)).as_document()}
    except (BrokenSyntax, OSError, ValueError) as error:
        answer = {"ok": False, "error": f"The datasets could not be compared: {error}"}
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
