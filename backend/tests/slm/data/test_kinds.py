"""Which kind the columns make: by all rows, never by the first; doubt asks for a mapping."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.data.kinds import ASK, LAYOUTS, MAPPING_ROLES, Detector, detect, kind_of_mapping
from slm.spec import DatasetKind

PAIR = DatasetKind.PROMPT_COMPLETION


@pytest.mark.parametrize(
    ("columns", "kind", "mapping"),
    [
        (["messages"], "messages", {"messages": "messages"}),
        (["id", "conversations"], "messages", {"messages": "conversations"}),
        (["prompt", "prompt_id", "messages"], "messages", {"messages": "messages"}),
        (["prompt", "completion"], "prompt_completion", {"prompt": "prompt", "completion": "completion"}),
        (["instruction", "output"], "prompt_completion", {"prompt": "instruction", "completion": "output"}),
        (
            ["instruction", "input", "output"],
            "prompt_completion",
            {"prompt": "instruction", "completion": "output", "input": "input"},
        ),
        (
            ["instruction", "context", "response", "category"],
            "prompt_completion",
            {"prompt": "instruction", "completion": "response", "input": "context"},
        ),
        (["question", "answer", "id"], "prompt_completion", {"prompt": "question", "completion": "answer"}),
        (["Question ", "ANSWER"], "prompt_completion", {"prompt": "Question ", "completion": "ANSWER"}),
        (["input", "output"], "prompt_completion", {"prompt": "input", "completion": "output"}),
        (
            ["system", "question", "answer"],
            "prompt_completion",
            {"prompt": "question", "completion": "answer", "system": "system"},
        ),
        (
            ["prompt", "chosen", "rejected"],
            "preference",
            {"chosen": "chosen", "rejected": "rejected", "prompt": "prompt"},
        ),
        (["chosen", "rejected"], "preference", {"chosen": "chosen", "rejected": "rejected"}),
        (
            ["input", "preferred_output", "non_preferred_output"],
            "preference",
            {"prompt": "input", "chosen": "preferred_output", "rejected": "non_preferred_output"},
        ),
        (["text", "label"], "classification", {"text": "text", "label": "label"}),
        (["sentence", "category"], "classification", {"text": "sentence", "label": "category"}),
        (["text", "source"], "text", {"text": "text"}),
        (["content"], "text", {"text": "content"}),
    ],
)
def test_the_known_layouts(columns: list[str], kind: str, mapping: dict[str, str]) -> None:
    found, pairs, reason = detect([columns])
    assert (found, pairs) == (DatasetKind(kind), mapping)
    assert reason.startswith("The columns of every row fit " + kind)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (["text", "label", "prompt", "completion"], "classification (text, label) or prompt_completion (prompt, comp"),
        (["messages", "prompt", "completion"], "messages (messages) or prompt_completion (prompt, completion)"),
        (["prompt", "completion", "response"], "(prompt, completion) or prompt_completion (prompt, response)"),
        (["text", "label", "category"], "classification (text, category) or classification (text, label)"),
        (["Text", "text", "label"], "more than one way"),
        (["text", "content"], "text (content) or text (text)"),
        (["instruction", "output", "input", "context"], "More than one column can be the input: context, input."),
        (["x", "y"], "No known kind of data fits the columns."),
        (["label"], "No known kind"),
        ([], "No known kind"),
    ],
)
def test_doubt_asks_for_a_mapping_and_shows_one(columns: list[str], words: str) -> None:
    kind, mapping, reason = detect([columns])
    assert (kind, mapping) == (None, None)
    assert words in reason
    shown = json.loads(reason[reason.index("{") : reason.rindex("}") + 1])
    assert set(shown) <= MAPPING_ROLES
    assert reason.endswith("}.")


@pytest.mark.parametrize("columns", [["text", "label", "prompt", "completion"], ["Recipe line", "Metric", "Notes"]])
def test_the_shown_mapping_settles_the_doubt(columns: list[str]) -> None:
    reason = detect([columns])[2]
    shown = json.loads(reason[reason.index("{") : reason.rindex("}") + 1])
    assert kind_of_mapping(shown, columns) in (PAIR, DatasetKind.CLASSIFICATION)


def test_all_rows_vote_and_the_first_has_no_more_weight() -> None:
    detector = Detector()
    detector.see(["text", "label"])
    detector.see(["question", "answer"], 3)
    kind, mapping, reason = detector.decide()
    assert (kind, mapping) == (PAIR, {"prompt": "question", "completion": "answer"})
    assert reason == "The columns of 3 of 4 rows fit prompt_completion (question, answer)."


def test_an_even_vote_is_doubt() -> None:
    assert detect([["text", "label"], ["question", "answer"]])[0] is None


def test_optional_columns_count_even_where_few_rows_have_them() -> None:
    rows = [["instruction", "output"]] * 9 + [["instruction", "output", "input"]]
    assert detect(rows)[1] == {"prompt": "instruction", "completion": "output", "input": "input"}
    rows.append(["instruction", "output", "system_prompt"])
    assert (detect(rows)[1] or {})["system"] == "system_prompt"


def test_plain_text_is_what_remains() -> None:
    rows = [["text"], ["text", "label"], ["text", "label"]]
    assert detect(rows)[0] is DatasetKind.CLASSIFICATION
    assert detect([*rows, ["text"], ["text"]])[0] is DatasetKind.TEXT


@settings(deadline=None, max_examples=60)
@given(st.permutations([["text"], ["text", "label"], ["text", "label"], ["id"], ["prompt", "completion"]]))
def test_the_order_of_rows_does_not_matter(rows: list[list[str]]) -> None:
    assert detect(rows)[:2] == (DatasetKind.CLASSIFICATION, {"text": "text", "label": "label"})


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_detected_mapping_makes_the_detected_kind(data: st.DataObject) -> None:
    layout = data.draw(st.sampled_from(LAYOUTS))
    columns = [data.draw(st.sampled_from(spellings)) for spellings in layout.required.values()]
    kind, mapping, _ = detect([columns])
    assert kind is layout.kind
    assert mapping is not None
    assert kind_of_mapping(mapping, columns) is kind


def test_thousands_of_alike_names_do_not_multiply() -> None:
    columns = [" " * number + "text" for number in range(2000)] + [" " * number + "label" for number in range(2000)]
    assert detect([columns])[0] is None


@pytest.mark.parametrize(
    ("mapping", "kind"),
    [
        ({"messages": "a"}, DatasetKind.MESSAGES),
        ({"prompt": "a", "completion": "b"}, PAIR),
        ({"prompt": "a", "completion": "b", "input": "c", "system": "d"}, PAIR),
        ({"chosen": "a", "rejected": "b"}, DatasetKind.PREFERENCE),
        ({"chosen": "a", "rejected": "b", "prompt": "c"}, DatasetKind.PREFERENCE),
        ({"text": "a", "label": "b"}, DatasetKind.CLASSIFICATION),
        ({"text": "a"}, DatasetKind.TEXT),
    ],
)
def test_a_given_mapping_makes_its_kind(mapping: dict[str, str], kind: DatasetKind) -> None:
    assert kind_of_mapping(mapping, ["a", "b", "c", "d"]) is kind


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"promt": "a"}, "'promt' is not a role; use chosen, completion, input, label, messages, prompt, rejected,"),
        ({"prompt": "a", "completion": "z"}, "there is no column 'z'; the file has a, b."),
        ({"prompt": "a", "completion": "a"}, "two roles name the same column; give each role its own."),
        ({"prompt": "a"}, "the roles prompt make no kind of data together. " + ASK),
        ({"text": "a", "prompt": "b"}, "the roles prompt, text make no kind of data together."),
        ({"text": "a", "label": "b", "system": "c"}, "there is no column 'c'"),
        ({}, "the roles (none) make no kind"),
    ],
)
def test_a_mapping_that_makes_no_kind_is_a_sentence(mapping: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=r"^mapping: ") as caught:
        kind_of_mapping(mapping, ["a", "b"])
    assert words in str(caught.value)
