"""`slm preview` and `slm plan` as a person and a script use them, against a real service with tiny weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from service import BACKEND, Service, rows, running

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("preview")) as found:
        found.base()
        yield found


def slm(service: Service, *arguments: str, code: int = 0) -> str:
    environment = {**os.environ, "SLM_API_URL": service.url, "PYTHONPATH": os.environ.get("PYTHONPATH", str(BACKEND))}
    command = [sys.executable, "-m", "app.cli", *arguments]
    done = subprocess.run(command, cwd=BACKEND, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def test_a_file_is_shown_as_it_would_be_learned(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "colours.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows(5), {"prompt": "long?", "completion": "x " * 80}]))
    said = slm(service, "preview", str(path), "--max-length", "64", "--rows", "2", "--offset", "4")
    assert "colours as tiny-llama would learn it (sft, at most 64 tokens a row)" in said
    assert "assistant\n⟦number<|im_end|>⟧" in said
    assert "✂" in said
    assert "6 rows: 6 learned from, 0 not, 1 cut" in said
    assert "17 % of rows exceed 64 tokens; the end of the answer is lost in 1 row." in said
    assert "\x1b" not in said


def test_a_script_gets_the_very_answer(service: Service) -> None:
    dataset = service.upload(rows(4), name="four")
    found = json.loads(slm(service, "preview", dataset, "--model", "tiny-llama", "--max-length", "64", "--json"))
    assert found["rows_total"] == 4
    assert [example["line"] for example in found["examples"]] == [1, 2, 3, 4]
    assert (
        found
        == service.client.datasets.preview(dataset, base_model_id=found["base_model_id"], max_length=64, limit=5).wire
    )


def test_what_is_refused_is_a_sentence(service: Service) -> None:
    service.upload(rows(4), name="colours of four")
    said = slm(service, "preview", "colours of four", "--model", "gpt-2 small", code=4)
    assert "not on this machine" in said
    assert "slm pull" in said
    assert "There is no file" in slm(service, "preview", "nowhere.csv", code=2)


def test_a_plan_says_what_it_takes_and_why(service: Service) -> None:
    dataset = service.upload(rows(60), name="sixty")
    command = ("plan", "--data", dataset, "--model", "tiny-llama", "--epochs", "2", "--max-length", "64")
    said = slm(service, *command, "--set", "early_stopping_patience=null", "--set", "dpo_beta=0.2")
    assert "tiny-llama on sixty: sft with lora. Trains on this machine" in said
    assert "learned from 54 rows, scored on 6" in said
    assert [line.split() for line in said.splitlines() if line.startswith("steps")] == [["steps", "14", "formula"]]
    assert [line.split()[:2] for line in said.splitlines() if line.startswith(("epochs", "max_length"))] == [
        ["epochs", "2.0"], ["max_length", "64"],
    ]  # fmt: skip
    assert [line.split() for line in said.splitlines() if line.startswith(("early", "dpo"))] == [
        ["early_stopping_patience", "–", "as", "asked", "for"], ["dpo_beta", "0.2", "as", "asked", "for"],
    ]  # fmt: skip
    tokens = next(line.split() for line in said.splitlines() if line.startswith("tokens"))
    assert tokens[3] == "–"
    assert int(tokens[2].replace(",", "")) < int(tokens[1].replace(",", "")) < int(tokens[4].replace(",", ""))
    assert "usual for sft with lora" in said
    assert service.client.experiments.list() == []


def test_a_plan_for_a_script_and_what_is_refused(service: Service) -> None:
    dataset = service.upload(rows(60), name="more of sixty")
    command = ("plan", "--data", dataset, "--eval", dataset, "--model", "tiny-llama")
    found = json.loads(slm(service, *command, "--json"))
    assert (found["steps"]["basis"], found["overlap"]["exact"]) == ("formula", 60)
    base = found["training_config"]
    assert (
        found
        == service.client.experiments.plan(
            base_model_id=service.base(), training_dataset_id=dataset, eval_dataset_id=dataset
        ).wire
    )
    assert base["method"] == "sft"
    assert "classify" in slm(service, *command, "--method", "classify", code=4)
