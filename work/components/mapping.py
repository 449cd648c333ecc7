"""Which column plays which part: what each kind of data needs, and what an edited mapping lacks. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Kind(NamedTuple):
    title: str
    use: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "prompt_completion": Kind(
        "Prompt and completion", "to answer as the completions do", ("prompt", "completion"), ("input", "system")
    ),
    "messages": Kind("Conversations", "to speak as the assistant does", ("messages",)),
    "classification": Kind("Text and label", "to give texts one of the labels", ("text", "label")),
    "preference": Kind(
        "Better and worse answers", "to prefer the better ones", ("chosen", "rejected"), ("prompt", "system")
    ),
    "text": Kind("Plain text", "to go on writing like it", ("text",)),
}
ROLES = {
    "prompt": "What is asked",
    "completion": "The answer to learn",
    "input": "Further material for the question",
    "system": "How the model is to behave",
    "messages": "The list of messages",
    "text": "The text",
    "label": "The label to learn",
    "chosen": "The better answer",
    "rejected": "The worse answer",
}


def title(kind: str | None) -> str:
    """What people call a kind."""
    return KINDS[kind].title if kind in KINDS else "Not understood yet" if kind is None else kind


def proposed(kind: str, columns: Sequence[str], known: Mapping[str, str] | None) -> dict[str, str]:
    """Role → column: as it is known, else by the name, else in order where there are just as many columns as needed."""
    required, optional = KINDS[kind].required, KINDS[kind].optional
    found = {role: role for role in required + optional if role in columns}
    if not found and not known and len(columns) == len(required):
        found = dict(zip(required, columns, strict=True))
    return found | {role: column for role, column in (known or {}).items() if column in columns}


def lacks(kind: str, chosen: Mapping[str, str | None]) -> str | None:
    """Why a mapping cannot be saved, in a sentence; None where it can."""
    missing = [role for role in KINDS[kind].required if not chosen.get(role)]
    if missing:
        return f"Choose a column for {' and '.join(missing)}."
    used = [column for column in chosen.values() if column]
    twice = sorted({column for column in used if used.count(column) > 1})
    return f"The column {twice[0]} is chosen twice." if twice else None


def given(kind: str, chosen: Mapping[str, str | None]) -> dict[str, str]:
    """The mapping to send: only roles of this kind that have a column."""
    roles = KINDS[kind].required + KINDS[kind].optional
    return {role: column for role in roles if (column := chosen.get(role))}


def question(reason: str, mapping: Mapping[str, str] | None, columns: Sequence[str], *, where: str) -> str:
    """What to do about data of no known kind; `where` says where columns are chosen.

    What the service says speaks to those who write JSON, and is left to mappings that were given and do not fit.
    """
    if mapping or not columns:
        return reason
    return f"No column has a name that says what it holds ({', '.join(columns)}). Say {where} which one is what."
