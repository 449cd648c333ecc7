"""`slm chat` and `slm predict` as a person and a script use them, against a real service and a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from service import BACKEND, Service, rows, running

pytestmark = pytest.mark.e2e
SAMPLED = ("--temperature", "1", "--seed", "3", "--max-new-tokens", "8")
Slm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("using")) as found:
        found.base()
        yield found


@pytest.fixture
def slm(service: Service, tmp_path: Path) -> Slm:
    environment = {**service.environment(), "SLM_API_URL": service.url, "PYTHONPATH": str(BACKEND), "COLUMNS": "120"}

    def call(*arguments: str, code: int = 0, given: str | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", *arguments],
            cwd=tmp_path, env=environment, input=given, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    return call


def test_one_question_one_answer(service: Service, slm: Slm) -> None:
    said = slm("chat", "tiny-llama", "red one?", *SAMPLED)
    document = json.loads(slm("chat", "tiny-llama", "red one?", *SAMPLED, "--json").stdout)
    assert said.stdout == document["text"] + "\n"
    assert "cut off after 8 tokens" in said.stderr
    piped = slm("chat", "tiny-llama", *SAMPLED, given="red one?\n")
    assert piped.stdout == said.stdout
    other = slm("chat", "tiny-llama", "red one?", "--system", "Be kind, always and to everyone.", *SAMPLED, "--json")
    assert json.loads(other.stdout)["usage"]["prompt_tokens"] != document["usage"]["prompt_tokens"]


def test_what_cannot_be_answered_is_told_with_its_code(slm: Slm) -> None:
    assert "POST /models/" in slm("chat", "GPT-2 Small", "Hello", code=4).stderr
    assert "There is no model" in slm("chat", "nothing at all", "Hello", code=4).stderr
    assert "nothing to ask" in slm("chat", "tiny-llama", given=" \n", code=2).stderr


def test_a_file_is_answered_into_a_file(slm: Slm, tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps({"question": row["prompt"]}) + "\n" for row in rows(5)) + '{"question": ""}\n')
    said = slm("predict", "tiny-llama", str(path), "-o", "answers.jsonl", "--max-new-tokens", "3")
    assert "answers.jsonl: 5 of 6 rows answered, 1 could not be answered" in said.stdout
    assert "reads asked" in said.stderr
    found = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [line["question"] for line in found] == [row["prompt"] for row in rows(5)] + [""]
    document = json.loads(slm("predict", "tiny-llama", "asked", "--max-new-tokens", "3", "--json").stdout)
    assert document["rows"] == 6
    assert Path(tmp_path / document["path"]).is_file()


def test_data_that_do_not_say_what_is_asked(slm: Slm, tmp_path: Path) -> None:
    path = tmp_path / "two.csv"
    path.write_text("a,b\nred,blue\n")
    assert "Which of its columns is asked" in slm("predict", "tiny-llama", str(path), code=4).stderr
    assert "1 of 1 rows" in slm("predict", "tiny-llama", "two", "--mapping", "text=a", "--max-new-tokens", "2").stdout
