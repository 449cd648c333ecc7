"""A whole file, as an upload sees it: every layout in every format, every dialect, each remedy, each figure."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from slm.data.formats import BrokenSyntax
from slm.data.inspection import Inspection, NoUsableRow, WrongMapping, inspect_file, main, read_rows
from slm.spec import FileFormat

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SHARED = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
CHOICE = {
    "input": {"messages": [{"role": "user", "content": "Hi"}], "tools": [], "parallel_tool_calls": True},
    "preferred_output": [{"role": "assistant", "content": "Hello"}],
    "non_preferred_output": [{"role": "assistant", "content": "No"}],
}
LAYOUTS: dict[str, tuple[dict[str, Any], str]] = {
    "OpenAI messages": ({"messages": TURNS}, "messages"),
    "ShareGPT": ({"conversations": SHARED}, "messages"),
    "prompt and completion": ({"prompt": "Hi", "completion": "Hello"}, "prompt_completion"),
    "Alpaca": ({"instruction": "Greet", "input": "Ann", "output": "Hello"}, "prompt_completion"),
    "Alpaca without input": ({"instruction": "Greet", "input": "", "output": "Hello"}, "prompt_completion"),
    "question and answer": ({"question": "Hi", "answer": "Hello"}, "prompt_completion"),
    "preference": ({"prompt": "Hi", "chosen": "Hello", "rejected": "No"}, "preference"),
    "OpenAI preference": (CHOICE, "preference"),
    "text and label": ({"text": "Hi", "label": "greeting"}, "classification"),
    "text": ({"text": "Hi"}, "text"),
}


def as_csv(row: dict[str, Any], *, delimiter: str = ",", line_end: str = "\r\n") -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=line_end)
    writer.writerow(row)
    writer.writerow([value if isinstance(value, str) else json.dumps(value) for value in row.values()])
    return text.getvalue()


WRITERS = {
    "csv": as_csv,
    "json": lambda row: json.dumps([row]),
    "jsonl": lambda row: json.dumps(row) + "\n",
}


def inspected(path: Path, **options: Any) -> Inspection:
    return inspect_file(path, file_format=FileFormat(path.suffix[1:]), **options)


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize(("row", "kind"), LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_is_understood_in_every_format(put: Any, row: dict[str, Any], kind: str, ending: str) -> None:
    found = inspected(put(f"layout.{ending}", WRITERS[ending](row)))
    assert (found.kind, found.row_count, found.columns) == (kind, 1, list(row))
    assert found.faults == {"count": 0, "first": []}
    assert found.statistics["examples"] == 1


@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_any_sensible_dialect(put: Any, delimiter: str, line_end: str, mark: str) -> None:
    row = {"prompt": f'two\nlines, "quoted"; a{delimiter}b', "completion": "x|y"}
    path = put("dialect.csv", mark + as_csv(row, delimiter=delimiter, line_end=line_end))
    assert inspected(path).kind == "prompt_completion"
    assert read_rows(path, FileFormat.CSV, offset=0, limit=9)[0]["values"] == row


@pytest.mark.parametrize("header", ["a|b,text", "a|b;c|d;text", "a|b\ttext"])
def test_a_bar_in_a_name_is_no_separator_where_another_is_there(put: Any, header: str) -> None:
    assert "a|b" in inspected(put("bar.csv", f"{header}\n1{header[3]}2{header[3]}3\n")).columns


@pytest.mark.parametrize(
    ("encoding", "named"),
    [("utf-16", "utf-16"), ("utf-32", "utf-32"), ("utf-16-le", "utf-16"), ("latin-1", "latin-1")],
)
@pytest.mark.parametrize("ending", WRITERS)
def test_another_encoding_is_refused_with_the_remedy_and_read_when_asked(
    put: Any, encoding: str, named: str, ending: str
) -> None:
    row = {"prompt": "Wo?", "completion": "Dort drüben"}
    text = as_csv(row) if ending == "csv" else json.dumps([row] if ending == "json" else row, ensure_ascii=False)
    path = put(f"encoded.{ending}", text.encode(encoding))
    with pytest.raises(BrokenSyntax, match=f"encoding={named}[,.]"):
        inspected(path)
    found = inspected(path, encoding=encoding)
    assert (found.kind, found.row_count) == ("prompt_completion", 1)
    assert found.statistics["field_characters"] == {"prompt": 3, "completion": 11}


def test_ambiguous_columns_ask_for_a_mapping_and_take_one(put: Any) -> None:
    path = put("both.csv", "prompt,completion,question,answer\na,b,cc,dd\n")
    open_kind = inspected(path)
    assert (open_kind.kind, open_kind.mapping) == (None, None)
    assert 'Give a mapping from role to column, for example {"prompt": ' in open_kind.kind_reason
    mapped = inspected(path, mapping={"prompt": "question", "completion": "answer"})
    assert (mapped.kind, mapped.statistics["characters"]) == ("prompt_completion", 4)
    with pytest.raises(WrongMapping, match="there is no column 'questions'; the file has prompt, completion"):
        inspected(path, mapping={"prompt": "questions", "completion": "answer"})


def test_a_kind_comes_from_all_rows_not_the_first(put: Any) -> None:
    rows = [{"id": 1, "note": "odd"}] + [{"prompt": "a", "completion": "b"}] * 3
    found = inspected(put("late.jsonl", "".join(map(WRITERS["jsonl"], rows))))
    assert (found.kind, found.statistics["examples"]) == ("prompt_completion", 3)
    assert found.kind_reason == "The columns of 3 of 4 rows fit prompt_completion (prompt, completion)."
    assert found.faults["first"] == [{"line": 1, "field": "prompt", "message": "'prompt' is missing."}]


def test_a_header_is_understood_though_every_row_is_ragged(put: Any) -> None:
    found = inspected(put("ragged.csv", "prompt,completion\na,b,c\na\n"))
    assert (found.kind, found.statistics["examples"], found.faults["count"]) == ("prompt_completion", 0, 2)


def test_every_figure_of_a_classification_file(put: Any) -> None:
    text = "text,label\nGood,up\nBad,down\nGood,up\n,up\nFine, up \n,\nLost\n"
    found = inspected(put("labels.csv", text))
    assert found.row_count == 7
    assert found.statistics == {
        "rows": 7,
        "examples": 4,
        "empty": 1,
        "duplicates": 1,
        "duplicates_exact": True,
        "characters": 15,
        "learned_characters": 10,
        "longest_characters": 4,
        "field_characters": {"text": 15, "label": 14},
        "labels": {"up": 3, "down": 1},
        "distinct_labels": 2,
    }
    assert [(fault["line"], fault["field"]) for fault in found.faults["first"]] == [(5, "text"), (7, "text"), (8, None)]


def test_turns_of_conversations(put: Any) -> None:
    rows = [{"messages": TURNS}, {"messages": TURNS}, {"messages": [*TURNS, *TURNS]}]
    found = inspected(put("turns.jsonl", "".join(map(WRITERS["jsonl"], rows))))
    assert found.statistics["turns"] == {"2": 2, "4": 1}
    assert found.statistics["duplicates"] == 1
    assert found.statistics["characters"] == 28
    assert found.statistics["learned_characters"] == 20


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "prompt,completion\n,\n , \n"),
        ("b.jsonl", '{"prompt": "", "completion": null}\n{}\n'),
        ("c.json", '[{"text": " \\n"}, {"text": []}]'),
    ],
)
def test_a_file_without_a_record_that_is_filled_is_refused(put: Any, name: str, content: str) -> None:
    with pytest.raises(NoUsableRow, match=r"All 2 rows are without content\."):
        inspected(put(name, content))


@pytest.mark.parametrize("content", ["", "\n", "prompt,completion\n", "\ufeff"])
@pytest.mark.parametrize("ending", WRITERS)
def test_a_file_without_a_record_is_refused(put: Any, ending: str, content: str) -> None:
    if ending == "csv" or not content.strip("\n\ufeff"):
        with pytest.raises((NoUsableRow, BrokenSyntax)):
            inspected(put(f"none.{ending}", content))


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["--format", "csv"], "broken_syntax", 3),
        (["--format", "csv", "--encoding", "klingon"], "encoding", None),
        (["--format", "jsonl"], "broken_syntax", 1),
        (["--format", "csv", "--mapping", "[]"], "mapping", None),
    ],
)
def test_the_child_process_says_why_not(put: Any, capsys: Any, arguments: list[str], code: str, line: int) -> None:
    path = put("broken.csv", 'text,label\nfine,yes\n"never closed,no\n')
    assert main([str(path), *arguments]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["error"]["code"], answer["error"]["line"]) == (False, code, line)
    assert answer["error"]["message"].endswith(".")


def test_the_child_process_says_what_it_found(put: Any, capsys: Any) -> None:
    path = put("fine.csv", "a,b\nx,y\n")
    mapping = '{"prompt": "a", "completion": "b"}'
    assert main([str(path), "--format", "csv", "--mapping", mapping]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["inspection"]["kind"] == "prompt_completion"
    assert answer["inspection"]["mapping"] == json.loads(mapping)
