"""A large JSONL file measured by several processes: to the letter what one process finds, and the same refusals."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from slm.data import blocks, forks, measure, ranges, survey
from slm.data.blocks import spans
from slm.data.duplicates import Duplicates
from slm.data.formats import BrokenSyntax
from slm.data.inspection import Inspection, NoUsableRow, WrongMapping, inspect_file
from slm.spec import FileFormat

CUT = 64
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="forking is for Linux"),
    # Other tests leave threads behind, which later versions of Python warn of.
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]


@contextmanager
def shared_out(workers: int) -> Iterator[list[int]]:
    """Files of any size are measured by so many processes, piece by piece; tells how many there were each time."""
    counts: list[int] = []
    large, piece, width, at_work = ranges.LARGE, ranges.PIECE, forks.width, forks.at_work

    def counted(tasks: Any) -> Any:
        counts.append(len(tasks) + 1)
        return at_work(tasks)

    ranges.LARGE, ranges.PIECE, forks.width, forks.at_work = 1, 150, lambda: workers, counted
    try:
        yield counts
    finally:
        ranges.LARGE, ranges.PIECE, forks.width, forks.at_work = large, piece, width, at_work


def outcome(path: Path, **options: Any) -> Inspection | tuple[Any, ...]:
    try:
        return inspect_file(path, file_format=FileFormat.JSONL, **options)
    except BrokenSyntax as error:
        return error.message, error.line, error.code
    except (NoUsableRow, WrongMapping) as error:
        return type(error), str(error)


def in_order(found: Inspection | tuple[Any, ...]) -> Any:
    """Comparable with the order of keys in it, which dicts do not compare."""
    return orjson.dumps(found.as_dict()) if isinstance(found, Inspection) else found


words = st.sampled_from(["", " ", "Hi", "Grüße", "a\u2028b", "x" * 90, "\u0000", "0", "yes"])
turns = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", "oracle"]), "content": words}),
    max_size=4,
)
records = st.one_of(
    st.fixed_dictionaries({"prompt": words, "completion": words}),
    st.fixed_dictionaries({"text": words, "label": st.one_of(words, st.integers(0, 3), st.none())}),
    st.fixed_dictionaries({"text": words}),
    st.fixed_dictionaries({"messages": turns}),
    st.fixed_dictionaries({"chosen": words, "rejected": words}, optional={"prompt": words, "system": words}),
    st.dictionaries(st.sampled_from(["a", "b", "text", "Text", "question", "answer"]), words, max_size=3),
    st.one_of(st.none(), st.integers(), words, st.lists(words, max_size=2)),
)
sound = records.map(lambda row: json.dumps(row, ensure_ascii=False).encode())
other = st.sampled_from(
    [b"", b"  ", b"\xef\xbb\xbf{}", b'{"text": "a",', b"\xff\xfe{}", b'{"text": "\xe9"}', b"[1,", b"\0"]
)
"""Blank lines, marks out of place, and what does not parse."""


@st.composite
def files(draw: st.DrawFn) -> bytes:
    """A few different lines, many times over, so that they repeat across ranges; most files have no broken line."""
    lines = draw(st.lists(st.one_of(sound, sound, st.just(b"")), min_size=1, max_size=8))
    order = random.Random(draw(st.integers(0, 999)))
    many = order.choices(lines, k=draw(st.integers(1, 60)))
    if draw(st.booleans()):
        many.sort(key=lines.index)  # what comes later overturns what the first block suggests
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        many.insert(order.randrange(len(many) + 1), draw(other))
    end = draw(st.sampled_from([b"\n", b"\r\n"]))
    mark = draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xff\xfe"]))
    return mark + end.join(many) + draw(st.sampled_from([b"", end]))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(content=files(), workers=st.integers(2, 4))
@example(content=b'{"text":"a"}\n' * 30 + b'{"text":"a"\n' + b"{}\n" * 30 + b"{\n", workers=3)
@example(content=b"\n" * 900 + b'{"text":"a"}', workers=3)
@example(content=b'{"text":"' + b"a" * 900 + b'"}\n' + b"[\n", workers=4)
def test_several_processes_find_to_the_letter_what_one_finds(put: Any, cut: Any, content: bytes, workers: int) -> None:
    path = put("shared.jsonl", content)
    with cut(CUT):
        alone = outcome(path)
        with shared_out(workers):
            assert in_order(outcome(path)) == in_order(alone)


@settings(deadline=None)
@given(content=files(), count=st.integers(1, 5))
def test_spans_hold_the_very_blocks_of_the_whole_file(put: Any, cut: Any, content: bytes, count: int) -> None:
    path = put("spans.jsonl", content)
    with cut(CUT), path.open("rb") as file:
        found = spans(file, len(content), count)
        assert 1 <= len(found) <= count
        assert [span.start for span in found[1:]] == [span.stop for span in found[:-1]]
        assert b"".join(b"".join(span.chunks(file)) for span in found) == content
        if not content.startswith(b"\xff\xfe"):
            together = [block for span in found for block in _line_blocks(file, span)]
            assert together == _line_blocks(file, blocks.WHOLE)


def _line_blocks(file: Any, span: blocks.Span) -> list[bytes]:
    return list(blocks.LineBlocks(file, None, carriage_returns=False, span=span))


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b"\xff\xfe", b"\xff\xfe\x00\x00"])
def test_a_mark_is_one_at_the_start_of_the_file_alone(put: Any, cut: Any, mark: bytes) -> None:
    content = b"{}\n" + (mark + b"{}\n") * 60
    with cut(CUT), put("marks.jsonl", content).open("rb") as file:
        found = spans(file, len(content), 3)
        assert len(found) == 3
        assert b"".join(b"".join(_line_blocks(file, span)) for span in found) == content


def test_a_line_longer_than_may_be_is_found_where_it_begins(put: Any, short_records: int) -> None:
    path = put("long.jsonl", b'{"a": "b"}\n' * 50 + b'{"a": "' + b"x" * short_records * 4 + b'"}\n' + b"{}\n" * 99)
    alone = outcome(path)
    assert isinstance(alone, tuple)
    assert alone[1] == 51
    with shared_out(4) as counts:
        assert outcome(path) == alone
    assert counts


def many(put: Callable[..., Path], rows: list[dict[str, Any]]) -> Path:
    return put("many.jsonl", b"\n".join(map(orjson.dumps, rows)))


def test_it_is_really_shared_out_and_so_is_the_second_reading(put: Any, cut: Any) -> None:
    rows = [{"text": f"only {number}"} for number in range(20)]
    rows += [{"text": f"and {number}", "label": "sure"} for number in range(90)]
    with cut(CUT), shared_out(3) as counts:
        found = outcome(many(put, rows))
    assert isinstance(found, Inspection)
    assert (found.kind, found.statistics["examples"], found.statistics["labels"]) == (
        "classification",
        90,
        {"sure": 90},
    )
    assert found.faults["count"] == 20
    assert counts == [3, 3]


@pytest.mark.parametrize("broken", range(0, 100, 9))
def test_the_first_broken_line_is_told_whichever_process_meets_one(put: Any, cut: Any, broken: int) -> None:
    lines = [b'{"text": "a"}'] * 100
    lines[broken] = b'{"text": "a"'
    lines[99] = b'{"text": "\xe9"}'
    with cut(CUT), shared_out(4):
        found = outcome(put("broken.jsonl", b"\n".join(lines)))
    assert isinstance(found, tuple)
    assert found[1] == (100 if broken == 99 else broken + 1)
    assert found[0].startswith(f"Line {found[1]} is not valid")


def test_faults_keep_their_lines_and_the_first_hundred_are_told(put: Any, cut: Any) -> None:
    lines = [b'{"text": "a"}', b"", b"7"] * 130
    with cut(CUT), shared_out(4) as counts:
        found = outcome(put("faults.jsonl", b"\r\n".join(lines)))
    assert isinstance(found, Inspection)
    assert found.faults["count"] == 130
    assert [fault["line"] for fault in found.faults["first"]] == list(range(3, 303, 3))
    assert counts == [4]


def test_repetitions_across_ranges_are_counted_in_memory_and_on_disk(
    put: Any, cut: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"text": f"row {number % 70}"} for number in range(300)]
    path = many(put, rows)
    before = set(path.parent.iterdir())
    for in_memory in (1000, 40, 4):
        monkeypatch.setattr(ranges, "IN_MEMORY", in_memory)
        with cut(CUT), shared_out(4):
            found = outcome(path)
        assert isinstance(found, Inspection)
        assert (found.statistics["duplicates"], found.statistics["duplicates_exact"]) == (230, True)
    assert set(path.parent.iterdir()) == before


@pytest.mark.parametrize("limit", [99, 100, 101])
def test_labels_are_complete_by_the_same_rule(put: Any, cut: Any, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(measure, "_DISTINCT_LABELS", limit)
    path = many(put, [{"text": "a", "label": f"{number % 100}"} for number in range(200)])
    with cut(CUT):
        alone = outcome(path)
        with shared_out(3):
            assert in_order(outcome(path)) == in_order(alone)
    assert isinstance(alone, Inspection)
    assert alone.statistics["distinct_labels"] == (100 if limit >= 100 else None)


def test_where_columns_are_too_many_to_count_one_process_counts_them(
    put: Any, cut: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "MAX_COLUMNS", 50)
    rows = [{f"column {number}": "a"} for number in (*range(80), *range(80))]
    path = many(put, rows)
    with cut(CUT):
        alone = outcome(path)
        with shared_out(2):
            assert in_order(outcome(path)) == in_order(alone)
    assert isinstance(alone, Inspection)
    assert alone.statistics["field_characters"] == {f"column {number}": 2 for number in range(50)}


def test_a_mapping_that_is_given_counts_everywhere(put: Any, cut: Any) -> None:
    path = many(put, [{"question": "a", "answer": "b", "text": "c"} for _ in range(60)])
    for mapping in ({"text": "text"}, {"prompt": "question", "completion": "answer"}, {"text": "none"}):
        with cut(CUT):
            alone = outcome(path, mapping=mapping)
            with shared_out(3):
                assert in_order(outcome(path, mapping=mapping)) == in_order(alone)


def test_other_encodings_formats_and_small_files_are_read_by_one_process(put: Any, cut: Any) -> None:
    text = '{"text": "é"}\n' * 50
    with cut(CUT), shared_out(4) as counts:
        found = outcome(put("latin.jsonl", text.encode("latin-1")), encoding="latin-1")
        assert isinstance(found, Inspection)
        rows = put("rows.csv", "text\n" + "a\n" * 99)
        assert inspect_file(rows, file_format=FileFormat.CSV).row_count == 99
        ranges.LARGE = 10_000
        assert isinstance(outcome(put("small.jsonl", text)), Inspection)
    assert counts == []


def test_a_file_of_eight_megabytes_is_shared_out_among_the_cores(put: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(3)))
    path = put(
        "large.jsonl", b"".join(b'{"text": "%07d %s"}\n' % (number % 9000, b"x" * 980) for number in range(9000))
    )
    found = ranges._pieces(path, FileFormat.JSONL, None)
    assert len(found) == (3 if forks.width() == 3 else 1)
    alone = outcome(path)
    with shared_out(2) as counts:
        assert in_order(outcome(path)) == in_order(alone)
    assert counts == [2]


def test_a_process_that_is_killed_is_no_answer(put: Any, cut: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Duplicates, "collected", lambda _: os.kill(os.getpid(), 9))
    with cut(CUT), shared_out(2), pytest.raises(forks.Lost):
        outcome(many(put, [{"text": "a"}] * 50))


def test_a_full_disk_is_told(put: Any, cut: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Duplicates) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Duplicates, "_spill", full)
    monkeypatch.setattr(ranges, "IN_MEMORY", 4)
    with cut(CUT), shared_out(2), pytest.raises(OSError, match="No space left on device"):
        outcome(many(put, [{"text": f"{number}"} for number in range(50)]))
