"""From fields to examples: each kind's shape, each fault's sentence, nothing dropped."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slm.data.examples import (
    ROLES,
    Classification,
    Example,
    Fault,
    Message,
    Messages,
    Preference,
    PromptCompletion,
    Text,
    as_document,
    iter_examples,
    to_example,
)
from slm.spec import DatasetKind, FileFormat

CHAT = {"messages": "messages"}
PAIR = {"prompt": "q", "completion": "a"}
CHOICE = {"prompt": "p", "chosen": "c", "rejected": "r"}
USER, ANSWER = Message("user", "Hi"), Message("assistant", "Yo")


def made(kind: str, mapping: dict[str, str], **values: Any) -> Example | Fault:
    return to_example(values, kind=DatasetKind(kind), mapping=mapping)


def turns(*entries: Any) -> Example | Fault:
    return made("messages", CHAT, messages=list(entries))


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def test_prompt_and_completion() -> None:
    assert made("prompt_completion", PAIR, q=" 007 ", a="NA\n", x="no") == PromptCompletion(" 007 ", "NA\n")


@pytest.mark.parametrize(
    ("value", "text"), [(7, "7"), (1.5, "1.5"), (True, "true"), ({"a": [1, "é"]}, '{"a":[1,"é"]}'), ([], "[]")]
)
def test_values_that_are_not_text_are_written_as_json(value: Any, text: str) -> None:
    assert made("prompt_completion", PAIR, q="x", a=value) == PromptCompletion("x", text)


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"q": "x"}, "a", "'a' is missing."),
        ({"q": "", "a": "y"}, "q", "'q' is empty."),
        ({"q": " \n\u3000", "a": "y"}, "q", "'q' is empty."),
        ({"q": "x", "a": None}, "a", "'a' is null."),
        ({}, "q", "'q' is missing."),
    ],
)
@pytest.mark.parametrize("kind", ["prompt_completion", "classification", "preference"])
def test_a_field_without_text_is_a_fault_of_that_field(kind: str, values: Any, field: str, message: str) -> None:
    roles = {"prompt_completion": PAIR, "classification": {"text": "q", "label": "a"}}
    mapping = roles.get(kind, {"chosen": "q", "rejected": "a"})
    assert to_example(values, kind=DatasetKind(kind), mapping=mapping) == Fault(field, message)


def test_a_value_too_deep_to_write_is_a_fault() -> None:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    fault = made("prompt_completion", PAIR, q="x", a=deep)
    assert fault == Fault("a", "'a' is nested too deeply to be written as text.")


def test_an_instruction_takes_its_input_below_it_where_it_has_one() -> None:
    mapping = PAIR | {"input": "i"}
    assert made("prompt_completion", mapping, q="Do", a="ok", i="this") == PromptCompletion("Do\n\nthis", "ok")
    for blank in ("", "  ", None):
        assert made("prompt_completion", mapping, q="Do", a="ok", i=blank) == PromptCompletion("Do", "ok")
    assert made("prompt_completion", mapping, q="Do", a="ok") == PromptCompletion("Do", "ok")
    assert made("prompt_completion", mapping, q="Do", a="ok", i=5) == PromptCompletion("Do\n\n5", "ok")


def test_a_system_text_makes_a_pair_a_conversation() -> None:
    mapping = PAIR | {"system": "s", "input": "i"}
    expected = Messages((Message("system", "Be kind"), Message("user", "Do\n\nit"), Message("assistant", "ok")))
    assert made("prompt_completion", mapping, q="Do", a="ok", s="Be kind", i="it") == expected
    assert made("prompt_completion", mapping, q="Do", a="ok", s=" ") == PromptCompletion("Do", "ok")


def test_text_and_label() -> None:
    mapping = {"text": "t", "label": "l"}
    assert made("classification", mapping, t=" Hi ", l=" yes ") == Classification(" Hi ", "yes")
    assert made("classification", mapping, t="Hi", l=0) == Classification("Hi", "0")
    assert made("text", {"text": "t"}, t="\tHi") == Text("\tHi")
    assert made("text", {"text": "t"}, t="\t") == Fault("t", "'t' is empty.")


@pytest.mark.parametrize(("spelling", "role"), sorted(ROLES.items()))
def test_every_spelling_of_a_role(spelling: str, role: str) -> None:
    expected = Messages((Message(role, "Hi"), Message("assistant", "Yo")))
    assert turns(said(f" {spelling.upper()} ", "Hi"), said("assistant", "Yo")) == expected


def test_both_spellings_of_a_conversation() -> None:
    expected = Messages((USER, ANSWER))
    assert turns(said("user", "Hi"), said("assistant", "Yo")) == expected
    assert turns({"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}) == expected
    csv_cell = '[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]'
    assert made("messages", CHAT, messages=csv_cell) == expected


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "Y"}, {"type": "text", "text": "o"}]
    assert turns(said("user", "Hi"), said("assistant", parts)) == Messages((USER, ANSWER))


def test_harmless_keys_of_a_message_are_left_out() -> None:
    given = turns(said("user", "Hi", name="ann"), said("assistant", "Yo", weight=1, tool_calls=[], function_call=None))
    assert given == Messages((USER, ANSWER))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([said("tool", "Hi")], "Message 1 has the unknown role 'tool'; use system, user or assistant."),
        ([said("user", "Hi"), {"content": "Yo"}], "Message 2 has no role; use system, user or assistant."),
        ([{"role": 5, "content": "Yo"}], "Message 1 has no role; use system, user or assistant."),
        ([said("user", "Hi"), said("assistant", " ")], "Message 2 (assistant) is empty."),
        ([said("user", None)], "Message 1 (user) has no text content."),
        ([said("user", [{"type": "image_url"}])], "Message 1 (user) has no text content."),
        ([said("user", ["Hi"])], "Message 1 (user) has no text content."),
        (["Hi"], "Message 1 is not an object with role and content."),
        ([said("user", "Hi")], "The conversation has no assistant message to learn from."),
        ([], "'messages' must be a list of at least one message."),
        (
            [said("user", "Hi"), said("assistant", None, tool_calls=[{"id": "x"}])],
            "Message 2 has 'tool_calls': tool calls cannot be learned yet.",
        ),
        (
            [said("assistant", "Yo", weight=0)],
            "Message 1 has 'weight': a message cannot be left out of learning yet; remove the weight or the row.",
        ),
        (
            [said("assistant", "Yo", function_call={"name": "x"})],
            "Message 1 has 'function_call': function calls cannot be learned yet.",
        ),
    ],
)
def test_a_conversation_that_cannot_be_used_says_where(entries: list[Any], message: str) -> None:
    assert turns(*entries) == Fault("messages", message)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("not json", "'messages' is text, not a list of messages."),
        ("{}", "'messages' must be a list of at least one message."),
        (None, "'messages' must be a list of at least one message."),
        (3, "'messages' must be a list of at least one message."),
    ],
)
def test_messages_that_are_no_list(value: Any, message: str) -> None:
    assert made("messages", CHAT, messages=value) == Fault("messages", message)
    assert made("messages", CHAT) == Fault("messages", "'messages' is missing.")


def test_a_long_unknown_role_is_cut() -> None:
    fault = turns(said("x" * 500, "Hi"))
    assert isinstance(fault, Fault)
    assert len(fault.message) < 120


def test_preference_from_plain_texts() -> None:
    assert made("preference", CHOICE, p="Hi", c="Yo", r="No") == Preference((USER,), "Yo", "No")
    assert made("preference", {"chosen": "c", "rejected": "r"}, c="Yo", r="No") == Preference((), "Yo", "No")


def test_preference_as_openai_writes_it() -> None:
    mapping = {"prompt": "input", "chosen": "preferred_output", "rejected": "non_preferred_output"}
    example = made(
        "preference",
        mapping,
        input={"messages": [said("user", "Hi")]},
        preferred_output=[said("assistant", "Yo")],
        non_preferred_output=[said("assistant", "No")],
    )
    assert example == Preference((USER,), "Yo", "No")


def test_preference_from_whole_conversations() -> None:
    system = said("system", "S")
    chosen = [system, said("user", "Hi"), said("assistant", "Yo")]
    rejected = [system, said("user", "Hi"), said("assistant", "No")]
    expected = Preference((Message("system", "S"), USER), "Yo", "No")
    assert made("preference", {"chosen": "c", "rejected": "r"}, c=chosen, r=rejected) == expected
    assert made("preference", CHOICE, p="Hi", c=chosen, r=rejected) == expected
    assert made("preference", CHOICE, p=[said("user", "Hi")], c="Yo", r="No") == Preference((USER,), "Yo", "No")


def test_preference_takes_its_system_text_once() -> None:
    mapping = CHOICE | {"system": "s"}
    system = Message("system", "S")
    assert made("preference", mapping, p="Hi", c="Yo", r="No", s="S") == Preference((system, USER), "Yo", "No")
    own = [said("system", "Own"), said("user", "Hi")]
    expected = Preference((Message("system", "Own"), USER), "Yo", "No")
    assert made("preference", mapping, p=own, c="Yo", r="No", s="S") == expected


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"p": "Hi", "c": "Yo", "r": "Yo"}, "r", "The chosen and the rejected answer are the same."),
        ({"p": "", "c": "Yo", "r": "No"}, "p", "'p' is empty."),
        ({"c": "Yo", "r": "No"}, "p", "'p' is missing."),
        ({"p": "Hi", "c": [said("user", "Yo")], "r": "No"}, "c", "The conversation in 'c' does not end with an ass"),
        ({"p": "Hi", "c": [said("x", "Yo")], "r": "No"}, "c", "Message 1 has the unknown role 'x'"),
        (
            {"p": "Hi", "c": [said("user", "Other"), said("assistant", "Yo")], "r": "No"},
            "c",
            "The conversation in 'c' does not begin with the same prompt.",
        ),
        ({"p": {"messages": []}, "c": "Yo", "r": "No"}, "p", "'p' must be a list of at least one message."),
    ],
)
def test_a_preference_that_cannot_be_used_says_why(values: Any, field: str, message: str) -> None:
    fault = made("preference", CHOICE, **values)
    assert isinstance(fault, Fault)
    assert fault.field == field
    assert fault.message.startswith(message)


anything = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-9, 9), st.sampled_from(["", " ", "Hi", "user", "assistant", "[]"])
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "weight", "messages"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kind=st.sampled_from(DatasetKind), values=st.dictionaries(st.sampled_from("abc"), anything, max_size=3))
def test_whatever_a_record_holds_the_answer_is_an_example_or_a_sentence(kind: DatasetKind, values: Any) -> None:
    mapping = {
        DatasetKind.MESSAGES: {"messages": "a"},
        DatasetKind.PROMPT_COMPLETION: {"prompt": "a", "completion": "b", "system": "c"},
        DatasetKind.PREFERENCE: {"prompt": "a", "chosen": "b", "rejected": "c"},
        DatasetKind.CLASSIFICATION: {"text": "a", "label": "b"},
        DatasetKind.TEXT: {"text": "a"},
    }[kind]
    found = to_example(values, kind=kind, mapping=mapping)
    if isinstance(found, Fault):
        assert found.message.endswith(".")
        assert found.field in mapping.values()
    else:
        assert all(text.strip() for text in strings(as_document(found)))


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = list(value.values())
    return [value] if isinstance(value, str) else [text for part in value for text in strings(part)]


def test_iter_examples_pairs_every_record_with_what_became_of_it(put: Any) -> None:
    path = put("pairs.csv", "q,a\nx,y\nx\nx,\n")
    found = list(iter_examples(path, FileFormat.CSV, kind=DatasetKind.PROMPT_COMPLETION, mapping=PAIR))
    assert [record.line for record, _ in found] == [2, 3, 4]
    assert [outcome for _, outcome in found] == [
        PromptCompletion("x", "y"),
        Fault(None, "1 field where the header names 2; quote text that holds the separator."),
        Fault("a", "'a' is empty."),
    ]


def test_an_example_as_a_document() -> None:
    assert as_document(Messages((USER,))) == {"messages": ({"role": "user", "content": "Hi"},)}
    assert as_document(PromptCompletion("x", "y")) == {"prompt": "x", "completion": "y"}
