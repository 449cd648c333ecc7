"""`.json` files: an array read element by element accepts and yields exactly what a parser of the whole would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.data.formats import BrokenSyntax, Record, iter_blocks, iter_records
from slm.spec import FileFormat

JSON = FileFormat.JSON
texts = st.one_of(
    st.sampled_from(['"', "\\", '\\"', "}", "]", "[{", '{"a":', ",", "é", "\u2028", "\n", "\\\\", "😀"]),
    st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=6),
)
values = st.recursive(
    st.one_of(texts, st.integers(-(2**53), 2**53), st.booleans(), st.none()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=4)


def records(path: Path, encoding: str | None = None) -> list[Record]:
    return list(iter_records(path, JSON, encoding=encoding))


def broken(path: Path) -> BrokenSyntax:
    with pytest.raises(BrokenSyntax) as caught:
        records(path)
    return caught.value


@settings(deadline=None, max_examples=150)
@given(
    rows=st.lists(objects, max_size=5),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
    mark=st.booleans(),
    size=st.integers(1, 50),
)
def test_an_array_yields_its_elements_at_any_block_border(
    put: Any, cut: Any, rows: list[dict[str, Any]], indent: int | None, ascii_only: bool, mark: bool, size: int
) -> None:
    text = json.dumps(rows, indent=indent, ensure_ascii=ascii_only)
    path = put("round.json", ("\ufeff" if mark else "") + text + "\n")
    with cut(size):
        found = records(path)
    assert [record.values for record in found] == rows
    assert all(record.fault is None for record in found)


@settings(deadline=None, max_examples=100)
@given(rows=st.lists(objects, min_size=1, max_size=5), size=st.integers(1, 50))
def test_an_element_knows_its_physical_line(put: Any, cut: Any, rows: list[dict[str, Any]], size: int) -> None:
    text, lines = "[", []
    for number, row in enumerate(rows):
        text += ("," if number else "") + "\n" * (number + 1)
        lines.append(text.count("\n") + 1)
        text += json.dumps(row, indent=1)
    path = put("lines.json", text + "]")
    with cut(size):
        assert [record.line for record in records(path)] == lines


def accepted(content: bytes) -> list[Any] | None:
    """What a parser of the whole file makes of it: its records, or None where it refuses."""
    try:
        whole = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return whole if isinstance(whole, list) else [whole] if isinstance(whole, dict) else None


@settings(deadline=None, max_examples=500)
@given(data=st.data(), size=st.integers(1, 40))
def test_a_damaged_array_is_refused_exactly_where_a_whole_parser_refuses_it(
    put: Any, cut: Any, data: st.DataObject, size: int
) -> None:
    content = bytearray(json.dumps(data.draw(st.lists(objects, max_size=3)), ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(content)))
        content[place : place + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b'"', b",", b"]", b"}", b"{", b"[", b":", b"\\", b"\xff", b" ", b"\n", b"1", b"NaN"])
        )
    path = put("damaged.json", bytes(content))
    expected = accepted(bytes(content)) if bytes(content).strip() else []
    with cut(size):
        if expected is None:
            error = broken(path)
            assert error.line is not None
            assert 1 <= error.line <= content.count(b"\n") + 1
            assert error.message.startswith(f"Line {error.line}")
        else:
            rows = [row for block in iter_blocks(path, JSON) for row in block.rows]
            assert rows == expected


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(objects, min_size=1, max_size=3), data=st.data())
def test_a_truncated_array_never_passes(put: Any, rows: list[dict[str, Any]], data: st.DataObject) -> None:
    content = json.dumps(rows).encode()
    end = data.draw(st.integers(1, len(content) - 1))
    assert broken(put("truncated.json", content[:end])).code == "broken_syntax"


def test_a_single_object_is_one_record_whose_keys_are_columns(put: Any) -> None:
    path = put("object.json", '\n\n{"data": [1, 2],\n "b": {}}\n')
    assert records(path) == [Record(3, {"data": [1, 2], "b": {}})]


@pytest.mark.parametrize("content", ["", " \n\t ", "[]", " [ \n ] \n"])
def test_nothing_is_no_record(put: Any, content: str) -> None:
    assert records(put("empty.json", content)) == []


@pytest.mark.parametrize(
    ("content", "line", "code", "words"),
    [
        (b'[{"a":1},\n{"a":2},\n]', 3, "broken_syntax", "Line 3: a comma stands before the closing ]; remove it."),
        (b'[{"a":1}\n{"a":2}]', 2, "broken_syntax", "Line 2: a comma or the closing ] is missing after a record."),
        (b'[{"a":1},\n\n,{"a":2}]', 3, "broken_syntax", "Line 3: a record is missing between commas or brackets."),
        (b'[,{"a":2}]', 1, "broken_syntax", "a record is missing"),
        (b'[{"a":1},\n{"a":2}\n', 3, "broken_syntax", "Line 3: the file ends before the array is closed"),
        (b'[{"a":1},\n{"a": "2', 2, "broken_syntax", "Line 2: the file ends before the array is closed"),
        (b"[", 1, "broken_syntax", "the file ends before the array is closed"),
        (b'[{"a":1},', 1, "broken_syntax", "the file ends before the array is closed"),
        (b'[{"a":1}]\n\n[', 3, "broken_syntax", "Line 3: more text follows the end of the array; remove it."),
        (b'[{"a":1},\n{"a":\nNaN}]', 3, "broken_syntax", "Line 3 (record 2) is not valid JSON"),
        (b'[{"a":1},\n{"a":"\\ud800"}]', 2, "broken_syntax", "Line 2 (record 2) is not valid JSON (no low surrogate"),
        (b'[{"a":"x},\n{"a":"y"}]', 1, "broken_syntax", "Line 1 is not valid JSON (unexpected control character"),
        (b'[{"a":1},\n\n{"a":"\xff"}]', 3, "encoding", "Line 3 is not valid UTF-8 (byte 7 of the line is 0xff)"),
        (b'[{"a":1},\n{"a":"\0"}]', 2, "broken_syntax", "Line 2 holds a NUL character."),
        (b'[{"a":1},\n{"a" 2}]', 2, "broken_syntax", "Line 2 (record 2) is not valid JSON"),
        (b'[{"a":1},\n' + b"[" * 1100 + b"]" * 1100 + b"]", 2, "broken_syntax", "(record 2) is not valid JSON (depth"),
        (b"\n3", 2, "broken_syntax", "Line 2: the file must hold a JSON array of objects, or one object."),
        (b'"text"', 1, "broken_syntax", "the file must hold a JSON array"),
        (b'{"a":1}\n{"a":2}\n', 2, "broken_syntax", "If each line is an object of its own, name the file .jsonl;"),
        (b'{"a":1,\n"b":}', 2, "broken_syntax", "Line 2 is not valid JSON"),
        (b"\xff\xfe[\0]\0", 1, "encoding", "the file is UTF-16"),
    ],
)
@pytest.mark.parametrize("size", [4, 100_000])
def test_a_broken_file_names_its_first_broken_line(
    put: Any, cut: Any, content: bytes, line: int, code: str, words: str, size: int
) -> None:
    path = put("broken.json", content)
    with cut(size):
        error = broken(path)
    assert (error.line, error.code) == (line, code)
    assert words in error.message


def test_the_hint_at_jsonl_is_given_for_such_files_only(put: Any) -> None:
    assert ".jsonl" not in broken(put("typo.json", '{"a":1,\n"b":}')).message


def test_odd_elements_parse_and_carry_a_fault(put: Any) -> None:
    found = records(put("odd.json", '[1, "x", [2], null, {"a": "\\u0000"}, {"a": "\\\\u0000"}]'))
    assert [record.fault is None for record in found] == [False] * 5 + [True]
    assert "NUL" in str(found[4].fault)


def test_records_are_numbered_across_blocks(put: Any, cut: Any) -> None:
    path = put("many.json", json.dumps([{"a": number} for number in range(100)]))
    with cut(64):
        blocks = list(iter_blocks(path, JSON))
    assert len(blocks) > 5
    assert all(block.first == block.rows[0]["a"] + 1 for block in blocks)


def test_the_broken_record_is_numbered_across_blocks(put: Any, cut: Any) -> None:
    path = put("late.json", json.dumps([{"a": number} for number in range(100)])[:-1] + ", {x}]")
    with cut(64):
        assert "(record 101)" in broken(path).message


def test_overlong_elements_are_refused_by_line(put: Any, short_records: int) -> None:
    fits = '{"a":"' + "x" * (short_records - 8) + '"}'
    assert len(records(put("fits.json", f"[{fits},\n{fits}]"))) == 2
    assert len(records(put("fits.json", f"{fits}"))) == 1
    for content, line in [
        (f'[{fits},\n{fits[:-2]}x"}}]', 2),
        ('[{"a":1},\n{"a":"' + "x" * 5000, 2),
        ("[\n\n[" + "1," * 5000, 3),
        ('["' + "x" * 5000 + '"]', 1),
        ('\n{"a":"' + "x" * 5000 + '"}', 2),
    ]:
        error = broken(put("long.json", content))
        assert (error.line, "16 MiB" in error.message) == (line, True), error.message


def test_a_quote_left_open_far_from_the_end_is_still_found(put: Any, short_records: int) -> None:
    content = '[{"a":"1"},\n{"a":"2},\n' + '{"a":"3"},\n' * 500 + '{"a":"4"}]'
    error = broken(put("open.json", content))
    assert (error.line, "control character" in error.message) == (2, True)


def test_a_file_in_another_encoding_is_converted_when_asked(put: Any, cut: Any) -> None:
    path = put("wide.json", '[{"a":"é"},\n{"a":"ü"}]'.encode("utf-16"))
    with cut(3):
        assert [(record.line, record.values["a"]) for record in records(path, "utf-16")] == [(1, "é"), (2, "ü")]


def test_one_long_record_is_not_scanned_again_for_every_block(put: Any, cut: Any) -> None:
    """Quadratic work would take minutes here: the 400 kB element arrives in 6,400 blocks."""
    path = put("slow.json", json.dumps([{"a": ["x" * 100] * 4000}]))
    with cut(64):
        assert len(records(path)[0].values["a"]) == 4000
