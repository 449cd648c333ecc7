"""What the rows of a file add up to: characters, labels, turns, empty rows, faults.

Rows come in blocks and are measured column by column with C-level functions, because a Python statement per row would
cost more than reading the file. A block in which anything is out of the ordinary (a fault, a null, an unknown role)
is measured row by row by `to_example`, which alone decides what a fault is: both ways give the same figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, compress, repeat
from operator import add, attrgetter, eq, itemgetter, sub
from typing import Any

import orjson

from slm.data.examples import (
    ROLES,
    Classification,
    Example,
    Fault,
    Messages,
    Preference,
    PromptCompletion,
    to_example,
)
from slm.data.formats import MAX_COLUMNS, Block, Unusable
from slm.data.schema import MESSAGES, Message
from slm.spec import DatasetKind

MAX_FAULTS = 100
MAX_LABELS = 100
_DISTINCT_LABELS = 10_000
_LABEL_CHARACTERS = 1_000_000
_ASSISTANT = {spelling: role == "assistant" for spelling, role in ROLES.items()}


@dataclass(frozen=True, slots=True)
class Turns:
    """The conversations in a column, each of messages that are two texts: who speaks, and what is said."""

    rows: Sequence[tuple[Message, ...]]
    counts: list[int]
    """Messages of each row."""
    messages: Sequence[Message]
    """Those of all rows, end to end."""
    contents: list[str]

    @property
    def roles(self) -> Iterator[str]:
        return map(attrgetter("role"), self.messages)

    @classmethod
    def of(cls, column: Sequence[list[Any]]) -> Turns | None:
        """None where any message is anything else; tool calls or weights cannot be there then."""
        turns = list(chain.from_iterable(column))
        try:
            keys = ("role", "content") if "role" in turns[0] else ("from", "value")
            if set(map(len, turns)) != {2}:
                return None
            roles, contents = (list(map(itemgetter(key), turns)) for key in keys)
        except (KeyError, TypeError):  # no objects, or other keys
            return None
        if set(map(type, roles)) != {str} or set(map(type, contents)) != {str}:
            return None
        counts = list(map(len, column))
        until = [0, *accumulate(counts)]
        messages: tuple[Message, ...] = tuple(map(MESSAGES[keys], roles, contents))
        return cls(list(map(messages.__getitem__, map(slice, until, until[1:]))), counts, messages, contents)

    @classmethod
    def of_schema(cls, column: Sequence[tuple[Message, ...]]) -> Turns:
        """The same of conversations that a `Schema` decoded."""
        messages = list(chain.from_iterable(column))
        return cls(column, list(map(len, column)), messages, list(map(attrgetter("content"), messages)))


class Group:
    """Rows of one block with the same fields, in columns; `index` gives each row's place in the block."""

    def __init__(
        self,
        names: tuple[str, ...],
        columns: list[Sequence[Any]],
        index: Sequence[int],
        *,
        types: Sequence[type] | None = None,
    ) -> None:
        """`types`: the one type of each column, where that is known; a list is a conversation of a `Schema` then."""
        self.names, self.columns, self.index = names, columns, index
        self._types = [set(map(type, column)) for column in columns] if types is None else [{found} for found in types]
        self._by_schema = types is not None
        self.is_text = [types == {str} for types in self._types]
        self._full: dict[int, bool] = {}
        self._lengths: dict[int, list[int]] = {}
        self._turns: dict[int, Turns | None] = {}

    def place(self, name: str | None) -> int | None:
        return self.names.index(name) if name in self.names else None

    def full(self, place: int) -> bool:
        """Whether every cell of this column is text with content."""
        if place not in self._full:
            self._full[place] = self.is_text[place] and all(map(str.strip, self.columns[place]))
        return self._full[place]

    def lengths(self, place: int) -> list[int]:
        """Of the texts in this column; nothing else is counted."""
        if place not in self._lengths:
            texts = self.columns[place]
            if not self.is_text[place]:
                texts = [value for value in texts if type(value) is str] if str in self._types[place] else ()
            self._lengths[place] = list(map(len, texts))
        return self._lengths[place]

    def lists(self, place: int) -> bool:
        """Whether every cell of this column is a list of something."""
        return self._types[place] == {list} and all(self.columns[place])

    def turns(self, place: int) -> Turns | None:
        """The column's conversations, where every cell is a plain one."""
        if place not in self._turns:
            made = Turns.of_schema if self._by_schema else Turns.of
            self._turns[place] = made(self.columns[place]) if self.lists(place) else None
        return self._turns[place]

    def hashable(self, place: int) -> Iterable[Any]:
        """The column's cells as values that are equal, and hash alike, exactly where the cells are equal."""
        column = self.columns[place]
        if self.is_text[place]:
            return column
        turns = self.turns(place)
        return turns.rows if turns is not None else map(_hashable, column)


def grouped(block: Block) -> tuple[list[Group], list[int]]:
    """The block's rows by their fields, and the places of rows that have no usable fields at all."""
    rows = block.rows
    if block.schema is not None:
        found = block.schema.columns(rows)
        return [Group(block.schema.names, found, range(len(rows)), types=block.schema.types)], []
    if block.names is not None:
        columns: list[Sequence[Any]]
        width = len(block.names)
        if set(map(len, rows)) == {width}:
            columns = list(zip(*rows, strict=True))
            return [Group(block.names, columns, range(len(rows)), types=[str] * width)], []
        index = [place for place, row in enumerate(rows) if len(row) == width]
        odd = [place for place, row in enumerate(rows) if len(row) != width]
        columns = list(zip(*map(rows.__getitem__, index), strict=True))
        return [Group(block.names, columns, index)] if index else [], odd
    return _grouped_objects(rows)


def _grouped_objects(rows: list[Any]) -> tuple[list[Group], list[int]]:
    if set(map(type, rows)) == {dict} and (group := _uniform(rows)) is not None:
        return [group], []
    by_fields: dict[frozenset[str], list[int]] = {}
    odd = []
    for place, row in enumerate(rows):
        if isinstance(row, dict) and 0 < len(row) <= MAX_COLUMNS:
            by_fields.setdefault(frozenset(row), []).append(place)
        else:
            odd.append(place)
    groups = []
    for index in by_fields.values():
        names = tuple(rows[index[0]])
        groups.append(Group(names, [[rows[place][name] for place in index] for name in names], index))
    return groups, odd


def _uniform(rows: list[dict[str, Any]]) -> Group | None:
    names = tuple(rows[0])
    if set(map(len, rows)) != {len(names)} or not 0 < len(names) <= MAX_COLUMNS:
        return None
    try:
        return Group(names, [list(map(itemgetter(name), rows)) for name in names], range(len(rows)))
    except KeyError:
        return None


def row_hashes(group: Group) -> Iterator[int]:
    """A hash of each row's fields and values; a number and the text that looks like it differ."""
    order = sorted(range(len(group.names)), key=group.names.__getitem__)
    salt = hash(tuple(group.names[place] for place in order))
    return map(hash, zip(repeat(salt, len(group.index)), *map(group.hashable, order), strict=True))


def odd_hash(row: Any) -> int | None:
    """The same for a row without usable fields; None where its content is not at hand."""
    return None if isinstance(row, Unusable) else hash(_as_bytes(row))


def _hashable(value: Any) -> Any:
    if type(value) is str:
        return value
    turns = Turns.of([value]) if type(value) is list and value else None
    return (_as_bytes(value),) if turns is None else turns.rows[0]


def _as_bytes(value: Any) -> bytes:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # nested deeper than orjson writes
        return repr(value).encode()


def has_content(value: Any) -> bool:
    return bool(value.strip()) if isinstance(value, str) else value is not None and value != [] and value != {}


def filled_rows(group: Group) -> int:
    """How many rows have content in any field."""
    if any(map(group.full, range(len(group.columns)))) or any(map(group.lists, range(len(group.columns)))):
        return len(group.index)
    return sum(any(map(has_content, row)) for row in zip(*group.columns, strict=True))


@dataclass
class Tally:
    """Counts for one reading of the file (`kind` and `mapping`; None where nothing is known yet)."""

    kind: DatasetKind | None
    mapping: Mapping[str, str]
    faults: list[dict[str, Any]] = field(default_factory=list)
    fault_count: int = 0
    examples: int = 0
    characters: int = 0
    learned: int = 0
    longest: int = 0
    turns: Counter[int] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    labels_complete: bool = True
    column_by_column: bool = True

    def see(self, block: Block, groups: list[Group], odd: list[int]) -> None:
        """Measure one block, split by `grouped`."""
        singly = list(odd)
        for group in groups:
            if self.kind is not None and not (self.column_by_column and self._columns(group)):
                singly.extend(group.index)
        for place in sorted(singly):
            record = block.record(place)
            if record.fault is not None:
                self._fault(block, place, Fault(None, record.fault))
            elif self.kind is not None:
                example = to_example(record.values, kind=self.kind, mapping=self.mapping)
                if isinstance(example, Fault):
                    self._fault(block, place, example)
                else:
                    self._count(example)

    def join(self, later: Tally, lines: int) -> None:
        """Take up what was counted of the same reading in the next stretch of the file; `lines` lines precede it."""
        room = MAX_FAULTS - len(self.faults)
        self.faults += [fault | {"line": fault["line"] + lines} for fault in later.faults[:room]]
        self.fault_count += later.fault_count
        self.examples += later.examples
        self.characters += later.characters
        self.learned += later.learned
        self.longest = max(self.longest, later.longest)
        self.turns.update(later.turns)
        self.labels_complete = self.labels_complete and later.labels_complete
        self._labelled(later.labels)

    def _fault(self, block: Block, place: int, fault: Fault) -> None:
        self.fault_count += 1
        if len(self.faults) < MAX_FAULTS:
            message = fault.message if block.first is None else f"Record {block.first + place}: {fault.message}"
            self.faults.append({"line": block.lines[place], "field": fault.field, "message": message})

    def _count(self, example: Example) -> None:
        if isinstance(example, Messages):
            spoken = sum(len(turn.content) for turn in example.messages if turn.role == "assistant")
            self._measured([sum(len(turn.content) for turn in example.messages)], spoken)
            if self.kind is DatasetKind.MESSAGES:
                self.turns[len(example.messages)] += 1
        elif isinstance(example, PromptCompletion):
            self._measured([len(example.prompt) + len(example.completion)], len(example.completion))
        elif isinstance(example, Preference):
            prompt = sum(len(turn.content) for turn in example.prompt)
            answers = len(example.chosen) + len(example.rejected)
            self._measured([prompt + answers], answers)
        elif isinstance(example, Classification):
            self._measured([len(example.text)], len(example.label))
            self._labelled((example.label,))
        else:
            self._measured([len(example.text)], len(example.text))

    def _measured(self, lengths: list[int], learned: int) -> None:
        self.examples += len(lengths)
        self.characters += sum(lengths)
        self.longest = max(self.longest, max(lengths))
        self.learned += learned

    def _labelled(self, labels: Iterable[str] | Mapping[str, int]) -> None:
        self.labels.update(labels)
        if len(self.labels) > _DISTINCT_LABELS or sum(map(len, self.labels)) > _LABEL_CHARACTERS:
            self.labels_complete = False
        if not self.labels_complete:
            self.labels.clear()

    def _columns(self, group: Group) -> bool:
        """Measure the group column by column; False, having counted nothing, where a row needs a closer look."""
        measure: dict[DatasetKind, Callable[[Group], bool]] = {
            DatasetKind.MESSAGES: self._message_columns,
            DatasetKind.PROMPT_COMPLETION: self._pair_columns,
            DatasetKind.PREFERENCE: self._preference_columns,
            DatasetKind.CLASSIFICATION: self._label_columns,
            DatasetKind.TEXT: self._text_column,
        }
        return self.kind in measure and measure[self.kind](group)

    def _full_column(self, group: Group, role: str) -> int | None:
        """Where the role's column stands, if every cell of it is text with content."""
        place = group.place(self.mapping[role])
        return place if place is not None and group.full(place) else None

    def _text_column(self, group: Group) -> bool:
        text = self._full_column(group, "text")
        if text is None:
            return False
        self._measured(group.lengths(text), sum(group.lengths(text)))
        return True

    def _label_columns(self, group: Group) -> bool:
        text, place = self._full_column(group, "text"), group.place(self.mapping["label"])
        if text is None or place is None:
            return False
        column = group.columns[place]
        if not group.is_text[place] and set(map(type, column)) != {int}:
            return False
        labels: Counter[str] = Counter()
        for label, rows in Counter(column).items():
            labels[str(label).strip()] += rows
        if "" in labels:
            return False
        self._measured(group.lengths(text), sum(len(label) * rows for label, rows in labels.items()))
        self._labelled(labels)
        return True

    def _pair_columns(self, group: Group) -> bool:
        prompt, completion = self._full_column(group, "prompt"), self._full_column(group, "completion")
        if prompt is None or completion is None:
            return False
        lengths = list(map(add, group.lengths(prompt), group.lengths(completion)))
        for role, joint in (("input", 2), ("system", 0)):
            place = group.place(self.mapping.get(role))
            if place is not None:
                if not group.is_text[place]:
                    return False
                extra = [len(text) + joint if text.strip() else 0 for text in group.columns[place]]
                lengths = list(map(add, lengths, extra))
        self._measured(lengths, sum(group.lengths(completion)))
        return True

    def _preference_columns(self, group: Group) -> bool:
        chosen, rejected = self._full_column(group, "chosen"), self._full_column(group, "rejected")
        if chosen is None or rejected is None or group.place(self.mapping.get("system")) is not None:
            return False
        if any(map(eq, group.columns[chosen], group.columns[rejected])):
            return False
        answers = lengths = list(map(add, group.lengths(chosen), group.lengths(rejected)))
        if "prompt" in self.mapping:
            prompt = self._full_column(group, "prompt")
            if prompt is None:
                return False
            lengths = list(map(add, answers, group.lengths(prompt)))
        self._measured(lengths, sum(answers))
        return True

    def _message_columns(self, group: Group) -> bool:
        place = group.place(self.mapping["messages"])
        turns = None if place is None else group.turns(place)
        if turns is None:
            return False
        try:
            speaks = list(map(_ASSISTANT.__getitem__, turns.roles))
        except KeyError:  # unknown or oddly spelled
            return False
        if not all(map(str.strip, turns.contents)):
            return False
        ends = list(accumulate(turns.counts))
        if not all(map(speaks.__getitem__, map(sub, ends, repeat(1)))) and not all(_sums(speaks, ends)):
            return False
        sizes = list(map(len, turns.contents))
        self._measured(_sums(sizes, ends), sum(compress(sizes, speaks)))
        self.turns.update(turns.counts)
        return True


def _sums(values: Sequence[int], ends: Sequence[int]) -> list[int]:
    """The sums of consecutive stretches of `values`, by where each ends."""
    until = [0, *accumulate(values)]
    totals = list(map(until.__getitem__, ends))
    return list(map(sub, totals, [0, *totals]))
