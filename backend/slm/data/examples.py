"""From a record's fields to what a model learns from: the canonical shapes.

`to_example` never drops silently: what cannot be used comes back as `Fault` with a sentence. Which kind of data a file
holds is decided in `kinds`, whose names are offered here too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from slm.data.formats import Record, iter_records
from slm.data.kinds import ASK, MAPPING_ROLES, REQUIRED, Detector, detect, kind_of_mapping
from slm.spec import DatasetKind, FileFormat

__all__ = [
    "ASK",
    "MAPPING_ROLES",
    "ROLES",
    "Classification",
    "Detector",
    "Example",
    "Fault",
    "Message",
    "Messages",
    "Preference",
    "PromptCompletion",
    "Text",
    "as_document",
    "detect",
    "iter_examples",
    "kind_of_mapping",
    "to_example",
]

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
    """A conversation with at least one assistant message to learn from."""

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


def to_example(values: Mapping[str, Any], *, kind: DatasetKind, mapping: Mapping[str, str]) -> Example | Fault:
    """The record as an example of its kind, or the reason why it cannot be one."""
    if kind is DatasetKind.MESSAGES:
        return _messages(values, mapping["messages"])
    if kind is DatasetKind.PREFERENCE:
        return _preference(values, mapping)
    texts: dict[str, str] = {}
    for role in REQUIRED[kind]:
        text = _text(values, mapping[role])
        if isinstance(text, Fault):
            return text
        texts[role] = text
    if kind is DatasetKind.CLASSIFICATION:
        return Classification(texts["text"], texts["label"].strip())
    if kind is DatasetKind.TEXT:
        return Text(texts["text"])
    prompt = texts["prompt"]
    extra = _optional(values, mapping, "input")
    if isinstance(extra, Fault):
        return extra
    if extra:
        prompt = f"{prompt}\n\n{extra}"
    system = _optional(values, mapping, "system")
    if isinstance(system, Fault):
        return system
    if system:
        turns = (Message("system", system), Message("user", prompt), Message("assistant", texts["completion"]))
        return Messages(turns)
    return PromptCompletion(prompt, texts["completion"])


def _text(values: Mapping[str, Any], column: str) -> str | Fault:
    """Non-empty text of a field; numbers and objects are written as JSON, since JSON files hold them unquoted."""
    value = values.get(column)
    if type(value) is str:
        return value if value.strip() else Fault(column, f"'{column}' is empty.")
    if column not in values:
        return Fault(column, f"'{column}' is missing.")
    if value is None:
        return Fault(column, f"'{column}' is null.")
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return Fault(column, f"'{column}' is nested too deeply to be written as text.")


def _optional(values: Mapping[str, Any], mapping: Mapping[str, str], role: str) -> str | Fault:
    """The text of an optional role; empty where the row has none."""
    column = mapping.get(role)
    if column is None or (value := values.get(column)) is None:
        return ""
    if isinstance(value, str):
        return value if value.strip() else ""
    return _text(values, column)


def _messages(values: Mapping[str, Any], column: str) -> Messages | Fault:
    if column not in values:
        return Fault(column, f"'{column}' is missing.")
    turns = _turns(values[column], column)
    if isinstance(turns, Fault):
        return turns
    if not any(turn.role == "assistant" for turn in turns):
        return Fault(column, "The conversation has no assistant message to learn from.")
    return Messages(turns)


def _turns(value: Any, column: str) -> tuple[Message, ...] | Fault:
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return Fault(column, f"'{column}' is text, not a list of messages.")
    if not isinstance(value, list) or not value:
        return Fault(column, f"'{column}' must be a list of at least one message.")
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
    canonical = ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if canonical is None:
        shown = f"the unknown role '{role[:40]}'" if isinstance(role, str) else "no role"
        return Fault(column, f"Message {number} has {shown}; use system, user or assistant.")
    for key, meaning in _NOT_LEARNABLE.items():
        if entry.get(key) not in (None, [], 1):
            return Fault(column, f"Message {number} has '{key}': {meaning}.")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        content = "".join(str(part) for part in parts) if all(isinstance(part, str) for part in parts) else None
    if not isinstance(content, str):
        return Fault(column, f"Message {number} ({canonical}) has no text content.")
    if not content.strip():
        return Fault(column, f"Message {number} ({canonical}) is empty.")
    return Message(canonical, content)


_NOT_LEARNABLE = {
    "tool_calls": "tool calls cannot be learned yet",
    "function_call": "function calls cannot be learned yet",
    "weight": "a message cannot be left out of learning yet; remove the weight or the row",
}
"""Keys of OpenAI's messages that change what is to be learned: ignoring them would teach something else."""


def _preference(values: Mapping[str, Any], mapping: Mapping[str, str]) -> Preference | Fault:
    prompt: tuple[Message, ...] = ()
    if "prompt" in mapping:
        turns = _prompt_turns(values, mapping["prompt"])
        if isinstance(turns, Fault):
            return turns
        prompt = turns
    answers: list[str] = []
    for role in ("chosen", "rejected"):
        column = mapping[role]
        found = _answer(values, column)
        if isinstance(found, Fault):
            return found
        answer, lead = found
        if lead and prompt and not _agree(prompt, lead):
            return Fault(column, f"The conversation in '{column}' does not begin with the same prompt.")
        prompt = max(prompt, lead, key=len)
        answers.append(answer)
    if answers[0] == answers[1]:
        return Fault(mapping["rejected"], "The chosen and the rejected answer are the same.")
    system = _optional(values, mapping, "system")
    if isinstance(system, Fault):
        return system
    if system and not any(turn.role == "system" for turn in prompt):
        prompt = (Message("system", system), *prompt)
    return Preference(prompt, answers[0], answers[1])


def _agree(first: tuple[Message, ...], second: tuple[Message, ...]) -> bool:
    """Whether one prompt is the other, or its end: a prompt column often repeats only the last question."""
    shared = min(len(first), len(second))
    return first[-shared:] == second[-shared:]


def _prompt_turns(values: Mapping[str, Any], column: str) -> tuple[Message, ...] | Fault:
    value = values.get(column)
    if isinstance(value, dict):
        value = value.get("messages")
    if isinstance(value, list):
        return _turns(value, column)
    text = _text(values, column)
    return text if isinstance(text, Fault) else (Message("user", text),)


def _answer(values: Mapping[str, Any], column: str) -> tuple[str, tuple[Message, ...]] | Fault:
    """The answer's text; where it is a whole conversation, its last message and what stands before it."""
    if isinstance(values.get(column), list):
        turns = _turns(values[column], column)
        if isinstance(turns, Fault):
            return turns
        if turns[-1].role != "assistant":
            return Fault(column, f"The conversation in '{column}' does not end with an assistant message.")
        return turns[-1].content, turns[:-1]
    text = _text(values, column)
    return text if isinstance(text, Fault) else (text, ())


def iter_examples(
    path: Path,
    file_format: FileFormat,
    *,
    kind: DatasetKind,
    mapping: Mapping[str, str],
    encoding: str | None = None,
) -> Iterator[tuple[Record, Example | Fault]]:
    """Every record in order with the example it becomes, or its fault. Raises `BrokenSyntax`."""
    for record in iter_records(path, file_format, encoding=encoding):
        if record.fault is not None:
            yield record, Fault(None, record.fault)
        else:
            yield record, to_example(record.values, kind=kind, mapping=mapping)


def as_document(example: Example) -> dict[str, Any]:
    """The example as JSON-able fields."""
    return asdict(example)
