"""Which kind of data the columns make: the known layouts, the vote of all rows, and mappings given by hand.

Names decide, never contents, and never the first row alone. Where two readings are possible, nothing is guessed: the
kind stays open and the sentence shows the mapping that would settle it (`{"prompt": "question", "completion":
"answer"}`: role → column).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import orjson

from slm.spec import DatasetKind


@dataclass(frozen=True, slots=True)
class Layout:
    """How columns become a kind: the spellings (lower case) of each role's column."""

    kind: DatasetKind
    required: Mapping[str, tuple[str, ...]]
    optional: Mapping[str, tuple[str, ...]]
    unless: frozenset[str] = frozenset()
    """A column of this name means something else than this layout."""


_SYSTEM: dict[str, tuple[str, ...]] = {"system": ("system", "system_prompt")}
_PAIR = DatasetKind.PROMPT_COMPLETION
LAYOUTS: tuple[Layout, ...] = (
    Layout(DatasetKind.MESSAGES, {"messages": ("messages", "conversations", "conversation")}, {}),
    Layout(
        DatasetKind.PREFERENCE,
        {"prompt": ("input",), "chosen": ("preferred_output",), "rejected": ("non_preferred_output",)},
        {},
    ),
    Layout(
        DatasetKind.PREFERENCE,
        {"chosen": ("chosen",), "rejected": ("rejected",)},
        {"prompt": ("prompt", "question", "instruction")} | _SYSTEM,
    ),
    Layout(
        _PAIR,
        {"prompt": ("instruction",), "completion": ("output", "response")},
        {"input": ("input", "context")} | _SYSTEM,
    ),
    Layout(_PAIR, {"prompt": ("prompt",), "completion": ("completion", "response")}, _SYSTEM),
    Layout(_PAIR, {"prompt": ("question",), "completion": ("answer",)}, _SYSTEM),
    Layout(_PAIR, {"prompt": ("input",), "completion": ("output",)}, _SYSTEM, frozenset({"instruction"})),
    Layout(
        DatasetKind.CLASSIFICATION,
        {"text": ("text", "sentence"), "label": ("label", "labels", "category", "class")},
        {},
    ),
)
_TEXT = Layout(DatasetKind.TEXT, {"text": ("text", "content")}, {})

REQUIRED: dict[DatasetKind, tuple[str, ...]] = {
    DatasetKind.MESSAGES: ("messages",),
    DatasetKind.PROMPT_COMPLETION: ("prompt", "completion"),
    DatasetKind.PREFERENCE: ("chosen", "rejected"),
    DatasetKind.CLASSIFICATION: ("text", "label"),
    DatasetKind.TEXT: ("text",),
}
OPTIONAL: dict[DatasetKind, tuple[str, ...]] = {
    DatasetKind.PROMPT_COMPLETION: ("input", "system"),
    DatasetKind.PREFERENCE: ("prompt", "system"),
}
MAPPING_ROLES = frozenset(role for roles in (*REQUIRED.values(), *OPTIONAL.values()) for role in roles)
ASK = 'Give a mapping from role to column, for example {"prompt": "question", "completion": "answer"}.'
_CANDIDATES = 3
"""Columns considered for one role: two are already ambiguous."""

Reading = tuple[DatasetKind, tuple[tuple[str, str], ...]]
"""A kind and the (role, column) pairs of its required roles."""


class Detector:
    """Hears the column names of every row and says at the end what the file holds; memory does not grow with rows."""

    def __init__(self) -> None:
        self._votes: Counter[Reading] = Counter()
        self._extras: dict[Reading, set[tuple[str, str]]] = {}
        self._rows = 0
        self._first: Sequence[str] = ()
        self._last: tuple[Sequence[str], list[tuple[Reading, set[tuple[str, str]]]]] = ((), [])

    def see(self, names: Sequence[str], count: int = 1) -> None:
        """`count` more rows have exactly these columns."""
        self._rows += count
        self._first = self._first or names
        if names != self._last[0]:
            self._last = (names, readings(names))
        for reading, extras in self._last[1]:
            self._votes[reading] += count
            self._extras.setdefault(reading, set()).update(extras)

    def join(self, later: Detector) -> None:
        """Hear what `later` heard, in rows that come after these."""
        self._rows += later._rows
        self._first = self._first or later._first
        self._votes.update(later._votes)
        for reading, extras in later._extras.items():
            self._extras.setdefault(reading, set()).update(extras)

    def decide(self) -> tuple[DatasetKind | None, dict[str, str] | None, str]:
        """Kind, mapping (role → column) and the reason in a sentence; no kind where nothing, or too much, fits."""
        if not self._votes:
            pair = tuple(zip(REQUIRED[DatasetKind.PROMPT_COMPLETION], self._first, strict=False))
            ask = _ask_for((DatasetKind.PROMPT_COMPLETION, pair)) if len(pair) > 1 else ASK
            return None, None, f"No known kind of data fits the columns. {ask}"
        best = max(self._votes.values())
        winners = [reading for reading, votes in self._votes.items() if votes == best]
        if len(winners) > 1:
            shown = " or ".join(sorted(map(_shown, winners)))
            return None, None, f"The columns can be read in more than one way: {shown}. {_ask_for(winners[0])}"
        kind, required = winners[0]
        choices = self._extras[winners[0]]
        by_role = Counter(role for role, _ in choices)
        doubtful = sorted(role for role, count in by_role.items() if count > 1)
        if doubtful:
            columns = ", ".join(sorted(column for role, column in choices if role == doubtful[0]))
            problem = f"More than one column can be the {doubtful[0]}: {columns}."
            return None, None, f"{problem} {_ask_for(winners[0])}"
        optional = dict(sorted(choices))
        share = "every row" if best == self._rows else f"{best} of {self._rows} rows"
        reason = f"The columns of {share} fit {_shown(winners[0])}."
        return kind, dict(required) | optional, reason


def detect(shapes: Iterable[Sequence[str]]) -> tuple[DatasetKind | None, dict[str, str] | None, str]:
    """The decision over the column names of all rows: kind, mapping, reason (see `Detector.decide`)."""
    detector = Detector()
    for names in shapes:
        detector.see(names)
    return detector.decide()


def readings(names: Sequence[str]) -> list[tuple[Reading, set[tuple[str, str]]]]:
    """Every way to read these columns, with the optional (role, column) pairs; plain text where nothing richer fits."""
    by_spelling: dict[str, list[str]] = {}
    for name in names:
        by_spelling.setdefault(name.strip().lower(), []).append(name)
    found = [reading for layout in LAYOUTS for reading in _read(layout, by_spelling)]
    return found or _read(_TEXT, by_spelling)


def _read(layout: Layout, by_spelling: Mapping[str, list[str]]) -> list[tuple[Reading, set[tuple[str, str]]]]:
    if any(name in by_spelling for name in layout.unless):
        return []
    choices = [
        [(role, column) for spelling in spellings for column in by_spelling.get(spelling, ())][:_CANDIDATES]
        for role, spellings in layout.required.items()
    ]
    extras = {
        (role, column)
        for role, spellings in layout.optional.items()
        for spelling in spellings
        for column in by_spelling.get(spelling, ())
    }
    return [((layout.kind, pairs), extras) for pairs in product(*choices)]


def _shown(reading: Reading) -> str:
    kind, pairs = reading
    return f"{kind.value} ({', '.join(column for _, column in pairs)})"


def _ask_for(reading: Reading) -> str:
    example = orjson.dumps(dict(reading[1])).decode().replace('":"', '": "').replace('","', '", "')
    return f"Give a mapping from role to column, for example {example}."


def kind_of_mapping(mapping: Mapping[str, str], columns: Sequence[str]) -> DatasetKind:
    """The kind that a given mapping makes. Raises `ValueError` with a sentence for one that makes none."""
    for role, column in mapping.items():
        if role not in MAPPING_ROLES:
            raise ValueError(f"mapping: '{role}' is not a role; use {', '.join(sorted(MAPPING_ROLES))}.")
        if not isinstance(column, str) or column not in columns:
            known = ", ".join(columns[:12])
            raise ValueError(f"mapping: there is no column '{str(column)[:60]}'; the file has {known}.")
    if len(set(mapping.values())) < len(mapping):
        raise ValueError("mapping: two roles name the same column; give each role its own.")
    for kind, required in REQUIRED.items():
        if all(role in mapping for role in required) and set(mapping) <= {*required, *OPTIONAL.get(kind, ())}:
            return kind
    roles = ", ".join(sorted(mapping)) or "(none)"
    raise ValueError(f"mapping: the roles {roles} make no kind of data together. {ASK}")
