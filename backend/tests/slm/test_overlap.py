"""Rows that were learned from are found, whatever their dress; rows that only share an instruction are not."""

from __future__ import annotations

import json
import random
import string
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm import overlap
from slm.data.examples import Classification, Example, Message, Messages, Preference, PromptCompletion, Text
from slm.overlap import Match, Numbered, find
from slm.spec import DatasetKind, DatasetRef, FileFormat

BACKEND = Path(overlap.__file__).resolve().parent.parent


def texts(*rows: str) -> list[Numbered]:
    return [(line, Text(text)) for line, text in enumerate(rows, 1)]


def prose(seed: int, words: int = 40) -> str:
    """Words that nobody else draws."""
    dice = random.Random(seed)
    return " ".join("".join(dice.choices(string.ascii_lowercase, k=7)) for _ in range(words))


def test_each_row_counts_once_by_its_strictest_kind() -> None:
    training = texts("The cat sat.", prose(1), "Something else.")
    found = find(training, texts("The cat sat.", "the  CAT, sat!", "A dog.", f"Today {prose(1)} indeed"))
    assert found.matches == (Match(1, 1, "exact"), Match(2, 1, "normalised"), Match(4, 2, "near"))
    assert found.lines == {1, 2, 4}
    document = found.as_document()
    assert (document["exact"], document["normalised"], document["near"]) == (1, 1, 1)
    assert (document["rows"], document["share"]) == (4, 0.75)
    assert document["examples"][0] == {"row": 1, "training_row": 1, "kind": "exact"}


def test_a_text_that_is_written_normalised_already_is_not_called_exact() -> None:
    assert find(texts("Hello!"), texts("hello")).matches == (Match(1, 1, "normalised"),)
    assert find(texts("hello"), texts("Hello!")).matches == (Match(1, 1, "normalised"),)


@pytest.mark.parametrize(
    ("training", "evaluation"),
    [
        ("ﬁne Café №1", "fine Café no1"),  # ligature, decomposed accent, compatibility sign
        ("ＡＢＣ１２３", "abc123"),  # full-width forms
        ("Straße", "STRASSE"),
        ("«Да», — сказал он.", "да сказал он"),
        ("हिन्दी भाषा।", "हिन्दी भाषा"),
        ("你好,世界!", "你好世界"),
    ],
)
def test_unicode_is_compared_by_meaning(training: str, evaluation: str) -> None:
    assert find(texts(training), texts(evaluation)).matches == (Match(1, 1, "normalised"),)


@pytest.mark.parametrize(("one", "other"), [("!!!", "???"), ("कि", "की"), ("a b", "a c"), ("1 2", "12")])
def test_different_texts_stay_different(one: str, other: str) -> None:
    assert not find(texts(one), texts(other)).matches


@given(st.lists(st.text("abcdeXYZé", min_size=1, max_size=6), min_size=1, max_size=30), st.randoms())
@settings(max_examples=60, deadline=None)
def test_case_space_and_punctuation_never_hide_a_row(words: list[str], dice: random.Random) -> None:
    dressed = dice.choice(["", " ", "... ", "\n"]) + "".join(
        dice.choice([word, word.upper(), word.casefold()]) + dice.choice([" ", ", ", "\t", " -- ", "! "])
        for word in words
    )
    found = find(texts("unrelated", " ".join(words)), texts(dressed))
    assert [(match.training_row, match.kind in {"exact", "normalised"}) for match in found.matches] == [(2, True)]


def test_thirteen_words_in_common_are_near_and_twelve_are_not() -> None:
    shared = prose(2, 13).split()
    row = f"{prose(3, 5)} {' '.join(shared)} {prose(4, 5)}"
    assert find(texts(" ".join(shared)), texts(row)).matches == (Match(1, 1, "near"),)
    assert not find(texts(" ".join(shared[:12])), texts(row)).matches


def test_one_changed_word_does_not_hide_a_long_row() -> None:
    words = prose(5, 30).split()
    changed = " ".join([*words[:20], "other", *words[21:]])
    assert find(texts(" ".join(words)), texts(changed)).matches == (Match(1, 1, "near"),)


@pytest.mark.parametrize("rows", [3, 11, 40])
def test_an_instruction_that_every_row_repeats_is_no_overlap(rows: int) -> None:
    """Nor do the instruction's last words and the first of the row make one."""
    instruction = prose(6, 30)
    opening = "Dear Sir or Madam"
    training = texts(*(f"{instruction} {opening} {prose(100 + row, 20)}" for row in range(rows)))
    fresh = texts(f"{instruction} {opening} {prose(7, 20)}")
    assert not find(training, fresh).matches
    repeated = texts(f"{instruction} {opening} {prose(101, 20)} by the way")
    assert find(training, repeated).matches == (Match(1, 2, "near"),)


def test_a_long_text_without_spaces_has_phrases_too() -> None:
    sentence = "今日は天気がいいから散歩しましょうと友達が言いました"
    assert find(texts(f"はい、{sentence}。"), texts(f"「{sentence}」そう")).matches == (Match(1, 1, "near"),)


@pytest.mark.parametrize(
    ("example", "text"),
    [
        (Classification("a text", "spam"), "a text"),
        (PromptCompletion("p", "c"), "p\nc"),
        (Messages((Message("user", "p"), Message("assistant", "c"))), "p\nc"),
        (Preference((Message("user", "p"),), "good", "bad"), "p\ngood\nbad"),
        (Text("t"), "t"),
    ],
)
def test_what_is_compared_of_each_kind(example: Example, text: str) -> None:
    assert overlap.text_of(example) == text


def test_the_same_question_as_pair_and_as_conversation_is_the_same() -> None:
    pair: list[Numbered] = [(1, PromptCompletion("2 + 2?", "4"))]
    talk: list[Numbered] = [(9, Messages((Message("user", "2 + 2?"), Message("assistant", "4"))))]
    assert find(pair, talk).matches == (Match(9, 1, "exact"),)


def test_twenty_examples_are_shown_the_strictest_first() -> None:
    rows = [prose(seed, 20) for seed in range(30)]
    found = find(texts(*rows), texts(*(f"{row} more" for row in rows[:25]), *rows[25:])).as_document()
    assert (found["near"], found["exact"], len(found["examples"])) == (25, 5, 20)
    assert [example["kind"] for example in found["examples"][:6]] == ["exact"] * 5 + ["near"]


def test_nothing_to_compare() -> None:
    assert find([], []).as_document()["share"] == 0.0
    assert find(texts("a"), []).rows == 0
    assert find([], texts("a")).as_document() == {
        "exact": 0, "normalised": 0, "near": 0, "rows": 1, "share": 0.0, "examples": []
    }  # fmt: skip


def test_memory_is_bounded_whatever_the_training_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "MOST_WORDS", 2_000)
    evaluation = texts(*(prose(seed, 20) for seed in range(500)))

    def training(rows: int) -> Iterator[Numbered]:
        for line in range(rows):
            yield line, Text(prose(1_000 + line, 20))

    peaks = []
    for rows in (500, 5_000):
        tracemalloc.start()
        found = find(training(rows), evaluation)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert found.rows == 96  # 21 for each row, so that empty rows count too
    assert peaks[1] < peaks[0] * 1.3


def reference(path: Path, kind: DatasetKind | None = DatasetKind.TEXT) -> DatasetRef:
    return DatasetRef(
        dataset_id="d", name="D", path=str(path), file_format=FileFormat.JSONL, sha256="0", row_count=1, kind=kind
    )


def run(training: DatasetRef, evaluation: DatasetRef) -> tuple[int, dict[str, object]]:
    command = [sys.executable, "-m", "slm.overlap", training.model_dump_json(), evaluation.model_dump_json()]
    done = subprocess.run(command, cwd=BACKEND, capture_output=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout)


def test_a_child_process_answers_with_lines_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "one"}\n\n{"text": "two"}\n{"other": 1}\n')
    (tmp_path / "e.jsonl").write_text('{"text": ""}\n{"text": "Two!"}\n')
    code, answer = run(reference(tmp_path / "t.jsonl"), reference(tmp_path / "e.jsonl"))
    found = answer["overlap"]
    assert code == 0
    assert isinstance(found, dict)
    assert found["examples"] == [{"row": 2, "training_row": 3, "kind": "normalised"}]
    assert found["rows"] == 1  # the empty record is a fault, not a row
    code, answer = run(reference(tmp_path / "t.jsonl", None), reference(tmp_path / "e.jsonl"))
    assert (code, answer["ok"]) == (0, True)


def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": ')
    code, answer = run(reference(tmp_path / "t.jsonl"), reference(tmp_path / "gone.jsonl"))
    assert code == 1
    assert str(answer["error"]).startswith("The datasets could not be compared: ")


def test_it_reaches_no_tensor() -> None:
    code = "import sys, slm.overlap; print(sorted({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=BACKEND, text=True).strip() == "[]"
