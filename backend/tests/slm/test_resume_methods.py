"""Each method's training, killed with -9 in the middle of an epoch, goes on to the very curve and weights."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tiny_models import (
    base_folder,
    encoder_folder,
    events_of,
    label_rows,
    make_run,
    make_spec,
    outcome,
    task_rows,
    write_rows,
)

from slm import run
from slm.spec import DatasetKind, TrainSpec

BACKEND = Path(__file__).resolve().parents[2]
KILLED_AFTER = 7
"""Of 12 steps in 2 epochs: one micro-batch into a step of the second epoch."""
KILLER = """
import os, signal, sys
from pathlib import Path
from slm import run
from slm.train import loop

learns = loop.Loop.training_step

def until_killed(self, *arguments, **keywords):
    if self.progress.step == 7 and self._micro_step == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return learns(self, *arguments, **keywords)

loop.Loop.training_step = until_killed
for directory in sys.argv[1:]:  # one process imports, its children die
    child = os.fork()
    if child == 0:
        os._exit(run.main(Path(directory)))
    print(os.WTERMSIG(os.waitpid(child, 0)[1]))
"""


@dataclass(frozen=True)
class Case:
    base: Callable[[Path], Path]
    rows: list[dict[str, Any]]
    kind: DatasetKind
    config: dict[str, Any]


PAIRS = [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": "two three"} for row in task_rows(53)]
TEXTS = [{"text": f"{row['prompt']} {row['completion']} and so on"} for row in task_rows(53)]
CASES = {
    "classify with lora": Case(encoder_folder, label_rows(53), DatasetKind.CLASSIFICATION, {"adapter": "lora"}),
    "classify in full": Case(encoder_folder, label_rows(53), DatasetKind.CLASSIFICATION, {"adapter": "full"}),
    "mask in full": Case(encoder_folder, label_rows(53), DatasetKind.CLASSIFICATION, {"method": "mask"}),
    "pretrain packed": Case(
        base_folder,
        TEXTS,
        DatasetKind.TEXT,
        {"method": "pretrain", "packing": True, "max_length": 40, "batch_size": 4, "per_device_train_batch_size": 2},
    ),
    "pretrain from scratch": Case(
        base_folder, TEXTS, DatasetKind.TEXT, {"method": "pretrain", "from_scratch": True, "max_length": 32}
    ),
    "dpo with lora": Case(base_folder, PAIRS, DatasetKind.PREFERENCE, {"adapter": "lora", "max_length": 48}),
    "dpo in full": Case(base_folder, PAIRS, DatasetKind.PREFERENCE, {"adapter": "full", "max_length": 48}),
}
"""53 rows, 5 of them held out, make 6 steps an epoch; so do 24 packed sequences, four a step."""


def make(tmp_path: Path, case: Case, name: str) -> tuple[Path, TrainSpec]:
    base = tmp_path / "base"
    if not base.is_dir():
        case.base(tmp_path).rename(base)
    data = write_rows(tmp_path / "rows.jsonl", case.rows, case.kind)
    settings = {"epochs": 2, "batch_size": 8, "save_steps": 4, "lora_dropout": 0.1, "learning_rate": 3e-3}
    spec = make_spec(base, data, **settings | case.config)
    return make_run(tmp_path / name, spec), spec


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each case, with a killed run in it."""
    parents = {name: tmp_path_factory.mktemp("case") for name in CASES}
    directories = [make(parents[name], case, "killed")[0] for name, case in CASES.items()]
    command = [sys.executable, "-c", KILLER, *map(str, directories)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=BACKEND, env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["9"] * len(CASES), ended.stderr[-2000:]
    return parents


@pytest.mark.parametrize("name", CASES)
def test_a_killed_training_ends_the_same(killed: dict[str, Path], name: str) -> None:
    case, parent = CASES[name], killed[name]
    undisturbed, _ = make(parent, case, "undisturbed")
    assert run.main(undisturbed) == run.FINISHED
    expected = outcome(undisturbed)
    assert len(expected.steps) == 12
    directory, spec = make(parent, case, "killed")
    assert max(event["step"] for event in events_of(directory, "step")) == KILLED_AFTER
    make_run(directory, spec.model_copy(update={"attempt": 2}))
    assert run.main(directory) == run.FINISHED
    started = [event for event in events_of(directory, "started") if event["attempt"] == 2]
    assert [event["resumed_from_step"] for event in started] == [6]
    assert outcome(directory) == expected
