"""The bundled data are what their pages say: generated, repeatable, and disjoint where it matters."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from slm.data.inspection import inspect_file
from slm.spec import FileFormat

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
GENERATORS = {
    "make_tickets": ("tickets-train.csv", "tickets-eval.csv"),
    "make_topics": ("topics-train.csv", "topics-eval.csv"),
    "make_library_chat": ("library-train.jsonl", "library-eval.jsonl"),
    "make_replies": ("replies-train.jsonl", "replies-eval.jsonl"),
}


def generator(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(EXAMPLES))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(EXAMPLES))
    return module


def read(name: str) -> list[dict[str, Any]]:
    if name.endswith(".jsonl"):
        return [json.loads(line) for line in (EXAMPLES / name).read_text(encoding="utf-8").splitlines()]
    with (EXAMPLES / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]+", text.casefold()))


@pytest.mark.parametrize("script", GENERATORS)
def test_the_files_are_what_the_script_makes(script: str, tmp_path: Path) -> None:
    for name in (script, "writing"):
        shutil.copy(EXAMPLES / f"{name}.py", tmp_path)
    done = subprocess.run([sys.executable, tmp_path / f"{script}.py"], check=True, capture_output=True, text=True)
    for name, line in zip(GENERATORS[script], done.stdout.splitlines(), strict=True):
        assert line == f"{tmp_path / name}: {len(read(name))} rows"
        assert (tmp_path / name).read_bytes() == (EXAMPLES / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "kind", "rows"),
    [
        ("tickets-train.csv", "prompt_completion", 240),
        ("tickets-eval.csv", "prompt_completion", 64),
        ("topics-train.csv", "classification", 240),
        ("topics-eval.csv", "classification", 100),
        ("library-train.jsonl", "messages", 140),
        ("library-eval.jsonl", "messages", 40),
        ("replies-train.jsonl", "preference", 120),
        ("replies-eval.jsonl", "preference", 40),
    ],
)
def test_every_row_is_understood_and_none_stands_twice(name: str, kind: str, rows: int) -> None:
    found = inspect_file(EXAMPLES / name, file_format=FileFormat(name.rpartition(".")[2]))
    assert (found.kind, found.row_count) == (kind, rows)
    assert found.faults["count"] == found.statistics["duplicates"] == 0


def test_every_ticket_is_answered_by_json_that_it_supports() -> None:
    for name in GENERATORS["make_tickets"]:
        for row in read(name):
            answer = json.loads(row["completion"])
            assert set(answer) == {"name", "product", "issue", "priority"}
            assert answer["name"] in row["prompt"]
            assert answer["product"] in row["prompt"]
            assert answer["issue"] in {"broken", "late", "refund", "login"}
            assert answer["priority"] in {"normal", "high"}


def test_no_held_out_ticket_is_known_from_training() -> None:
    train = "\n".join(row["prompt"] + row["completion"] for row in read("tickets-train.csv")).casefold()
    module = generator("make_tickets")
    for row in read("tickets-eval.csv"):
        answer = json.loads(row["completion"])
        assert answer["product"].casefold() not in train
        for part in answer["name"].split():
            assert f"{part.casefold()} " not in train
    for pool_field in ("openings", "closings"):
        assert set(getattr(module.EVAL, pool_field)).isdisjoint(getattr(module.TRAIN, pool_field))
    for kind in ("issues", "priorities"):
        ours, theirs = getattr(module.EVAL, kind), getattr(module.TRAIN, kind)
        assert all(set(ours[key]).isdisjoint(theirs[key]) for key in ours)
    assert module.INSTRUCTION.casefold() in train


def test_no_word_that_tells_a_topic_is_in_both_files() -> None:
    module = generator("make_topics")
    known = words(" ".join(word for group in module.TRAIN.values() for word in group))
    asked = words(" ".join(word for group in module.EVAL.values() for word in group)) - {"of"}
    assert known.isdisjoint(asked)
    assert words(" ".join(row["text"] for row in read("topics-train.csv"))).isdisjoint(asked)
    assert set(module.TRAIN_FRAMES).isdisjoint(module.EVAL_FRAMES)
    labels = [row["label"] for row in read("topics-eval.csv")]
    assert {label: labels.count(label) for label in labels} == dict.fromkeys(module.TRAIN, 20)


def test_the_library_is_asked_for_the_same_facts_in_other_words() -> None:
    module = generator("make_library_chat")
    facts = {fact.answer for fact in module.FACTS}
    for name in GENERATORS["make_library_chat"]:
        turns = [turn for row in read(name) for turn in row["messages"]]
        assert {turn["content"] for turn in turns if turn["role"] == "assistant"} == facts
    for fact in module.FACTS:
        assert set(fact.asked).isdisjoint(fact.asked_otherwise)


def test_no_held_out_reply_is_known_from_training() -> None:
    module = generator("make_replies")
    for field in ("things", "problems", "sorry", "next_step", "cold", "brush_off"):
        assert set(getattr(module.TRAIN, field)).isdisjoint(getattr(module.EVAL, field))
    known = {text for row in read("replies-train.jsonl") for text in row.values()}
    assert all(known.isdisjoint(row.values()) for row in read("replies-eval.jsonl"))
