"""The bundled data are what their page says: generated, repeatable, and disjoint where it matters."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_tickets", EXAMPLES / "make_tickets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["make_tickets"] = module
    spec.loader.exec_module(module)
    return module


def read(name: str) -> list[dict[str, str]]:
    with (EXAMPLES / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_answer_is_json_that_the_ticket_supports() -> None:
    for name, count in (("tickets-train.csv", 240), ("tickets-eval.csv", 64)):
        rows = read(name)
        assert len(rows) == count
        for row in rows:
            answer = json.loads(row["completion"])
            assert set(answer) == {"name", "product", "issue", "priority"}
            assert answer["name"] in row["prompt"]
            assert answer["product"] in row["prompt"]
            assert answer["issue"] in {"broken", "late", "refund", "login"}
            assert answer["priority"] in {"normal", "high"}


def test_nothing_of_the_held_out_file_occurs_in_training() -> None:
    train = "\n".join(row["prompt"] + row["completion"] for row in read("tickets-train.csv")).casefold()
    module = generator()
    instruction = module.INSTRUCTION
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
    assert instruction.casefold() in train


def test_the_files_are_what_the_script_makes(tmp_path: Path) -> None:
    import shutil
    import subprocess
    import sys

    shutil.copy(EXAMPLES / "make_tickets.py", tmp_path)
    subprocess.run([sys.executable, tmp_path / "make_tickets.py"], check=True, capture_output=True)
    for name in ("tickets-train.csv", "tickets-eval.csv"):
        assert (tmp_path / name).read_bytes() == (EXAMPLES / name).read_bytes()
