"""Records decoded by their schema: the very values that parsing any JSON gives, or none at all."""

from __future__ import annotations

import json
import typing
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slm.data import schema
from slm.data.blocks import BLOCK_BYTES, LineBlocks
from slm.data.examples import ROLES
from slm.data.formats import Block, line_records
from slm.data.measure import grouped, row_hashes
from slm.data.schema import Guess, Schema

CHAT = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Grüße"}]}
SHARED = {"id": 7, "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yes"}]}
PAIR = {"prompt": "a", "completion": "b"}


def lines(*rows: Any) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def schema_of(row: Any) -> Schema:
    schema = Schema.of(row)
    assert schema is not None
    return schema


def values(schema: Schema, block: bytes) -> list[dict[str, Any]] | None:
    rows = schema.rows(block)
    return None if rows is None else list(map(schema.values, rows))


@pytest.mark.parametrize("row", [CHAT, SHARED, PAIR, {"text": "ü\n", "label": 3}, {"": "no name", "x y": "z"}])
def test_the_values_are_those_that_a_parser_gives(row: dict[str, Any]) -> None:
    block = lines(row, row)
    assert values(schema_of(row), block) == [row, row]
    assert values(schema_of(row), block.removesuffix(b"\n").replace(b"\n", b"\r\n")) == [row, row]


@pytest.mark.parametrize(
    "row",
    [
        None, 3, "text", [PAIR], {}, {"a": None}, {"a": 1.5}, {"a": True}, {"a": {}}, {"a": []}, {"a": ["x"]},
        {"a": [{}]}, {"messages": [{"role": "user", "content": "x", "weight": 1}]},
        {str(number): "" for number in range(65)},
    ],
)  # fmt: skip
def test_what_has_no_schema(row: Any) -> None:
    assert Schema.of(row) is None


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a"}, PAIR | {"more": "c"}, PAIR | {"completion": None}, PAIR | {"completion": 3}, None, 5, [PAIR],
        PAIR | {"completion": "NUL \0"},
    ],
)  # fmt: skip
def test_a_record_of_another_schema_leaves_the_block_to_the_parser(row: Any) -> None:
    assert values(schema_of(PAIR), lines(PAIR, row, PAIR)) is None
    assert values(schema_of(PAIR), lines(PAIR, PAIR, PAIR)) is not None


@pytest.mark.parametrize(
    "messages",
    [
        [], None, [{"role": "oracle", "content": "x"}], [{"role": "user", "content": None}], [None],
        [{"role": "user", "content": "x", "name": "y"}], [{"from": "human", "value": "x"}],
        [{"role": "user", "content": "\0"}],
    ],
)  # fmt: skip
def test_a_conversation_with_anything_out_of_the_ordinary_is_for_the_parser(messages: Any) -> None:
    assert values(schema_of(CHAT), lines(CHAT, {"messages": messages})) is None


@pytest.mark.parametrize(
    "block",
    [
        b'{"text":"a"},{"text":"b"}\n',
        b'{"text":"a"},null,{"text":"b"}',
        b'{"text":"a"} {"text":"b"}\n{"text":"c"}',
        b'{"text":"a"}{"text":"b"}\n\n',
        b'{"text":"a"}\n{"text":"b"}{"text":"c"}\n\n',
        b'{"text":"a"} null {"text":"b"}\n',
        b'{"text":"a"} null',
        b'{"text":\n"a"}\n',
        b'{"text":"a"\n}\n',
        b'{"text":"a"}\n\n{"text":"b"}\n',
        b'{"text":"a"}\nnull\n{"text":"b"}\n',
        b'{"text":"a"}]\n[{"text":"b"}\n',
        b'{"text":"a\n"}',
        b'\xef\xbb\xbf{"text":"a"}\n',
        b'{"text":"\xff"}\n',
        b'{"text":"\\ud800"}\n',
        b"\n",
        b"",
    ],
)
def test_each_line_must_be_one_record(block: bytes) -> None:
    assert schema_of({"text": "a"}).rows(block) is None


pieces = st.sampled_from(
    ['"', "\\", "\\u00", "00", "\\ud83d", "\\ude00", "\\n", "{", "}", "[", "]", ",", ":", '"text"', '"label"', "ü",
     "😀", " ", '{"text":"a","label":"b"}', "\n", "\r", "\t", "\x0b", "\x00", "\x7f", "null", "1", "-0", "1e5",
     "\u00a0", "x"]
)  # fmt: skip
mutations = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 3), pieces), max_size=3)


@settings(max_examples=1500, deadline=None)
@example(rows=[("a", "b")], edits=[(200, 0, " ")])  # a blank last line without an end is none
@given(rows=st.lists(st.tuples(st.text(max_size=6), st.text(max_size=3)), min_size=1, max_size=4), edits=mutations)
def test_never_more_tolerant_than_the_parser_and_never_another_value(rows: Any, edits: Any) -> None:
    text = "".join(json.dumps({"text": a, "label": b}, ensure_ascii=len(a) % 2 == 0) + "\n" for a, b in rows)
    for place, removed, added in edits:
        place %= len(text) + 1
        text = text[:place] + added + text[place + removed :]
    block = text.encode("utf-8", "surrogatepass")
    found = values(schema_of({"text": "", "label": ""}), block)
    if found is not None:
        *ended, last = block.split(b"\n")
        assert found == [orjson.loads(line) for line in [*ended, *filter(bytes.strip, [last])]]
        assert "\0" not in "".join(row["text"] + row["label"] for row in found)
    elif not edits and "\\u0000" not in text:
        pytest.fail("Sound records were left to the parser.")


def test_roles_are_those_that_can_be_learned_from() -> None:
    assert set(typing.get_args(schema.Role)) == set(ROLES)


@pytest.mark.parametrize("row", [CHAT, SHARED, PAIR, {"text": "a", "label": 3}])
def test_equal_records_hash_alike_however_they_were_read(row: dict[str, Any]) -> None:
    schema = schema_of(row)
    decoded = schema.rows(lines(row))
    assert decoded is not None
    by_schema = Block(None, decoded, [1], schema=schema)
    turned = dict(reversed(row.items()))  # another order of fields
    beside = {"other": None}
    hashes = []
    for block in (by_schema, Block(None, [turned], [1]), Block(None, [row, beside], [1, 2])):
        groups, odd = grouped(block)
        assert not odd
        hashes.append(next(iter(row_hashes(groups[0]))))
    assert len(set(hashes)) == 1


def test_the_guess_follows_the_file_and_is_given_up_where_it_is_wrong_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[bool] = []
    rows = Schema.rows

    def noted(self: Schema, block: bytes) -> list[Any] | None:
        found = rows(self, block)
        tried.append(found is not None)
        return found

    monkeypatch.setattr(Schema, "rows", noted)
    long = "a" * (BLOCK_BYTES + 1)  # a block each
    many: list[Any] = [PAIR | {"prompt": long}] * 3 + [CHAT | {"note": long}] * 3 + [{"text": None}] * 90_000
    many += [PAIR | {"prompt": long}] * 2
    path = tmp_path / "many.jsonl"
    path.write_bytes(lines(*many))
    with path.open("rb") as file:
        found = list(line_records(LineBlocks(file, None, carriage_returns=False), Guess()))
    assert [block.record(place).values for block in found for place in range(len(block.rows))] == many
    assert tried.count(True) >= 4
    assert tried.count(False) <= 6

    tried.clear()
    path.write_bytes(b"".join(lines({name * BLOCK_BYTES: "x"}) for name in "abcdefghijkl"))
    with path.open("rb") as file:
        assert len(list(line_records(LineBlocks(file, None, carriage_returns=False), Guess()))) == 12
    assert tried == [False] * schema._MISSES
