"""From a record to what a model is asked: its answer may be missing, and where there is one it is not looked at.

The rows are read by the rules of `examples`, so that a model is asked in use as it was in training; a conversation
that ends with an answer is asked for that answer again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from slm.data.examples import ROLES, Fault, Message, Messages, Preference, PromptCompletion, Text, to_example
from slm.data.kinds import REQUIRED
from slm.spec import DatasetKind

Question = Messages | PromptCompletion | Text
PLACE = "a"
"""Stands where the answer will be; nothing of it is ever shown to a model."""
_ANSWER = "\0answer"
"""A column that no file has: NUL characters are refused in files."""
_COLUMNS: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation"),
    "prompt": ("prompt", "question", "instruction", "input"),
    "text": ("text", "sentence", "content"),
}
_KINDS = {
    "messages": DatasetKind.MESSAGES,
    "prompt": DatasetKind.PROMPT_COMPLETION,
    "text": DatasetKind.TEXT,
}
ASK = 'Say which column is asked, for example mapping {"prompt": "question"} or {"text": "review"}.'


def question_columns(
    mapping: Mapping[str, str] | None, columns: Sequence[str]
) -> tuple[DatasetKind, dict[str, str]] | str:
    """The kind and the role → column of data without answers, or a sentence asking for a mapping."""
    if mapping is None:
        found = [(role, name) for role, names in _COLUMNS.items() for name in columns if name.lower() in names]
        if len(found) != 1:
            shown = ", ".join(columns[:12]) or "none"
            return f"Which of its columns is asked is not clear (it has {shown}). {ASK}"
        mapping = dict(found)
    asked = [role for role in _KINDS if role in mapping]
    unknown = sorted(set(mapping) - {*_KINDS, "system", "input"})
    if len(asked) != 1 or unknown:
        return f"A mapping for predictions names one of prompt, messages or text (and system or input). {ASK}"
    for column in mapping.values():
        if column not in columns:
            return f"There is no column '{column[:60]}'; the file has {', '.join(columns[:12])}."
    return _KINDS[asked[0]], dict(mapping)


def to_question(values: Mapping[str, Any], *, kind: DatasetKind, mapping: Mapping[str, str]) -> Question | Fault:
    """What the record asks, with `PLACE` as its answer; of labelled texts the text, whatever the label."""
    if kind in (DatasetKind.TEXT, DatasetKind.CLASSIFICATION):
        read = _as_question(to_example(values, kind=DatasetKind.TEXT, mapping=mapping))
        if kind is DatasetKind.CLASSIFICATION and isinstance(read, Text):
            return PromptCompletion(read.text, PLACE)
        return read
    if kind is DatasetKind.PROMPT_COMPLETION:
        asked = {**values, _ANSWER: PLACE}
        return _as_question(to_example(asked, kind=kind, mapping={**mapping, "completion": _ANSWER}))
    if kind is DatasetKind.MESSAGES:
        column = mapping["messages"]
        return _as_question(to_example({**values, column: _ended(values.get(column))}, kind=kind, mapping=mapping))
    return _as_question(to_example(values, kind=kind, mapping=mapping))


def columns_of(kind: DatasetKind, mapping: Mapping[str, str] | None) -> Mapping[str, str]:
    """Role → column; without a mapping, columns are called as their roles."""
    return mapping if mapping is not None else {role: role for role in REQUIRED[kind]}


def _as_question(example: Any) -> Question | Fault:
    if isinstance(example, Preference):
        if not example.prompt or example.prompt[-1].role != "user":
            return Fault(None, "The record holds two answers, but not the question.")
        return Messages((*example.prompt, Message("assistant", PLACE)))
    if isinstance(example, Messages) and not any(turn.role == "user" for turn in example.messages):
        return Fault(None, "Nobody asks anything in the conversation.")
    found: Question | Fault = example
    return found


def _ended(value: Any) -> Any:
    """The turns with an assistant's last; anything that is no list of turns stays what it is, for its own fault."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
    if not isinstance(value, list) or not value or not isinstance(value[-1], dict):
        return value
    role = value[-1].get("role", value[-1].get("from"))
    answers = isinstance(role, str) and ROLES.get(role.strip().lower()) == "assistant"
    return [*(value[:-1] if answers else value), {"role": "assistant", "content": PLACE}]
