"""Tasks of the lm-evaluation-harness from local files, without the network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_models import base_folder, make_run, make_spec, task_rows, write_rows

from slm import harness, run
from slm.spec import ModelRef

TASK = """task: colours
dataset_path: json
dataset_kwargs:
  data_files: colours.jsonl
test_split: train
output_type: multiple_choice
doc_to_text: "{{question}}"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task file, its data, and a model."""
    pytest.importorskip("lm_eval", reason="an extra")
    made = tmp_path_factory.mktemp("harness")
    (made / "colours.yaml").write_text(TASK)
    rows = [{"question": f"Which animal is {name}?", "choices": [" cat", " dog"], "answer": n % 2}
            for n, name in enumerate(["red", "green", "blue", "one", "two", "three"])]  # fmt: skip
    (made / "colours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    base_folder(made)
    return made


def slm_harness(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """From another folder than the task's, with no route to anywhere."""
    environment = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-m", "slm.harness", *arguments], cwd=Path(harness.__file__).parents[1],
        env={**os.environ, **environment, "HF_HOME": str(folder / "hub")}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_a_local_task_is_scored_offline(folder: Path) -> None:
    done = slm_harness(folder, str(folder / "tiny-llama"), "--tasks", str(folder / "colours.yaml"), "--json")
    found = json.loads(done.stdout)
    assert found["colours"]["rows"] == 6
    assert found["colours"]["shots"] == 0
    score = found["colours"]["metrics"]["acc"]
    assert score["value"] * 6 == pytest.approx(round(score["value"] * 6))
    assert score["stderr"] > 0


def test_adapters_are_merged_first_and_the_same_seed_says_the_same(folder: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "rows.jsonl", task_rows(40))
    directory = make_run(
        tmp_path / "run", make_spec(folder / "tiny-llama", data, max_steps=1, learning_rate=1e-2, eval_fraction=0.0)
    )
    assert run.main(directory) == run.FINISHED
    adapter = str(directory / "artifacts" / "adapter")
    model = ModelRef(model_id="m", name="m", path=str(folder / "tiny-llama"), adapters=(adapter,))
    tasks = [str(folder / "colours.yaml")]
    first, second = (harness.evaluate(model, tasks, limit=4) for _ in range(2))
    assert first == second
    assert first["colours"]["rows"] == 4


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ("hellaswag", "needs its data from a hub: --online"),
        ("gone.yaml", "There is no task file gone.yaml"),
    ],
)
def test_what_cannot_be_run_is_said_in_a_sentence(folder: Path, tasks: str, words: str) -> None:
    model = ModelRef(model_id="m", name="m", path=str(folder / "tiny-llama"))
    with pytest.raises(harness.Refused, match=words):
        harness.evaluate(model, [tasks])


def test_task_files_without_a_name_or_data(folder: Path, tmp_path: Path) -> None:
    model = ModelRef(model_id="m", name="m", path=str(folder / "tiny-llama"))
    nameless = tmp_path / "nameless.yaml"
    nameless.write_text("output_type: multiple_choice\n")
    with pytest.raises(harness.Refused, match="names no task"):
        harness.evaluate(model, [str(nameless)])
    (tmp_path / "colours.yaml").write_text(TASK)
    with pytest.raises(harness.Refused, match="could not be run"):
        harness.evaluate(model, [str(tmp_path / "colours.yaml")])


def test_the_harness_is_an_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "find_spec", lambda name: None)
    with pytest.raises(harness.Refused, match=r"pip install 'slm-platform\[eval\]'"):
        harness.evaluate(ModelRef(model_id="m", name="m", path=str(folder)), ["x.yaml"])


def test_its_numbers_become_plain_ones() -> None:
    answer = {
        "results": {"t": {"alias": "t", "acc,none": np.float64(0.5), "acc_stderr,none": "N/A", "sample_len": 3,
                          "exact_match,strict": 1.0, "exact_match_stderr,strict": float("nan")}},
        "n-samples": {"t": {"original": 9, "effective": 3}}, "n-shot": {"t": 2},
    }  # fmt: skip
    found = harness.plain(answer)
    assert json.loads(json.dumps(found, allow_nan=False)) == found == {
        "t": {
            "metrics": {
                "acc": {"value": 0.5, "stderr": None}, "exact_match (strict)": {"value": 1.0, "stderr": None}
            },
            "rows": 3,
            "shots": 2,
        }
    }  # fmt: skip
