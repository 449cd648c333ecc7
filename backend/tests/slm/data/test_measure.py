"""Measuring by columns gives what measuring row by row gives, on any mixture of good and bad rows."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slm.data import measure
from slm.data.examples import Fault, iter_examples
from slm.data.formats import Block, iter_blocks, iter_records
from slm.data.measure import Tally, filled_rows, grouped, has_content, odd_hash, row_hashes
from slm.spec import DatasetKind, FileFormat

texts = st.sampled_from(["", " ", "Hi", "é\u3000", "007", "long " * 9, " x "])
loose = st.one_of(texts, st.none(), st.integers(0, 2), st.booleans(), st.just([]), st.just({"a": 1}))
roles = st.sampled_from(["system", "user", "assistant", "human", "gpt", " User", "tool"])
message = st.one_of(
    st.fixed_dictionaries({"role": roles, "content": loose}),
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.just("Hi")}),
    st.fixed_dictionaries({"from": roles, "value": texts}),
    st.fixed_dictionaries({"role": roles, "content": texts, "weight": st.sampled_from([0, 1])}),
)
MAPPINGS: dict[DatasetKind, dict[str, str]] = {
    DatasetKind.MESSAGES: {"messages": "m"},
    DatasetKind.PROMPT_COMPLETION: {"prompt": "a", "completion": "b", "input": "c", "system": "d"},
    DatasetKind.PREFERENCE: {"prompt": "a", "chosen": "b", "rejected": "c"},
    DatasetKind.CLASSIFICATION: {"text": "a", "label": "b"},
    DatasetKind.TEXT: {"text": "a"},
}


def tallied(path: Path, file_format: FileFormat, kind: DatasetKind | None, *, by_column: bool) -> Tally:
    tally = Tally(kind, MAPPINGS[kind] if kind else {}, column_by_column=by_column)
    for block in iter_blocks(path, file_format):
        tally.see(block, *grouped(block))
    return tally


def figures(tally: Tally) -> dict[str, Any]:
    return {name: value for name, value in asdict(tally).items() if name != "column_by_column"}


def check(path: Path, file_format: FileFormat, kind: DatasetKind) -> None:
    """Both ways agree, and with the examples that training will be given."""
    fast = tallied(path, file_format, kind, by_column=True)
    assert figures(fast) == figures(tallied(path, file_format, kind, by_column=False))
    outcomes = list(iter_examples(path, file_format, kind=kind, mapping=MAPPINGS[kind]))
    faulty = [(record.line, found) for record, found in outcomes if isinstance(found, Fault)]
    assert (fast.examples, fast.fault_count) == (len(outcomes) - len(faulty), len(faulty))
    assert [(fault["line"], fault["field"]) for fault in fast.faults] == [(line, f.field) for line, f in faulty]


many = settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.too_slow])


@many
@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from("abcd"), loose, max_size=4)
        | st.fixed_dictionaries({"a": texts, "b": texts})
        | st.just([1]),
        max_size=8,
    ),
    kind=st.sampled_from([kind for kind in DatasetKind if kind is not DatasetKind.MESSAGES]),
    size=st.sampled_from([8, 40, 10_000]),
)
def test_columns_and_rows_agree_on_fields(put: Any, cut: Any, rows: list[Any], kind: DatasetKind, size: int) -> None:
    path = put("fields.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    with cut(size):
        check(path, FileFormat.JSONL, kind)


@many
@given(rows=st.lists(st.lists(st.sampled_from(["", " ", "Hi", "x"]), min_size=1, max_size=4), max_size=8))
@pytest.mark.parametrize("kind", [DatasetKind.PROMPT_COMPLETION, DatasetKind.CLASSIFICATION, DatasetKind.TEXT])
def test_columns_and_rows_agree_on_csv(put: Any, rows: list[list[str]], kind: DatasetKind) -> None:
    path = put("cells.csv", "a,b,c\n" + "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows))
    check(path, FileFormat.CSV, kind)


@many
@given(rows=st.lists(st.lists(message, max_size=4), max_size=5), size=st.sampled_from([30, 10_000]))
def test_columns_and_rows_agree_on_conversations(put: Any, cut: Any, rows: list[Any], size: int) -> None:
    path = put("chat.jsonl", "".join(json.dumps({"m": row}) + "\n" for row in rows))
    with cut(size):
        check(path, FileFormat.JSONL, DatasetKind.MESSAGES)


@pytest.mark.parametrize(
    ("kind", "row"),
    [
        (DatasetKind.PROMPT_COMPLETION, {"a": "x", "b": "y"}),
        (DatasetKind.PROMPT_COMPLETION, {"a": "x", "b": "y", "c": "z", "d": ""}),
        (DatasetKind.CLASSIFICATION, {"a": "x", "b": "y"}),
        (DatasetKind.CLASSIFICATION, {"a": "x", "b": 3}),
        (DatasetKind.TEXT, {"a": "x"}),
        (DatasetKind.PREFERENCE, {"a": "x", "b": "y", "c": "z"}),
        (DatasetKind.MESSAGES, {"m": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}),
        (DatasetKind.MESSAGES, {"m": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]}),
    ],
)
def test_ordinary_rows_never_need_a_closer_look(
    put: Any, monkeypatch: pytest.MonkeyPatch, kind: DatasetKind, row: Any
) -> None:
    def never(*_: Any, **__: Any) -> Fault:
        raise AssertionError("measured row by row")

    monkeypatch.setattr(measure, "to_example", never)
    path = put("ordinary.jsonl", (json.dumps(row) + "\n") * 50)
    assert tallied(path, FileFormat.JSONL, kind, by_column=True).examples == 50


def test_what_is_counted_of_each_kind(put: Any) -> None:
    path = put("pairs.csv", "a,b,c,d\nabc,de,,\nabc,de,xy,S\nabc,,,\n")
    tally = tallied(path, FileFormat.CSV, DatasetKind.PROMPT_COMPLETION, by_column=True)
    assert (tally.characters, tally.learned, tally.longest, tally.turns) == (5 + 10, 4, 10, {})
    chat = [{"role": role, "content": role} for role in ("system", "user", "assistant")]
    path = put("chat.jsonl", json.dumps({"m": chat}) + "\n" + json.dumps({"m": chat[1:]}) + "\n")
    tally = tallied(path, FileFormat.JSONL, DatasetKind.MESSAGES, by_column=True)
    assert (tally.characters, tally.learned, tally.longest, tally.turns) == (32, 18, 19, {3: 1, 2: 1})
    path = put("choice.csv", "a,b,c\nabc,de,f\n")
    tally = tallied(path, FileFormat.CSV, DatasetKind.PREFERENCE, by_column=True)
    assert (tally.characters, tally.learned, tally.longest) == (6, 3, 6)
    path = put("labels.csv", "a,b\nabc, x \nde,x\nf,yy\n")
    tally = tallied(path, FileFormat.CSV, DatasetKind.CLASSIFICATION, by_column=True)
    assert (tally.characters, tally.learned, tally.longest, tally.labels) == (6, 4, 3, {"x": 2, "yy": 1})


def test_only_the_first_hundred_faults_are_listed_all_are_counted(put: Any, cut: Any) -> None:
    path = put("faults.csv", "a\n" + "x\n" + '" "\n' * 250)
    with cut(64):
        tally = tallied(path, FileFormat.CSV, DatasetKind.TEXT, by_column=True)
    assert (tally.fault_count, len(tally.faults)) == (250, 100)
    assert [fault["line"] for fault in tally.faults] == list(range(3, 103))
    assert tally.faults[0] == {"line": 3, "field": "a", "message": "'a' is empty."}


def test_faults_of_different_shapes_stay_in_the_order_of_lines(put: Any) -> None:
    path = put("mixed.jsonl", '{"b": 1}\n[1]\n{"c": 1}\n{"b": 1}\n{}\n')
    tally = tallied(path, FileFormat.JSONL, DatasetKind.TEXT, by_column=True)
    assert [fault["line"] for fault in tally.faults] == [1, 2, 3, 4, 5]


def test_faults_in_a_json_array_are_told_apart_by_their_number(put: Any, cut: Any) -> None:
    path = put("one-line.json", '[{"a": "x"}, {"a": ""}, {"a": "x"}, 7]')
    with cut(8):
        tally = tallied(path, FileFormat.JSON, DatasetKind.TEXT, by_column=True)
    assert [(fault["line"], fault["message"]) for fault in tally.faults] == [
        (1, "Record 2: 'a' is empty."),
        (1, "Record 4: The record is a number, not an object with named fields."),
    ]


def test_without_a_kind_only_rows_that_nothing_can_use_are_faults(put: Any) -> None:
    tally = tallied(put("open.csv", "x,y\n1,2\n1\n,\n"), FileFormat.CSV, None, by_column=True)
    assert (tally.fault_count, tally.examples, tally.faults[0]["line"]) == (1, 0, 3)


def test_labels_beyond_any_list_of_classes_are_given_up(put: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_DISTINCT_LABELS", 5)
    few = put("few.csv", "a,b\n" + "".join(f"x,{number}\n" for number in range(5)))
    many = put("many.csv", "a,b\n" + "".join(f"x,{number}\n" for number in range(6)))
    assert len(tallied(few, FileFormat.CSV, DatasetKind.CLASSIFICATION, by_column=True).labels) == 5
    tally = tallied(many, FileFormat.CSV, DatasetKind.CLASSIFICATION, by_column=True)
    assert (tally.labels_complete, tally.labels, tally.examples) == (False, {}, 6)
    monkeypatch.setattr(measure, "_LABEL_CHARACTERS", 4)
    assert not tallied(few, FileFormat.CSV, DatasetKind.CLASSIFICATION, by_column=True).labels_complete


def hashed(*rows: Any) -> list[int | None]:
    block = Block(None, list(rows), range(len(rows)))
    groups, odd = grouped(block)
    found: dict[int, int | None] = {place: odd_hash(rows[place]) for place in odd}
    for group in groups:
        found.update(zip(group.index, row_hashes(group), strict=True))
    return [found[place] for place in range(len(rows))]


SAME = [
    ({"a": "x", "b": "y"}, {"b": "y", "a": "x"}),
    ({"a": {"k": 1, "l": 2}}, {"a": {"l": 2, "k": 1}}),
    ({"a": [{"role": "user", "content": "x"}]}, {"a": [{"content": "x", "role": "user"}]}),
    ({"a": [{"role": "user", "content": 1}]}, {"a": [{"content": 1, "role": "user"}]}),
    ({"a": "x", "b": 1}, {"a": "x", "b": 1}),
    ([1, 2], [1, 2]),
]
DIFFERENT = [
    ({"a": "1"}, {"a": 1}),
    ({"a": 1}, {"a": True}),
    ({"a": 1}, {"a": 1.5}),
    ({"a": "x"}, {"b": "x"}),
    ({"a": "x", "b": "y"}, {"a": "y", "b": "x"}),
    ({"a": "x"}, {"a": "x", "b": None}),
    ({"a": None}, {"a": "null"}),
    ({"a": ["x"]}, {"a": '["x"]'}),
    ({"a": ["x"]}, {"a": "x"}),
    ([1], [2]),
    ({"a": [{"role": "user", "content": "x"}]}, {"a": [{"from": "user", "value": "x"}]}),
    ({"a": [{"role": "x", "content": "user"}]}, {"a": [{"role": "user", "content": "x"}]}),
    ({"a": [{"role": "u", "content": "x"}] * 2}, {"a": [{"role": "u", "content": "x"}]}),
    ({"a": [{"role": "u", "content": "1"}]}, {"a": [{"role": "u", "content": 1}]}),
]


@pytest.mark.parametrize(("first", "second"), SAME)
@pytest.mark.parametrize(
    "beside",
    [(), ({"a": "x", "b": None}, {"a": 3, "b": "z"}, {"a": []}, {"a": [7]}), ({"a": [{"role": "u", "content": "y"}]},)],
)
def test_equal_rows_hash_alike_whatever_stands_beside_them(first: Any, second: Any, beside: tuple[Any, ...]) -> None:
    assert hashed(first)[0] == hashed(*beside, second)[-1]
    assert len(set(hashed(*beside, first, second)[-2:])) == 1


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_different_rows_hash_differently(first: Any, second: Any) -> None:
    assert hashed(first) != hashed(second)
    assert len(set(hashed(first, second))) == 2


def test_rows_nested_beyond_writing_are_hashed_too() -> None:
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    assert hashed({"a": deep}, {"a": deep}, {"a": [deep]})[0] is not None
    assert [len(set(hashed({"a": deep}, {"a": deep}))), len(set(hashed({"a": deep}, {"a": [deep]})))] == [1, 2]


@pytest.mark.parametrize(
    ("value", "expected"),
    [("x", True), (" ", False), ("", False), (None, False), ([], False), ({}, False), (0, True), (False, True)],
)
def test_content(value: Any, expected: bool) -> None:
    assert has_content(value) is expected


@many
@given(rows=st.lists(st.fixed_dictionaries({"a": loose, "b": loose}), min_size=1, max_size=6))
def test_filled_rows_are_those_with_any_content(rows: list[dict[str, Any]]) -> None:
    groups, _ = grouped(Block(None, rows, range(len(rows))))
    assert sum(map(filled_rows, groups)) == sum(any(map(has_content, row.values())) for row in rows)


def test_blocks_split_into_the_very_records(put: Any) -> None:
    path = put("shapes.jsonl", '{"a": 1, "b": 2}\n{"b": 3, "a": 4}\n{"a": 5}\n{}\n7\n')
    block = next(iter_blocks(path, FileFormat.JSONL))
    groups, odd = grouped(block)
    assert odd == [3, 4]
    rebuilt = {
        place: dict(zip(group.names, cells, strict=True))
        for group in groups
        for place, *cells in zip(group.index, *group.columns, strict=True)
    }
    records = list(iter_records(path, FileFormat.JSONL))
    assert rebuilt == {place: records[place].values for place in (0, 1, 2)}
