"""CSV and JSONL: every value as it stands in the file, every break at its line."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.data import formats
from slm.data.formats import MAX_COLUMNS, SURPLUS, BrokenSyntax, format_of, iter_blocks, iter_records
from slm.spec import FileFormat

CSV, JSONL = FileFormat.CSV, FileFormat.JSONL
quick = settings(deadline=None, max_examples=80)
characters = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
cells = st.one_of(
    st.sampled_from(
        ["", "007", "NA", "=1+1", "null", '"', '""', "a,b", "a;b\t", "x\ny", "x\r\ny", "\r", " pad ", "1e5"]
    ),
    st.text(characters, max_size=12),
)


def values(path: Path, file_format: FileFormat, encoding: str | None = None) -> list[dict[str, Any]]:
    return [record.values for record in iter_records(path, file_format, encoding=encoding)]


def broken(path: Path, file_format: FileFormat, encoding: str | None = None) -> BrokenSyntax:
    with pytest.raises(BrokenSyntax) as caught:
        list(iter_records(path, file_format, encoding=encoding))
    assert caught.value.message == str(caught.value)
    return caught.value


def written(rows: list[list[str]], delimiter: str, line_end: str) -> tuple[str, list[int]]:
    """The rows as CSV, everything quoted, and the line on which each begins."""
    text, starts = "", []
    for row in rows:
        starts.append(len(list(io.StringIO(text, newline=""))) + 1)
        line = io.StringIO()
        csv.writer(line, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerow(row)
        text += line.getvalue()
    return text, starts


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.csv", "csv"), ("A.B.JSONL", "jsonl"), ("/x/y.Json", "json"), ("spaced name.csv", "csv")],
)
def test_the_extension_decides_whatever_its_case(name: str, expected: str) -> None:
    assert format_of(name) is FileFormat(expected)


@pytest.mark.parametrize(
    ("name", "shown"), [("a.xlsx", "'.xlsx' files"), ("csv", "files without an extension"), ("", "files without")]
)
def test_another_extension_is_refused_with_the_ones_that_work(name: str, shown: str) -> None:
    with pytest.raises(ValueError, match=r"upload a \.csv, \.json or \.jsonl file\.") as caught:
        format_of(name)
    assert shown in str(caught.value)


@quick
@given(
    rows=st.lists(st.lists(cells, min_size=2, max_size=2), max_size=6),
    delimiter=st.sampled_from(",;\t"),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    mark=st.booleans(),
    size=st.integers(1, 40),
)
def test_csv_cells_and_lines_survive_any_dialect_and_block_border(
    put: Any, cut: Any, rows: list[list[str]], delimiter: str, line_end: str, mark: bool, size: int
) -> None:
    text, starts = written([["first", "second"], *rows], delimiter, line_end)
    path = put("round.csv", ("\ufeff" if mark else "") + text)
    with cut(size):
        records = list(iter_records(path, CSV))
    assert [list(record.values.values()) for record in records] == rows
    assert [record.line for record in records] == starts[1:]
    assert all(list(record.values) == ["first", "second"] and record.fault is None for record in records)


@settings(deadline=None, max_examples=400)
@given(body=st.text(st.sampled_from('"",\n\rab '), max_size=24), size=st.integers(1, 30))
def test_csv_is_refused_exactly_where_a_strict_reader_refuses_it(put: Any, cut: Any, body: str, size: int) -> None:
    text = "x,y\n" + body
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    expected: list[list[str]] = []
    start, failed = 1, False
    try:
        for row in reader:
            expected += [row] if row else []
            start = reader.line_num + 1
    except csv.Error:
        failed = True
    path = put("soup.csv", text)
    with cut(size):
        if failed:
            assert broken(path, CSV).line == start
        else:
            rows = [row for block in iter_blocks(path, CSV) for row in block.rows]
            assert rows == expected[1:]


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
    | st.text(characters, max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(characters, max_size=4), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(characters, min_size=1, max_size=5), json_values, max_size=4)


@quick
@given(rows=st.lists(objects, max_size=6), ascii_only=st.booleans(), size=st.integers(1, 40), gap=st.integers(0, 2))
def test_jsonl_values_and_lines_survive_any_block_border(
    put: Any, cut: Any, rows: list[dict[str, Any]], ascii_only: bool, size: int, gap: int
) -> None:
    blank = " \r\n" * gap
    text = "".join(blank + json.dumps(row, ensure_ascii=ascii_only) + "\n" for row in rows)
    path = put("round.jsonl", text)
    with cut(size):
        records = list(iter_records(path, JSONL))
    assert [record.values for record in records] == rows
    assert [record.line for record in records] == [number * (gap + 1) + gap + 1 for number in range(len(rows))]


def test_values_are_the_very_text_of_the_file(put: Any) -> None:
    path = put("exact.csv", "a,b,c,d\n007,NA,=SUM(A1),1.10\n")
    assert values(path, CSV) == [{"a": "007", "b": "NA", "c": "=SUM(A1)", "d": "1.10"}]


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("q;a\n1,5;2\n", {"q": "1,5", "a": "2"}),
        ("q\ta\n1;5\t2\n", {"q": "1;5", "a": "2"}),
        ('"q;x",a\n1,2\n', {"q;x": "1", "a": "2"}),
        ("only\n1,5\n", None),
        ("text,label\r\nhello,x\r\n", {"text": "hello", "label": "x"}),
    ],
)
def test_the_separator_is_read_off_the_header(put: Any, text: str, row: dict[str, str] | None) -> None:
    record = next(iter_records(put("dialect.csv", text), CSV))
    if row is None:
        assert record.fault == "2 fields where the header names 1; quote text that holds the separator."
    else:
        assert (record.values, record.fault) == (row, None)


def test_a_ragged_row_is_yielded_with_its_fault_and_its_surplus(put: Any) -> None:
    records = list(iter_records(put("ragged.csv", "a,b\n1\n1,2,3,4\n1,2\n"), CSV))
    assert [record.values for record in records] == [
        {"a": "1"},
        {"a": "1", "b": "2", SURPLUS: ["3", "4"]},
        {"a": "1", "b": "2"},
    ]
    assert [record.line for record in records] == [2, 3, 4]
    assert [record.fault for record in records] == [
        "1 field where the header names 2; quote text that holds the separator.",
        "4 fields where the header names 2; quote text that holds the separator.",
        None,
    ]


def test_blank_lines_are_no_csv_rows_and_a_header_alone_has_none(put: Any) -> None:
    assert [r.line for r in iter_records(put("blank.csv", "a,b\n\n1,2\n\n\n3,4\n\n"), CSV)] == [3, 6]
    assert values(put("header.csv", "a,b"), CSV) == []
    assert values(put("nothing.csv", ""), CSV) == []
    assert values(put("mark.csv", b"\xef\xbb\xbf"), CSV) == []


@pytest.mark.parametrize(
    ("content", "line", "code", "words"),
    [
        (b"a\nx\ny \xff z\n", 3, "encoding", "Line 3 is not valid UTF-8 (byte 3 of the line is 0xff). Save the file"),
        (b"a\nx\ny\0z\n", 3, "broken_syntax", "Line 3 holds a NUL character."),
        (b"a\ny\0z\n\xff\n", 2, "broken_syntax", "Line 2 holds a NUL character."),
        (b"a\n\xff\ny\0z\n", 2, "encoding", "Line 2 is not valid UTF-8"),
        (b"\xff\xfea\0\n\0", 1, "encoding", "Line 1: the file is UTF-16, not UTF-8."),
        (b"\xfe\xff\0a\0\n", 1, "encoding", "encoding=utf-16"),
        (b'a\nx\n"y\nz\n', 3, "broken_syntax", "Line 3: a quote is opened but not closed"),
        (b'a\nx\n"y\n"z\n', 3, "broken_syntax", "Line 3: text follows a closing quote."),
        (b'a\n"x" y\n\xff\n', 2, "broken_syntax", "Write a quote inside quoted text as two quotes."),
        (b'a\n"x\n\xff\n', 3, "encoding", "Line 3 is not valid UTF-8"),
        (b"a\r1\r\xff\r", 3, "encoding", "Line 3 is not valid UTF-8"),
        (b"a,a\n1,2\n", 1, "broken_syntax", "Line 1: two columns are called 'a'. Rename one of them."),
        (b"a,b,a\n", 1, "broken_syntax", "two columns are called 'a'"),
        (b"a,,c\n1,2,3\n", 1, "broken_syntax", "Line 1: column 2 has no name. Every column needs one."),
        (b"\na,b\n1,2\n", 1, "broken_syntax", "Line 1 is empty"),
    ],
)
@pytest.mark.parametrize("size", [3, 100_000])
def test_broken_csv_names_its_first_broken_line(
    put: Any, cut: Any, content: bytes, line: int, code: str, words: str, size: int
) -> None:
    path = put("broken.csv", content)
    with cut(size):
        error = broken(path, CSV)
    assert (error.line, error.code) == (line, code)
    assert words in error.message


def test_too_many_columns_are_refused_one_fewer_are_not(put: Any) -> None:
    header = ",".join(f"c{number}" for number in range(MAX_COLUMNS))
    assert values(put("wide.csv", header + "\n"), CSV) == []
    assert "names 4097 columns; at most 4096 are read" in broken(put("wider.csv", header + ",one\n"), CSV).message


@pytest.mark.parametrize(
    ("content", "line", "code", "words"),
    [
        (
            b'{"a":1}\n\n{"a":2\n',
            3,
            "broken_syntax",
            "Line 3 is not valid JSON (unexpected end of data). Each line must",
        ),
        (b'{"a":1}\n{"a":NaN}\n', 2, "broken_syntax", "Line 2 is not valid JSON"),
        (b'{"a":1}\n{"a":1e999}\n', 2, "broken_syntax", "infinity"),
        (b'{"a":1}\n{"a":"\\ud800"}\n', 2, "broken_syntax", "surrogate"),
        (b'{"a":1}{"a":2}\n', 1, "broken_syntax", "unexpected content after document"),
        (b'{"a":1}\n{"a":"\xff"}\n{', 2, "encoding", "Line 2 is not valid UTF-8 (byte 7 of the line is 0xff)"),
        (b'{"a":1}\n{"a":"\0"}\n', 2, "broken_syntax", "Line 2 holds a NUL character."),
        (b"\xff\xfe{\0}\0", 1, "encoding", "the file is UTF-16"),
        (b'[\n{"a":1}\n]\n', 1, "broken_syntax", "If the file is one JSON value over several lines, name it .json."),
        (b'{"a":' + b"[" * 1100 + b"]" * 1100 + b"}", 1, "broken_syntax", "depth limit"),
        (b'{"a":1}\n{"a" 2}\n', 2, "broken_syntax", "Each line must be one JSON object."),
    ],
)
@pytest.mark.parametrize("size", [5, 100_000])
def test_broken_jsonl_names_its_first_broken_line(
    put: Any, cut: Any, content: bytes, line: int, code: str, words: str, size: int
) -> None:
    path = put("broken.jsonl", content)
    with cut(size):
        error = broken(path, JSONL)
    assert (error.line, error.code) == (line, code)
    assert words in error.message


def test_the_hint_at_json_is_given_for_such_files_only(put: Any) -> None:
    assert ".json." not in broken(put("cut.jsonl", '{"a":1}\n{"a":'), JSONL).message
    assert ".json." not in broken(put("typo.jsonl", '{"a":x, "b": 1}\n'), JSONL).message


def test_records_that_are_no_objects_parse_and_carry_a_fault(put: Any) -> None:
    content = '[1]\n"text"\n3\ntrue\nnull\n{"a":1}\n{"a":"\\u0000"}\n{"a":"\\\\u0000"}\n{"a":"\\\\\\u0000"}\n'
    records = list(iter_records(put("odd.jsonl", content), JSONL))
    kinds = ["a list", "text", "a number", "true or false", "null"]
    assert [record.fault for record in records[:5]] == [
        f"The record is {kind}, not an object with named fields." for kind in kinds
    ]
    assert records[5].fault is None
    assert "NUL character (\\u0000)" in str(records[6].fault)
    assert (records[7].fault, records[7].values) == (None, {"a": "\\u0000"})
    assert "NUL" in str(records[8].fault)


def test_an_object_with_too_many_fields_is_a_fault_not_an_end(put: Any) -> None:
    wide = json.dumps({f"c{number}": 1 for number in range(MAX_COLUMNS + 1)})
    records = list(iter_records(put("wide.jsonl", wide + '\n{"a":1}\n'), JSONL))
    assert records[0].fault == "The record has 4097 fields; at most 4096 are read."
    assert records[1].values == {"a": 1}


def test_overlong_records_are_refused_by_line(put: Any, short_records: int) -> None:
    fits = '{"a":"' + "x" * (short_records - 8) + '"}'
    assert len(fits) == short_records
    assert len(values(put("fits.jsonl", f"{fits}\n{fits}\n"), JSONL)) == 2
    for name, content, line in [
        ("long.jsonl", f'{fits}\n{fits[:-2]}x"}}\n', 2),
        ("endless.jsonl", '{"a":1}\n' + "x" * 5000, 2),
        ("endless.csv", "a\n1\n" + "x" * 5000, 3),
        ("quoted.csv", 'a\n1\n"' + "x\n" * 5000, 3),
        ("many.csv", "a,b,c\n1,2,3\n" + ",".join('"' + "x\n" * 200 + '"' for _ in range(3)) + "\n", 3),
    ]:
        error = broken(put(name, content), format_of(name))
        assert error.line == line, name
        assert "16 MiB" in error.message, name


@pytest.mark.parametrize(
    "encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32", "utf_8", "UTF-8-SIG", "cp437"]
)
@pytest.mark.parametrize("size", [1, 3, 100_000])
def test_a_file_is_converted_when_its_encoding_is_named(put: Any, cut: Any, encoding: str, size: int) -> None:
    text = 'q;a\r\nGrüße;"naïve\r\né"\r\n'
    path = put("converted.csv", text.encode(encoding))
    jsonl = put("converted.jsonl", '{"q":"é"}\n\n{"q":"ü"}'.encode(encoding))
    with cut(size):
        assert values(path, CSV, encoding) == [{"q": "Grüße", "a": "naïve\r\né"}]
        assert [(r.line, r.values) for r in iter_records(jsonl, JSONL, encoding=encoding)] == [
            (1, {"q": "é"}),
            (3, {"q": "ü"}),
        ]


@pytest.mark.parametrize("size", [1, 4, 100_000])
def test_bytes_that_are_not_the_named_encoding_are_refused_by_line(put: Any, cut: Any, size: int) -> None:
    with cut(size):
        error = broken(put("odd.csv", "a\nb\nc\n".encode("utf-16") + b"x"), CSV, "utf-16")
        assert (error.line, error.code) == (4, "encoding")
        assert error.message == "Line 4 is not utf-16 text. Name the encoding that the file really has."
        assert broken(put("odd.csv", b"a\nb\n\x81\n"), CSV, "cp1252").line == 3
        assert "quote" in broken(put("odd.csv", b'a\n"b" x\n\x81\n'), CSV, "cp1252").message


@pytest.mark.parametrize("name", ["nope", "rot13", "base64", "idna", "unicode_escape", "a\0b", "ä"])
def test_an_unknown_encoding_is_a_sentence(put: Any, name: str) -> None:
    with pytest.raises(ValueError, match="common ones are utf-8, latin-1, cp1252 and utf-16"):
        list(iter_records(put("a.csv", "a\n1\n"), CSV, encoding=name))


def test_blocks_stay_small_whatever_the_file(put: Any, cut: Any) -> None:
    path = put("many.csv", "a,b\n" + "x,y\n" * 5000)
    with cut(256):
        sizes = [len(block.rows) for block in iter_blocks(path, CSV)]
    assert sum(sizes) == 5000
    assert max(sizes) <= 65


def test_reading_stops_where_the_reader_stops(put: Any, cut: Any) -> None:
    path = put("late.jsonl", b'{"a":1}\n' * 100 + b"broken\n")
    with cut(64):
        records = iter_records(path, JSONL)
        assert next(records).values == {"a": 1}
        assert next(records).line == 2
    assert orjson.loads(path.read_bytes().split(b"\n")[0]) == {"a": 1}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"a": [{"x": 1}\n{"y": 2}]}, {"c": 3}\n', 1),
        ('{"a": [1\n2]}, {"c": 3}\n', 1),
        ('{"a": 1}, {"b": 2}\n{"c": 3}\n', 1),
        ('{"a": 1}\n{"b": 2},\n', 2),
        ('{"a": 1}\n,{"b": 2}\n', 2),
        ('{"a": "x\ny"}\n', 1),
        ('{"a": 1}\n]\n[{"b": 2}\n', 2),
    ],
)
def test_lines_that_are_valid_together_only_are_refused(put: Any, content: str, line: int) -> None:
    assert broken(put("together.jsonl", content), JSONL).line == line


def test_a_file_may_hold_the_number_that_stands_between_lines(put: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_SEPARATOR", 77)
    monkeypatch.setattr(formats, "_BETWEEN", b",77,")
    assert values(put("fair.jsonl", '{"a": 77}\n{"a": [77, 77]}\n'), JSONL) == [{"a": 77}, {"a": [77, 77]}]
    records = list(iter_records(put("numbers.jsonl", '77\n{"a": 1}\n77\n'), JSONL))
    assert [record.values for record in records] == [{}, {"a": 1}, {}]
    for content in ('{"a": [1\n2]}\n', '{"a": 1},77,{"b": 2}\n', '77\n{"a": 1},77\n'):
        assert "not valid JSON" in broken(put("forged.jsonl", content), JSONL).message


def test_the_number_between_lines_is_drawn_anew_in_each_process() -> None:
    """Else a file could be written that hides a line end within a value."""
    draw = [sys.executable, "-c", "from slm.data import formats; print(formats._SEPARATOR)"]
    drawn = {subprocess.run(draw, capture_output=True, text=True, check=True).stdout for _ in range(3)}
    assert len(drawn) == 3
