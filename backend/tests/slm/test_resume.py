"""Trainings killed with -9 at each kind of moment go on to the very curve and weights of an undisturbed one."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_models import Outcome, base_folder, events_of, make_run, make_spec, outcome, task_rows, write_rows

from slm import checkpoints, run
from slm.checkpoints import PROGRESS, complete
from slm.files import file_digest
from slm.spec import TrainSpec

BACKEND = Path(__file__).resolve().parents[2]
SAVE_STEPS = 4
KILLER = """
import os, signal, sys
from pathlib import Path

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

moment, directory = sys.argv[1], Path(sys.argv[2])
from slm import checkpoints, evaluate, run
from slm.train import loop

if moment == "epoch":  # between two steps of the second epoch
    step_begins = loop.Loop.note_random_state
    loop.Loop.note_random_state = lambda self: die() if self.progress.step == 14 else step_begins(self)
elif moment == "accumulation":  # one micro-batch of a step is learned, the next is not
    learns = loop.Loop.training_step
    loop.Loop.training_step = lambda self, *a, **k: (
        die() if self.progress.step == 14 and self._micro_step == 1 else learns(self, *a, **k)
    )
elif moment == "save":  # the files are there, the marker is not
    marks = checkpoints.write_atomic
    checkpoints.write_atomic = lambda path, data: die() if "step-00000012" in str(path) else marks(path, data)
elif moment == "validation":  # in the evaluation that belongs to the second epoch's end
    scores = loop.Loop._validation_loss
    loop.Loop._validation_loss = lambda self: die() if self.progress.step == 20 else scores(self)
elif moment == "scorecard":  # all steps are learned
    evaluate._Scorecard._examine = die
sys.exit(run.main(directory))
"""
MOMENTS = ("epoch", "accumulation", "save", "validation", "scorecard")


def make(tmp_path: Path, name: str, adapter: str, **config: Any) -> tuple[Path, TrainSpec]:
    """A run of 30 steps in 3 epochs: 80 training rows, 8 a step, 4 a micro-batch."""
    base = tmp_path / "tiny-llama"
    if not base.is_dir():
        base_folder(tmp_path)
    data = write_rows(tmp_path / "rows.jsonl", task_rows(89))
    settings = {
        "adapter": adapter, "epochs": 3, "batch_size": 8, "save_steps": SAVE_STEPS, "lora_dropout": 0.1,
        "learning_rate": 3e-3, "early_stopping_patience": None, "eval_fraction": 0.1,
    }  # fmt: skip
    spec = make_spec(base, data, **settings | config)
    return make_run(tmp_path / name, spec), spec


def again(directory: Path, spec: TrainSpec, attempt: int = 2) -> int:
    make_run(directory, spec.model_copy(update={"attempt": attempt}))
    return run.main(directory)


def killed(directory: Path, moment: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLER, moment, str(directory)]
    ended = subprocess.run(command, cwd=BACKEND, env=environment, capture_output=True, check=False)
    assert ended.returncode == -9, ended.stderr.decode()[-2000:]


@pytest.fixture(scope="module", params=["lora", "full"])
def undisturbed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Outcome]:
    directory, _ = make(tmp_path_factory.mktemp("undisturbed"), "run", request.param)
    assert run.main(directory) == run.FINISHED
    found = outcome(directory)
    assert len(found.steps) == 30
    return request.param, found


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_it_ends_the_same(undisturbed: tuple[str, Outcome], tmp_path: Path, moment: str) -> None:
    adapter, expected = undisturbed
    directory, spec = make(tmp_path, "run", adapter)
    killed(directory, moment)
    reached = max(event["step"] for event in events_of(directory, "step"))
    assert again(directory, spec) == run.FINISHED
    (second,) = [event for event in events_of(directory, "started") if event["attempt"] == 2]
    resumed = second["resumed_from_step"]
    assert resumed > 0
    assert reached - resumed <= SAVE_STEPS
    assert outcome(directory) == expected
    assert [event["seq"] for event in events_of(directory) if "seq" in event] == list(
        range(1, 1 + sum("seq" in event for event in events_of(directory)))
    )
    assert not list((directory / "checkpoints").glob(".tmp-*"))


def test_killed_twice_it_still_ends_the_same(undisturbed: tuple[str, Outcome], tmp_path: Path) -> None:
    adapter, expected = undisturbed
    directory, spec = make(tmp_path, "run", adapter)
    killed(directory, "save")
    make_run(directory, spec.model_copy(update={"attempt": 2}))
    killed(directory, "validation")
    assert again(directory, spec, attempt=3) == run.FINISHED
    assert outcome(directory) == expected


def test_two_checkpoints_and_the_best_are_kept(tmp_path: Path) -> None:
    """A learning rate that undoes what it learned: the best epoch is not the last one."""
    directory, _ = make(tmp_path, "run", "lora", learning_rate=0.5, epochs=4, lr_scheduler_type="constant")
    assert run.main(directory) == run.FINISHED
    (ended,) = events_of(directory, "finished")
    best = ended["evaluation"]["training_statistics"]["best_step"]
    kept = [checkpoint.step for checkpoint in complete(directory / "checkpoints")]
    assert kept == sorted({40, 36, best}, reverse=True)
    marked = [checkpoint.step for checkpoint in complete(directory / "checkpoints") if checkpoint.best]
    assert best in marked


def test_a_broken_checkpoint_is_passed_over_with_a_warning(undisturbed: tuple[str, Outcome], tmp_path: Path) -> None:
    adapter, expected = undisturbed
    directory, spec = make(tmp_path, "run", adapter)
    killed(directory, "epoch")
    newest, older = complete(directory / "checkpoints")[:2]
    weights = next(newest.path.glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert again(directory, spec) == run.FINISHED
    (second,) = [event for event in events_of(directory, "started") if event["attempt"] == 2]
    assert second["resumed_from_step"] == older.step
    (warning,) = events_of(directory, "warned")
    assert warning["code"] == "checkpoint_corrupt"
    assert newest.name in warning["message"]
    assert outcome(directory) == expected


def test_a_checkpoint_without_its_story_is_passed_over(tmp_path: Path) -> None:
    directory, spec = make(tmp_path, "run", "lora")
    killed(directory, "epoch")
    for checkpoint in complete(directory / "checkpoints"):
        (checkpoint.path / PROGRESS).unlink()
    assert again(directory, spec) == run.FINISHED
    (second,) = [event for event in events_of(directory, "started") if event["attempt"] == 2]
    assert second["resumed_from_step"] is None
    assert {warning["code"] for warning in events_of(directory, "warned")} == {"checkpoint_corrupt"}


@pytest.mark.parametrize("save", [True, False])
def test_a_cancel_saves_where_it_stood_if_asked(
    undisturbed: tuple[str, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: bool
) -> None:
    """Asked in the middle of a step between two checkpoints; resumed, it ends as if nothing had been."""
    from slm.events import CANCEL
    from slm.train.loop import Loop

    adapter, expected = undisturbed
    directory, spec = make(tmp_path, "run", adapter)
    learns = Loop.training_step

    def asked(self: Loop, *arguments: Any, **keywords: Any) -> Any:
        if self.progress.step == 14 and self._micro_step == 1:
            (directory / CANCEL).write_text(json.dumps({"save": save}))
        return learns(self, *arguments, **keywords)

    monkeypatch.setattr(Loop, "training_step", asked)
    assert run.main(directory) == run.CANCELLED
    monkeypatch.undo()
    (cancelled,) = events_of(directory, "cancelled")
    # With 2 micro-batches a step, the marker is seen before the third look: step 15 may be done.
    wanted = cancelled["step"] if save else 12
    assert cancelled["step"] >= 14
    assert cancelled["checkpoint"] == f"step-{wanted:08d}"
    (directory / CANCEL).unlink()
    assert again(directory, spec) == run.FINISHED
    assert outcome(directory) == expected


def test_nothing_of_a_checkpoint_can_run_code(tmp_path: Path) -> None:
    """Optimizer and random states are read as data: a planted pickle is refused, not run."""
    directory, spec = make(tmp_path, "run", "lora")
    killed(directory, "epoch")
    witness = tmp_path / "witness"

    class Planted:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {witness}",)

    for checkpoint in complete(directory / "checkpoints"):
        (checkpoint.path / "optimizer.pt").write_bytes(pickle.dumps(Planted()))
        marker = checkpoint.path / checkpoints.CHECKPOINT_MARKER
        digest = file_digest(checkpoint.path / "optimizer.pt")
        said = json.loads(marker.read_bytes())
        said["files"]["optimizer.pt"] = digest
        marker.write_text(json.dumps(said))
    again(directory, spec)
    assert not witness.exists()
