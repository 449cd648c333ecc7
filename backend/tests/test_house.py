"""The norms that no linter knows: sizes, broad excepts, leftovers, secrets of a machine."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = [
    path
    for folder in ("backend/app", "backend/slm", "backend/bench", "client/slm_client", "examples", "docs")
    for path in sorted((ROOT / folder).rglob("*.py"))
] + [path for path in sorted((ROOT / "work").rglob("*.py")) if "tests" not in path.parts]
TESTS = [
    path for folder in ("backend/tests", "client/tests", "work/tests") for path in sorted((ROOT / folder).rglob("*.py"))
]
MODULE, FUNCTION, TEST_MODULE = 400, 80, 600
BROAD = {
    "backend/app/supervisor.py": 1,  # one run's trouble must not end the watch over the others
    "backend/slm/run.py": 1,  # the top of the process: every reason must reach the log
    "backend/app/database.py": 2,  # whatever a closure raises is handed to its caller
    "backend/slm/generate.py": 1,  # raised again once PEFT has taken its hooks off
    "backend/slm/serve.py": 1,  # a generating thread that died alone would leave every asker waiting
    "backend/slm/warm.py": 1,  # nothing may run on in a forked child
    "backend/app/routes/datasets.py": 1,  # the file is taken back whatever happened, and the error goes on
}


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_lists_are_not_empty() -> None:
    assert len(SOURCE) > 90
    assert len(TESTS) > 20


@pytest.mark.parametrize("path", SOURCE, ids=name)
def test_modules_and_functions_keep_their_size(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MODULE or "migrations/versions" in name(path)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and "migrations/versions" not in name(path):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_test_modules_keep_their_size(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= TEST_MODULE


def test_broad_excepts_are_the_known_ones() -> None:
    found = {}
    for path in SOURCE:
        handlers = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ExceptHandler)]
        broad = [
            handler
            for handler in handlers
            if handler.type is None
            or (isinstance(handler.type, ast.Name) and handler.type.id in {"Exception", "BaseException"})
        ]
        if broad:
            found[name(path)] = len(broad)
    assert found == BROAD


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def test_nothing_unfinished_and_no_machine_is_named() -> None:
    unfinished = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")
    machine = re.compile(r"/(?:home|root|Users|work)/\w+/")
    for path in tracked():
        if path.suffix in {".py", ".md", ".sh", ".toml", ".txt", ".bat", ".example", ".yml"}:
            text = path.read_text(encoding="utf-8")
            assert not unfinished.search(text), name(path)
            assert not machine.search(text), f"{name(path)}: {machine.search(text)}"


def test_scripts_hold_only_plain_shell() -> None:
    for script in ("demo.sh", "test.sh", "backend/run.sh", "work/run.sh", ".ci/run"):
        text = (ROOT / script).read_text()
        assert text.startswith("#!/usr/bin/env bash\n")
        assert "set -euo pipefail" in text
