"""Two files out of one: no record altered, lost or doubled; nothing asked in both; the same seed, the same files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slm.data import split as splitting
from slm.data.formats import iter_raw, iter_records
from slm.data.inspection import inspect_file
from slm.data.split import NotSplittable, Source, main, split_file
from slm.spec import DatasetKind, FileFormat

PAIRS = [{"prompt": f"Question {number}?", "completion": f"Answer {number}"} for number in range(60)]


def source(path: Path, **options: Any) -> Source:
    found = inspect_file(path, file_format=FileFormat(path.suffix[1:]), **options)
    kind = DatasetKind(found.kind) if found.kind else None
    return Source(path, FileFormat(path.suffix[1:]), kind, found.mapping or {}, options.get("encoding"))


def parted(path: Path, *, fraction: float = 0.1, seed: int = 42, stratify: bool = False, **options: Any) -> Any:
    """Both files' paths, and what is said of them."""
    rest, part = (path.with_name(f"{name}{path.suffix}") for name in ("rest", "part"))
    told = split_file(source(path, **options), rest, part, fraction=fraction, seed=seed, stratify=stratify)
    return rest, part, told


def values(path: Path) -> list[dict[str, Any]]:
    return [record.values for record in iter_records(path, FileFormat(path.suffix[1:]))]


def said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def as_jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def as_csv(rows: list[dict[str, str]], line_end: str = "\n") -> str:
    lines = [",".join(rows[0])] + [",".join(f'"{cell}"' for cell in row.values()) for row in rows]
    return line_end.join(lines) + line_end


WRITERS = {"jsonl": as_jsonl, "csv": as_csv, "json": lambda rows: json.dumps(rows, indent=1)}


@pytest.mark.parametrize("ending", WRITERS)
def test_every_record_is_on_exactly_one_side_in_its_order(put: Any, ending: str) -> None:
    path = put(f"all.{ending}", WRITERS[ending](PAIRS))
    rest, part, told = parted(path)
    assert [made.inspection.row_count for made in told] == [54, 6]
    numbers = {json.dumps(row): number for number, row in enumerate(PAIRS)}
    sides = [[numbers[json.dumps(row)] for row in values(side)] for side in (rest, part)]
    assert sorted(sides[0] + sides[1]) == list(range(60))
    assert sides == [sorted(side) for side in sides]
    assert sides[1] != list(range(54, 60)), "drawn, not cut off"
    for side, made in zip((rest, part), told, strict=True):
        content = side.read_bytes()
        assert (made.size_bytes, made.sha256) == (len(content), hashlib.sha256(content).hexdigest())
        assert made.inspection.kind == "prompt_completion"


@pytest.mark.parametrize("ending", WRITERS)
def test_records_are_the_very_bytes_of_the_source(put: Any, ending: str) -> None:
    odd = {
        "jsonl": '{"text" :"caf\\u00e9" ,"n":1.00}\r\n\n  {"n":2,"text":"b"}\n{"text":"c","n":3}',
        "csv": 'text;n\r\n"a\r\n;""b""";1\r\n\r\nplain;007\r\n"q" ;3\r\n'.replace('"q" ', '"q"') + "last;4",
        "json": '[ {"text" :"caf\\u00e9", "n":1.00} ,\n\n {"n": [2,\n3],"text":"b"},{"text":"c","n":3}\n]\n',
    }[ending]
    path = put(f"odd.{ending}", odd)
    rest, part, _ = parted(path, fraction=0.5)
    pieces = list(iter_raw(path, FileFormat(ending)))
    made = [piece for side in (rest, part) for piece in iter_raw(side, FileFormat(ending))]
    assert all(piece.decode() in odd for piece in pieces)
    if ending == "csv":
        header, *pieces = [piece if piece.endswith(b"\r\n") else piece + b"\r\n" for piece in pieces]
        assert made.count(header) == 2
        made = [piece for piece in made if piece != header]
    assert Counter(made) == Counter(pieces)


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_csv_file_keeps_its_dialect(put: Any, line_end: str, mark: str) -> None:
    text = mark + as_csv(PAIRS, line_end).replace('","', '";"').replace("prompt,", "prompt;")
    rest, part, _ = parted(put("dialect.csv", text.removesuffix(line_end)))
    header = (mark + "prompt;completion" + line_end).encode()
    for side in (rest, part):
        content = side.read_bytes()
        assert content.startswith(header)
        assert content.endswith(f'"{line_end}'.encode())
        assert content.count(line_end.encode()) == len(values(side)) + 1
    whole = len(header) + sum(len(side.read_bytes()) - len(header) for side in (rest, part))
    assert whole == len(text.encode())


def test_a_converted_file_becomes_utf_8(put: Any) -> None:
    rows = [{"text": f"Größe {number}"} for number in range(9)]
    path = put("old.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-16"))
    rest, part, _ = parted(path, encoding="utf-16")
    assert sorted(map(str, values(rest) + values(part))) == sorted(map(str, rows))


def test_the_seed_decides_and_nothing_else(put: Any) -> None:
    path = put("seed.jsonl", as_jsonl(PAIRS))
    parts = [parted(path, seed=seed)[1].read_bytes() for seed in (1, 1, 2)]
    assert parts[0] == parts[1] != parts[2]


def test_what_asks_the_same_stays_together(put: Any) -> None:
    rows = [
        {"prompt": f"{ask} {number}?", "completion": ask} for number in range(30) for ask in ("Why", "why ", " WHY")
    ]
    rest, part, told = parted(put("same.jsonl", as_jsonl(rows)))
    assert told[1].inspection.row_count == 9

    def asked(side: Path) -> set[str]:
        return {" ".join(row["prompt"].split()).casefold() for row in values(side)}

    assert not asked(rest) & asked(part)
    assert len(asked(rest)) + len(asked(part)) == 30


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda ask, n: {"messages": [said("user", ask), said("assistant", str(n))]}, "messages"),
        (lambda ask, n: {"prompt": ask, "chosen": f"good {n}", "rejected": "bad"}, "preference"),
        (lambda ask, n: {"text": ask, "label": f"label {n % 3}"}, "classification"),
        (lambda ask, n: {"instruction": "Answer", "input": ask, "output": str(n)}, "prompt_completion"),
        (lambda ask, n: {"whatever": ask}, None),
    ],
)  # fmt: skip
def test_every_kind_is_told_apart_by_what_it_asks(put: Any, make: Any, kind: str | None) -> None:
    rows = [make(f"Question {number % 12}", number) for number in range(48)]
    rest, part, told = parted(put("kinds.jsonl", as_jsonl(rows)), fraction=0.25)
    assert [made.inspection.kind for made in told] == [kind, kind]
    asked = [{json.dumps(row).partition("Question ")[2].split('"')[0] for row in values(side)} for side in (rest, part)]
    assert (len(asked[0]), len(asked[1]), asked[0] & asked[1]) == (9, 3, set())


def test_labels_keep_their_shares_when_asked(put: Any) -> None:
    rows = [{"text": f"Text {number}", "label": "rare" if number % 10 == 0 else "common"} for number in range(200)]
    path = put("labels.jsonl", as_jsonl(rows))
    for seed in range(5):
        _, part, _ = parted(path, fraction=0.2, seed=seed, stratify=True)
        assert Counter(row["label"] for row in values(part)) == {"common": 36, "rare": 4}


def test_many_small_labels_still_give_the_fraction(put: Any) -> None:
    rows = [{"text": f"Text {number}", "label": f"label {number % 50}"} for number in range(200)]
    _, part, _ = parted(put("small.jsonl", as_jsonl(rows)), stratify=True)
    assert len(values(part)) == 20
    assert max(Counter(row["label"] for row in values(part)).values()) == 1


def test_a_text_with_two_labels_stays_on_one_side(put: Any) -> None:
    rows = [{"text": f"Text {number % 40}", "label": f"label {number // 40}"} for number in range(80)]
    rest, part, _ = parted(put("two.jsonl", as_jsonl(rows)), stratify=True, fraction=0.3)
    texts = [{row["text"] for row in values(side)} for side in (rest, part)]
    assert not texts[0] & texts[1]
    assert len(values(part)) == pytest.approx(24, abs=2)


def test_rows_that_cannot_be_used_are_not_lost(put: Any) -> None:
    rows = [*PAIRS[:20], {"prompt": "", "completion": "x"}, {"prompt": "only"}, 7, {}]
    rest, part, told = parted(put("faults.jsonl", as_jsonl(rows)), fraction=0.5)
    assert sum(made.inspection.row_count for made in told) == 24
    assert sum(made.inspection.faults["count"] for made in told) == 4
    raw = [piece for side in (rest, part) for piece in iter_raw(side, FileFormat.JSONL)]
    assert sorted(raw) == sorted(json.dumps(row).encode() for row in rows)


@pytest.mark.parametrize(
    ("rows", "options", "sentence"),
    [
        (PAIRS[:1], {}, "The dataset has a single row; two are needed to split it."),
        ([PAIRS[0]] * 5, {}, "All rows ask the same, so that none can be held out from the others."),
        (PAIRS, {"stratify": True}, "only texts with labels can keep their shares; this dataset holds prompt_comp"),
        ([{"x": "1"}, {"x": "2"}], {"stratify": True}, "holds nothing that is understood yet."),
        ([{"text": "a"}, {"text": ""}], {"fraction": 0.5}, "rows without content"),
    ],
)
def test_what_cannot_be_split_says_why(put: Any, rows: list[Any], options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NotSplittable) as caught:
        parted(put("refused.jsonl", as_jsonl(rows)), **options)
    assert sentence in str(caught.value)


def test_too_many_labels_are_refused(put: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "MAX_LABELS", 5)
    path = put("classes.jsonl", as_jsonl([{"text": f"t{number}", "label": f"l{number}"} for number in range(6)]))
    with pytest.raises(NotSplittable, match="more than 5 labels; split it without"):
        parted(path, stratify=True)


@pytest.mark.parametrize(("rows", "fraction", "wanted"), [(2, 0.01, 1), (2, 0.99, 1), (10, 0.001, 1), (10, 0.999, 9)])
def test_each_side_has_at_least_one_row(put: Any, rows: int, fraction: float, wanted: int) -> None:
    for seed in range(8):
        _, part, _ = parted(put("few.jsonl", as_jsonl(PAIRS[:rows])), fraction=fraction, seed=seed)
        assert len(values(part)) == wanted


def test_where_every_group_is_too_large_the_smallest_is_taken(put: Any) -> None:
    rows = [PAIRS[0]] * 40 + [PAIRS[1]] * 30
    _, part, _ = parted(put("large.jsonl", as_jsonl(rows)), fraction=0.01)
    assert values(part) == [PAIRS[1]] * 30


def test_keys_that_went_to_disk_give_the_same_files(put: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put("spill.jsonl", as_jsonl(PAIRS * 2))
    once = parted(path)[1].read_bytes()
    monkeypatch.setattr(splitting, "_IN_MEMORY", 3)
    assert parted(path)[1].read_bytes() == once


def test_an_optional_column_that_one_side_lacks_is_no_hindrance(put: Any) -> None:
    rows = [PAIRS[0] | {"system": "Be kind"}, *PAIRS[1:8]]
    _, _, told = parted(put("optional.jsonl", as_jsonl(rows)), fraction=0.5)
    assert [made.inspection.kind for made in told] == ["prompt_completion"] * 2


texts = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1, max_size=6)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(st.fixed_dictionaries({"prompt": texts, "completion": texts}), min_size=2, max_size=12),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**53 - 1),
    ending=st.sampled_from(["jsonl", "json"]),
)
def test_whatever_the_rows_nothing_is_lost_and_nothing_shared(
    put: Any, rows: list[dict[str, str]], fraction: float, seed: int, ending: str
) -> None:
    path = put(f"any.{ending}", WRITERS[ending]([*rows, PAIRS[0]]))
    try:
        rest, part, _ = parted(path, fraction=fraction, seed=seed)
    except NotSplittable:
        return
    sides = [[json.dumps(row) for row in values(side)] for side in (rest, part)]
    assert sides[0]
    assert sides[1]
    assert Counter(sides[0] + sides[1]) == Counter(json.dumps(row) for row in [*rows, PAIRS[0]])
    assert not set(sides[0]) & set(sides[1])


def test_the_child_process_answers_in_json(put: Any, capsys: Any) -> None:
    path = put("child.jsonl", as_jsonl(PAIRS))
    outputs = ["--rest", str(path.with_name("r.jsonl")), "--part", str(path.with_name("p.jsonl"))]
    mapping = json.dumps({"prompt": "prompt", "completion": "completion"})
    arguments = [str(path), "--format", "jsonl", "--kind", "prompt_completion", "--mapping", mapping, "--seed", "1"]
    assert main([*arguments, "--fraction", "0.5", *outputs]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["rest"]["inspection"]["row_count"] + answer["part"]["inspection"]["row_count"] == 60
    assert main([*arguments, "--fraction", "0.5", "--stratify", *outputs]) == 1
    refused = json.loads(capsys.readouterr().out)["error"]
    assert (refused["code"], refused["line"]) == ("split", None)
    path.write_text('{"prompt": "cut')
    assert main([*arguments, "--fraction", "0.5", *outputs]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "broken_syntax"
    path.unlink()
    assert main([*arguments, "--fraction", "0.5", *outputs]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "unreadable"
