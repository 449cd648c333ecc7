"""The documentation says what is so: examples are run, generated pages are current, links lead somewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.commands import app as cli
from app.config import Settings
from slm.data.formats import BrokenSyntax
from slm.data.inspection import inspect_file
from slm.data.split import NotSplittable, Source, split_file
from slm.errors import REASONS
from slm.events import TERMINAL
from slm.spec import DatasetKind, FileFormat

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not {".venv", "node_modules", ".git", "data", ".pytest_cache"} & set(path.relative_to(ROOT).parts)
)
FORMATS = (ROOT / "docs/data-formats.md").read_text(encoding="utf-8")
GOOD = re.findall(r"## ([^\n]+)\n\n[^\n]+\n\n```(\w+) good\n(.*?)```", FORMATS, re.DOTALL)
BAD = re.findall(r"```(\w+) bad\n(.*?)```\n\n> ([^\n]+)", FORMATS, re.DOTALL)


def test_generated_pages_are_what_the_code_says() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_examples_of_data_formats_are_found() -> None:
    assert len(GOOD) == len(BAD) == 8


@pytest.mark.parametrize(("title", "ending", "content"), GOOD, ids=[found[0] for found in GOOD])
def test_good_files_are_understood(title: str, ending: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / f"file.{ending}"
    path.write_text(content)
    found = inspect_file(path, file_format=FileFormat(ending))
    assert found.kind is not None, title
    assert found.faults["count"] == 0
    assert found.statistics["examples"] == found.row_count > 0


def sentence(path: Path, file_format: FileFormat) -> str:
    """What a person is told about the file's first fault."""
    try:
        fault = inspect_file(path, file_format=file_format).faults["first"][0]
    except BrokenSyntax as broken:
        return str(broken)
    return f"Line {fault['line']}: {fault['message']}"


@pytest.mark.parametrize(("ending", "content", "message"), BAD, ids=[found[2][:40] for found in BAD])
def test_bad_files_get_the_very_sentence(ending: str, content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / f"file.{ending}"
    path.write_text(content)
    assert sentence(path, FileFormat(ending)) == message


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_gets_the_very_sentence(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_bytes("text,label\nWo für,Frage\n".encode(encoding))
    assert f"> {sentence(path, FileFormat.CSV)}\n" in FORMATS


def test_a_split_that_cannot_be_gets_the_very_sentence(tmp_path: Path) -> None:
    path = tmp_path / "same.jsonl"
    path.write_text('{"text": "a"}\n' * 3)
    source = Source(path, FileFormat.JSONL, DatasetKind.TEXT, {"text": "text"})
    with pytest.raises(NotSplittable) as refused:
        split_file(source, tmp_path / "rest", tmp_path / "part", fraction=0.1, seed=1, stratify=False)
    assert f"> {refused.value}\n" in FORMATS


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{target} in {page.name}"


def test_every_setting_command_reason_and_event_is_documented() -> None:
    everything = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    commands = [command.name or command.callback.__name__ for command in cli.registered_commands if command.callback]
    events = ["started", "phase", "prepared", "step", "evaluated", "checkpointed", "warned", *TERMINAL]
    settings = [name.upper() for name in Settings.model_fields]
    wanted = [*settings, *REASONS, *(f"slm {name.rstrip('_')}" for name in commands)]
    assert [name for name in wanted if name not in everything] == []
    life = (ROOT / "docs/life-of-a-run.md").read_text(encoding="utf-8")
    assert [name for name in events if f"| `{name}` |" not in life] == []


def test_the_tests_that_the_crash_table_names_exist() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "backend/tests/e2e").glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", (ROOT / "docs/life-of-a-run.md").read_text(encoding="utf-8"))
    assert len(named) > 8
    assert [name for name in named if f"def {name}(" not in tests] == []
