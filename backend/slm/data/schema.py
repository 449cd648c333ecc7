"""JSON lines of one schema, decoded straight into their fields: two thirds of the work of making dictionaries of them.

A schema is only a shorter way to the same values: whatever does not fit it (another field, a null, an unknown role, a
broken line) makes `Schema.rows` answer None, and the block is parsed as any JSON. So nothing is judged here.
msgspec is as strict as orjson about what JSON is; tests/slm/data/test_schema.py holds them against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from operator import attrgetter, contains
from typing import Annotated, Any, Literal

import msgspec

_MOST_FIELDS = 64
_MISSES = 4
"""Blocks on end that did not fit the schema expected, after which none is expected."""
_WHOLE = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""Whole numbers that JSON parsers agree on."""
_END = b"\nnull\n"
Role = Literal["system", "developer", "user", "human", "prompter", "assistant", "gpt", "model", "bot"]


class OpenAIMessage(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """Equal and alike in hash where the texts are. Declared here, so that forked processes hash alike too."""

    role: Role
    content: str


class ShareGPTMessage(
    msgspec.Struct,
    frozen=True,
    gc=False,
    forbid_unknown_fields=True,
    rename={"role": "from", "content": "value"},
):
    role: Role
    content: str


Message = OpenAIMessage | ShareGPTMessage
MESSAGES: dict[tuple[str, str], type[Message]] = {
    ("role", "content"): OpenAIMessage,
    ("from", "value"): ShareGPTMessage,
}
"""Keys of a plain message → what stands for it."""


class Schema:
    """Records with exactly the fields `names`, each of its one type: text, whole number or plain conversation."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        """`fields`: name → type for msgspec."""
        self.names = tuple(fields)
        places = [f"field{place}" for place in range(len(fields))]
        self._record = msgspec.defstruct(
            "Record",
            list(zip(places, fields.values(), strict=True)),
            rename=dict(zip(places, self.names, strict=True)),
            gc=False,
            forbid_unknown_fields=True,
        )
        self._decoder = msgspec.json.Decoder(self._record | None)
        self._cells = list(map(attrgetter, places))
        self.types = [_PYTHON.get(found, list) for found in fields.values()]

    @classmethod
    def of(cls, value: Any) -> Schema | None:
        """The schema of this record; None where it has none."""
        if not isinstance(value, dict) or not 0 < len(value) <= _MOST_FIELDS:
            return None
        fields = {name: _type_of(cell) for name, cell in value.items()}
        return None if None in fields.values() else cls(fields)

    def rows(self, block: bytes) -> list[Any] | None:
        """A record for each line of `block`; None where any line holds anything else, or a NUL character.

        A line that holds null is put after each. No field of a record may be null, so the nulls found at every second
        place are these, and each line between them is one record.
        """
        lines = block.replace(b"\n", _END)
        ends = (len(lines) - len(block)) // (len(_END) - 1)  # costs nothing, unlike counting
        try:
            found = self._decoder.decode_lines(lines)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        rows, nulls = found[::2], found[1::2]
        if not ends == len(nulls) == nulls.count(None) or set(map(type, rows)) != {self._record}:
            return None
        return None if b"\\" in block and self._any_nul(rows) else rows

    def columns(self, rows: Sequence[Any]) -> list[Sequence[Any]]:
        return [list(map(cell, rows)) for cell in self._cells]

    def values(self, row: Any) -> dict[str, Any]:
        """The record as any JSON parser gives it."""
        cells = (cell(row) for cell in self._cells)
        plain = (msgspec.to_builtins(list(cell)) if type(cell) is tuple else cell for cell in cells)
        return dict(zip(self.names, plain, strict=True))

    def _any_nul(self, rows: Sequence[Any]) -> bool:
        """Only an escape can have written one: JSON allows no control character in its texts."""
        for found, column in zip(self.types, self.columns(rows), strict=True):
            texts = map(attrgetter("content"), chain.from_iterable(column)) if found is list else column
            if found is not int and any(map(contains, texts, repeat("\0"))):
                return True
        return False


class Guess:
    """Which schema the next block may have; given up where it was wrong again and again."""

    def __init__(self) -> None:
        self._schema: Schema | None = None
        self._misses = 0

    def rows(self, block: bytes) -> tuple[Schema | None, list[Any] | None]:
        rows = self._schema.rows(block) if self._schema is not None else None
        if rows is None:
            return None, None
        self._misses = 0
        return self._schema, rows

    def learn(self, row: Any) -> None:
        """Take the schema of `row`, which begins a block that did not fit."""
        self._misses += self._schema is not None
        self._schema = Schema.of(row) if self._misses < _MISSES else None


_PYTHON = {str: str, _WHOLE: int}


def _type_of(cell: Any) -> Any:
    if type(cell) is str:
        return str
    if type(cell) is int:
        return _WHOLE
    if type(cell) is list and cell and type(cell[0]) is dict:
        for keys, message in MESSAGES.items():
            if cell[0].keys() == set(keys):
                return Annotated[tuple.__class_getitem__((message, ...)), msgspec.Meta(min_length=1)]
    return None
