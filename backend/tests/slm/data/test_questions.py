"""What a record asks: the answer may be missing, and where there is one nothing of it reaches the model."""

from __future__ import annotations

from typing import Any

import pytest

from slm.data.examples import Fault, Message, Messages, PromptCompletion, Text
from slm.data.questions import PLACE, columns_of, question_columns, to_question
from slm.spec import DatasetKind

PAIR = {"prompt": "prompt", "completion": "completion"}
TURNS = {"messages": "messages"}


def asked(values: dict[str, Any], kind: DatasetKind, mapping: dict[str, str]) -> Any:
    return to_question(values, kind=kind, mapping=mapping)


@pytest.mark.parametrize("answer", [{}, {"completion": None}, {"completion": ""}, {"completion": "secret"}])
def test_a_prompt_is_asked_whatever_its_answer(answer: dict[str, Any]) -> None:
    found = asked({"prompt": "Why?", **answer}, DatasetKind.PROMPT_COMPLETION, PAIR)
    assert found == PromptCompletion("Why?", PLACE)


def test_system_and_input_are_asked_too() -> None:
    mapping = {"prompt": "instruction", "input": "input", "system": "system"}
    found = asked(
        {"instruction": "Add.", "input": "1 2", "system": "Be brief."}, DatasetKind.PROMPT_COMPLETION, mapping
    )
    turns = (Message("system", "Be brief."), Message("user", "Add.\n\n1 2"), Message("assistant", PLACE))
    assert found == Messages(turns)


@pytest.mark.parametrize(
    "last",
    [
        [],
        [{"role": "assistant", "content": "secret"}],
        [{"role": "assistant", "content": ""}],
        [{"from": "gpt", "value": "secret"}],
    ],
)
def test_a_conversation_is_asked_for_its_last_answer(last: list[dict[str, str]]) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    found = asked({"messages": [*turns, *last]}, DatasetKind.MESSAGES, TURNS)
    assert isinstance(found, Messages)
    assert [turn.content for turn in found.messages] == ["a", "b", "c", PLACE]


def test_a_conversation_may_be_written_as_text() -> None:
    found = asked({"messages": '[{"role": "user", "content": "a"}]'}, DatasetKind.MESSAGES, TURNS)
    assert found == Messages((Message("user", "a"), Message("assistant", PLACE)))


def test_of_two_answers_the_question_is_asked() -> None:
    mapping = {"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"}
    found = asked({"prompt": "Why?", "chosen": "yes", "rejected": "no"}, DatasetKind.PREFERENCE, mapping)
    assert found == Messages((Message("user", "Why?"), Message("assistant", PLACE)))


def test_a_text_is_gone_on_with_and_a_labelled_one_is_asked() -> None:
    assert asked({"text": "a"}, DatasetKind.TEXT, {"text": "text"}) == Text("a")
    for label in ({"label": "x"}, {}):
        mapping = {"text": "text", "label": "label"}
        assert asked({"text": "a", **label}, DatasetKind.CLASSIFICATION, mapping) == PromptCompletion("a", PLACE)


@pytest.mark.parametrize(
    ("values", "kind", "mapping", "words"),
    [
        ({"prompt": " "}, DatasetKind.PROMPT_COMPLETION, PAIR, "'prompt' is empty"),
        ({}, DatasetKind.PROMPT_COMPLETION, PAIR, "'prompt' is missing"),
        ({"messages": []}, DatasetKind.MESSAGES, TURNS, "at least one message"),
        ({"messages": "nonsense"}, DatasetKind.MESSAGES, TURNS, "not a list of messages"),
        ({}, DatasetKind.MESSAGES, TURNS, "must be a list"),
        ({"messages": [{"role": "robot", "content": "a"}]}, DatasetKind.MESSAGES, TURNS, "unknown role 'robot'"),
        ({"messages": [{"role": "system", "content": "a"}]}, DatasetKind.MESSAGES, TURNS, "Nobody asks"),
        ({"text": None}, DatasetKind.TEXT, {"text": "text"}, "'text' is null"),
        ({"chosen": "a", "rejected": "b"}, DatasetKind.PREFERENCE, {"chosen": "chosen", "rejected": "rejected"},
         "not the question"),
    ],
)  # fmt: skip
def test_what_asks_nothing_says_why(
    values: dict[str, Any], kind: DatasetKind, mapping: dict[str, str], words: str
) -> None:
    found = asked(values, kind, mapping)
    assert isinstance(found, Fault)
    assert words in found.message


@pytest.mark.parametrize(
    ("mapping", "columns", "expected"),
    [
        (None, ["id", "question"], (DatasetKind.PROMPT_COMPLETION, {"prompt": "question"})),
        (None, ["Text", "author"], (DatasetKind.TEXT, {"text": "Text"})),
        (None, ["messages"], (DatasetKind.MESSAGES, {"messages": "messages"})),
        ({"text": "review"}, ["review", "text"], (DatasetKind.TEXT, {"text": "review"})),
        ({"prompt": "q", "system": "s"}, ["q", "s"], (DatasetKind.PROMPT_COMPLETION, {"prompt": "q", "system": "s"})),
    ],
)
def test_the_column_that_is_asked(mapping: dict[str, str] | None, columns: list[str], expected: object) -> None:
    assert question_columns(mapping, columns) == expected


@pytest.mark.parametrize(
    ("mapping", "columns", "words"),
    [
        (None, ["a", "b"], "not clear (it has a, b)"),
        (None, ["prompt", "text"], "not clear"),
        (None, [], "it has none"),
        ({"text": "c"}, ["a"], "There is no column 'c'; the file has a."),
        ({"text": "a", "prompt": "b"}, ["a", "b"], "names one of"),
        ({"answer": "a"}, ["a"], "names one of"),
        ({"prompt": "a", "label": "b"}, ["a", "b"], "names one of"),
    ],
)
def test_a_column_that_is_not_clear_is_asked_for(
    mapping: dict[str, str] | None, columns: list[str], words: str
) -> None:
    found = question_columns(mapping, columns)
    assert isinstance(found, str)
    assert words in found


def test_without_a_mapping_columns_are_called_as_their_roles() -> None:
    assert columns_of(DatasetKind.TEXT, None) == {"text": "text"}
    assert columns_of(DatasetKind.TEXT, {"text": "body"}) == {"text": "body"}
