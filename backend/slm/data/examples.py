"""From a record's fields to what a model learns from: the canonical shapes, and which kind of data a file holds.

A kind is decided from all rows by their field names (`Detector`), never from the first row alone; names that fit two
kinds ask for a `mapping` (`{"prompt": "question", "completion": "answer"}`: role → column). `to_example` never drops
silently: what cannot be used comes back as `Fault` with a sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from slm.data.formats import Record, iter_records
from slm.spec import DatasetKind, FileFormat

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
}
"""Spellings of who speaks (OpenAI, ShareGPT and relatives) and the canonical role."""


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Messages:
    """A conversation that ends with what the assistant should say."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class PromptCompletion:
    prompt: str
    completion: str


@dataclass(frozen=True, slots=True)
class Preference:
    """The better and the worse answer to the same conversation."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class Classification:
    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Text:
    text: str


Example = Messages | PromptCompletion | Preference | Classification | Text


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a record cannot be used: the field, and a sentence."""

    field: str | None
    message: str


# Layouts in order of preference: (kind, {role: column spellings}, optional roles). Spellings are lower case.
_LAYOUTS: tuple[tuple[DatasetKind, dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]], ...] = (
    (DatasetKind.MESSAGES, {"messages": ("messages", "conversations", "conversation")}, {}),
    (
        DatasetKind.PREFERENCE,
        {
            "prompt": ("input",),
            "chosen": ("preferred_output",),
            "rejected": ("non_preferred_output",),
        },
        {},
    ),
    (DatasetKind.PREFERENCE, {"chosen": ("chosen",), "rejected": ("rejected",)}, {"prompt": ("prompt", "question")}),
    (
        DatasetKind.PROMPT_COMPLETION,
        {"prompt": ("instruction",), "completion": ("output", "response")},
        {"input": ("input", "context"), "system": ("system",)},
    ),
    (
        DatasetKind.PROMPT_COMPLETION,
        {"prompt": ("prompt",), "completion": ("completion", "response")},
        {"system": ("system",)},
    ),
    (DatasetKind.PROMPT_COMPLETION, {"prompt": ("question",), "completion": ("answer",)}, {"system": ("system",)}),
    (
        DatasetKind.CLASSIFICATION,
        {"text": ("text", "sentence"), "label": ("label", "labels", "category", "class")},
        {},
    ),
)
_REQUIRED: dict[DatasetKind, tuple[str, ...]] = {
    DatasetKind.MESSAGES: ("messages",),
    DatasetKind.PROMPT_COMPLETION: ("prompt", "completion"),
    DatasetKind.PREFERENCE: ("chosen", "rejected"),
    DatasetKind.CLASSIFICATION: ("text", "label"),
    DatasetKind.TEXT: ("text",),
}
_OPTIONAL: dict[DatasetKind, tuple[str, ...]] = {
    DatasetKind.PROMPT_COMPLETION: ("input", "system"),
    DatasetKind.PREFERENCE: ("prompt",),
}
MAPPING_ROLES = frozenset(role for roles in (*_REQUIRED.values(), *_OPTIONAL.values()) for role in roles)
ASK = 'Give a mapping from role to column, for example {"prompt": "question", "completion": "answer"}.'


@dataclass(frozen=True, slots=True)
class Layout:
    """How columns become a kind: `mapping` is role → column, all columns present in the rows it fits."""

    kind: DatasetKind
    mapping: tuple[tuple[str, str], ...]


class Detector:
    """Sees every row's field names and says at the end what the file holds."""

    def __init__(self) -> None:
        self._shapes: Counter[tuple[str, ...]] = Counter()

    def see(self, names: tuple[str, ...]) -> None:
        self._shapes[names] += 1

    def decide(self) -> tuple[DatasetKind | None, dict[str, str] | None, str]:
        """Kind, mapping (role → column) and a sentence with the reason; kind is None where nothing or too much fits."""
        votes: Counter[Layout] = Counter()
        for names, count in self._shapes.items():
            for layout in fitting(names):
                votes[layout] += count
        if not votes:
            return None, None, f"No known kind of data fits the columns. {ASK}"
        best = votes.most_common(1)[0][1]
        winners = [layout for layout, count in votes.items() if count == best]
        if len(winners) > 1:
            shown = " or ".join(sorted(_shown(layout) for layout in winners))
            return None, None, f"The columns fit more than one kind: {shown}. {ASK}"
        winner = winners[0]
        return winner.kind, dict(winner.mapping), f"The columns fit {_shown(winner)}."


def _shown(layout: Layout) -> str:
    return f"{layout.kind.value} ({', '.join(column for _, column in layout.mapping)})"


def fitting(names: tuple[str, ...]) -> list[Layout]:
    """The layouts that fit these columns; plain text only where nothing richer does."""
    lower = {name.strip().lower(): name for name in names}
    found = []
    for kind, required, optional in _LAYOUTS:
        mapping = {role: _first(lower, spellings) for role, spellings in required.items()}
        if all(mapping.values()):
            extra = {role: _first(lower, spellings) for role, spellings in optional.items()}
            chosen = {role: column for role, column in (mapping | extra).items() if column is not None}
            found.append(Layout(kind, tuple(chosen.items())))
    if not found and (column := _first(lower, ("text", "content"))) is not None:
        found.append(Layout(DatasetKind.TEXT, (("text", column),)))
    return found


def _first(lower: Mapping[str, str], spellings: tuple[str, ...]) -> str | None:
    return next((lower[spelling] for spelling in spellings if spelling in lower), None)


def kind_of_mapping(mapping: Mapping[str, str], columns: list[str]) -> DatasetKind:
    """The kind that a given mapping makes. Raises `ValueError` with a sentence for one that makes none."""
    for role, column in mapping.items():
        if role not in MAPPING_ROLES:
            raise ValueError(f"mapping: '{role}' is not a role; use {', '.join(sorted(MAPPING_ROLES))}.")
        if column not in columns:
            known = ", ".join(columns[:12])
            raise ValueError(f"mapping: there is no column '{column}'; the file has {known}.")
    for kind, required in _REQUIRED.items():
        allowed = {*required, *_OPTIONAL.get(kind, ())}
        if all(role in mapping for role in required) and set(mapping) <= allowed:
            return kind
    raise ValueError(f"mapping: the roles {', '.join(sorted(mapping))} make no kind of data together. {ASK}")


def to_example(values: Mapping[str, Any], *, kind: DatasetKind, mapping: Mapping[str, str]) -> Example | Fault:
    """The record as an example of its kind, or the reason why it cannot be one."""
    if kind is DatasetKind.MESSAGES:
        return _messages(values, mapping["messages"])
    if kind is DatasetKind.PREFERENCE:
        return _preference(values, mapping)
    texts: dict[str, str] = {}
    for role in _REQUIRED[kind]:
        text = _text(values, mapping[role])
        if isinstance(text, Fault):
            return text
        texts[role] = text
    if kind is DatasetKind.CLASSIFICATION:
        return Classification(texts["text"], texts["label"].strip())
    if kind is DatasetKind.TEXT:
        return Text(texts["text"])
    prompt = texts["prompt"]
    extra = values.get(mapping.get("input", ""))
    if isinstance(extra, str) and extra.strip():
        prompt = f"{prompt}\n\n{extra}"
    system = values.get(mapping.get("system", ""))
    if isinstance(system, str) and system.strip():
        turns = (Message("system", system), Message("user", prompt), Message("assistant", texts["completion"]))
        return Messages(turns)
    return PromptCompletion(prompt, texts["completion"])


def _text(values: Mapping[str, Any], column: str) -> str | Fault:
    """Non-empty text of a field; numbers and objects are written as JSON, since JSON files hold them unquoted."""
    if column not in values:
        return Fault(column, f"'{column}' is missing.")
    value = values[column]
    if value is None:
        return Fault(column, f"'{column}' is null.")
    if not isinstance(value, str):
        return orjson.dumps(value).decode()
    if not value.strip():
        return Fault(column, f"'{column}' is empty.")
    return value


def _messages(values: Mapping[str, Any], column: str) -> Messages | Fault:
    turns = _turns(values.get(column), column)
    if isinstance(turns, Fault):
        return turns
    if not any(turn.role == "assistant" and turn.content.strip() for turn in turns):
        return Fault(column, "The conversation has no assistant message to learn from.")
    return Messages(turns)


def _turns(value: Any, column: str) -> tuple[Message, ...] | Fault:
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return Fault(column, f"'{column}' is text, not a list of messages.")
    if not isinstance(value, list) or not value:
        return Fault(column, f"'{column}' must be a list of messages.")
    turns = []
    for number, entry in enumerate(value, 1):
        turn = _turn(entry, number, column)
        if isinstance(turn, Fault):
            return turn
        turns.append(turn)
    return tuple(turns)


def _turn(entry: Any, number: int, column: str) -> Message | Fault:
    if not isinstance(entry, dict):
        return Fault(column, f"Message {number} is not an object with role and content.")
    role = entry.get("role", entry.get("from"))
    content = entry.get("content", entry.get("value"))
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(parts) if all(isinstance(part, str) for part in parts) else None
    canonical = ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if canonical is None:
        return Fault(
            column, f"Message {number} has the unknown role {str(role)[:40]!r}; use system, user or assistant."
        )
    if not isinstance(content, str):
        return Fault(column, f"Message {number} has no text content.")
    if not content.strip():
        return Fault(column, f"Message {number} ({canonical}) is empty.")
    return Message(canonical, content)


def _preference(values: Mapping[str, Any], mapping: Mapping[str, str]) -> Preference | Fault:
    prompt: tuple[Message, ...] = ()
    if "prompt" in mapping:
        turns = _prompt_turns(values.get(mapping["prompt"]), mapping["prompt"])
        if isinstance(turns, Fault):
            return turns
        prompt = turns
    answers: list[str] = []
    for role in ("chosen", "rejected"):
        answer, lead = _answer(values, mapping[role])
        if isinstance(answer, Fault):
            return answer
        prompt = prompt or lead
        answers.append(answer)
    if answers[0] == answers[1]:
        return Fault(mapping["rejected"], "The chosen and the rejected answer are the same.")
    return Preference(prompt, answers[0], answers[1])


def _prompt_turns(value: Any, column: str) -> tuple[Message, ...] | Fault:
    if isinstance(value, dict):
        value = value.get("messages")
    if isinstance(value, str):
        return (Message("user", value),) if value.strip() else Fault(column, f"'{column}' is empty.")
    return _turns(value, column)


def _answer(values: Mapping[str, Any], column: str) -> tuple[str | Fault, tuple[Message, ...]]:
    """The answer's text; where it is a whole conversation, its last turn and the turns before it."""
    if isinstance(values.get(column), list):
        turns = _turns(values[column], column)
        if isinstance(turns, Fault):
            return turns, ()
        return turns[-1].content, turns[:-1]
    return _text(values, column), ()


def iter_examples(
    path: Path,
    file_format: FileFormat,
    *,
    kind: DatasetKind,
    mapping: Mapping[str, str],
    encoding: str | None = None,
) -> Iterator[tuple[Record, Example | Fault]]:
    """Every record with the example it becomes, or its fault. Raises `BrokenSyntax`."""
    for record in iter_records(path, file_format, encoding=encoding):
        if record.fault is not None:
            yield record, Fault(None, record.fault)
        else:
            yield record, to_example(record.values, kind=kind, mapping=mapping)


def as_document(example: Example) -> dict[str, Any]:
    """The example as JSON-able fields."""
    return asdict(example)
