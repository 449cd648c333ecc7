"""How a trial puts a training together from its pieces: each is counted as often as it will come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import base_folder, events_of, make_spec, task_rows, write_rows

from slm import run, trial
from slm.data.render import Rendered
from slm.generate import BATCH_ROWS, Sampling
from slm.passes import Passes
from slm.plan import SECONDS_PER_BYTE
from slm.spec import TrainSpec, TrialSpec
from slm.trial import Answering, Spent


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(tmp_path_factory.mktemp("base"))


def spec_of(base: Path, tmp_path: Path, rows: int = 40, **config: Any) -> TrainSpec:
    tmp_path.mkdir(parents=True, exist_ok=True)
    return make_spec(base, write_rows(tmp_path / "data.jsonl", task_rows(rows)), **{"epochs": 1, **config})


def carried_out(directory: Path, spec: TrainSpec) -> dict[str, Any]:
    directory.mkdir(parents=True)
    (directory / "run.json").write_text(TrialSpec(run_id="trial", train=spec).model_dump_json())
    assert run.main(directory) == run.FINISHED, events_of(directory, "failed")
    found: dict[str, Any] = json.loads((directory / "result.json").read_bytes())
    return found


def test_the_whole_is_the_sum_of_its_parts(base: Path, tmp_path: Path) -> None:
    found = carried_out(tmp_path / "trial", spec_of(base, tmp_path))
    assert set(found["parts"]) == {"preparing", "learning", "validating", "saving", "judging"}
    for clock, figure in (("cpu", "cpu_seconds"), ("wall", "seconds")):
        assert sum(part[clock] for part in found["parts"].values()) == pytest.approx(found[figure], abs=0.1)


def test_more_epochs_cost_only_where_more_is_done(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that ticks once a look: every piece takes as long in both trials, so that only counts differ."""
    ticks = iter(range(1, 1_000_000))
    monkeypatch.setattr(Spent, "now", classmethod(lambda cls: cls(*[float(next(ticks))] * 2)))
    once, thrice = (
        carried_out(tmp_path / f"{epochs}", spec_of(base, tmp_path / "data", epochs=epochs)) for epochs in (1, 3)
    )
    assert thrice["steps"] == 3 * once["steps"]
    assert thrice["tokens"] == 3 * once["tokens"]
    for part in ("learning", "validating"):
        assert thrice["parts"][part]["cpu"] == pytest.approx(3 * once["parts"][part]["cpu"], rel=0.05), part
    for part in ("preparing", "judging"):
        assert thrice["parts"][part] == once["parts"][part], part
    assert thrice["parts"]["saving"]["cpu"] > once["parts"]["saving"]["cpu"]


def test_without_answers_the_scorecard_is_cheaper(base: Path, tmp_path: Path) -> None:
    asked = carried_out(tmp_path / "asked", spec_of(base, tmp_path, generate_max_rows=4, max_new_tokens=16))
    unasked = carried_out(tmp_path / "unasked", spec_of(base, tmp_path, generate_max_rows=0))
    assert unasked["parts"]["judging"]["cpu"] < 0.5 * asked["parts"]["judging"]["cpu"]


def test_a_large_checkpoint_is_reckoned_and_not_written(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """36 rows are learned from in 5 steps; `save_steps` 2 saves at 2, 4 and the end, and the model once more."""
    monkeypatch.setattr(trial, "LARGEST_SAVED", 0)
    found = carried_out(tmp_path / "trial", spec_of(base, tmp_path, save_steps=2, save_total_limit=3))
    assert [*(tmp_path / "trial" / "checkpoints").glob("step-*")] == []
    each = found["checkpoint_bytes"] / (3 + 2)
    assert found["steps"] == 5
    assert found["parts"]["saving"]["cpu"] == pytest.approx(4 * each * SECONDS_PER_BYTE, abs=0.01)


def test_a_trial_that_is_cancelled_says_nothing(base: Path, tmp_path: Path) -> None:
    directory = tmp_path / "trial"
    directory.mkdir()
    (directory / "run.json").write_text(TrialSpec(run_id="trial", train=spec_of(base, tmp_path)).model_dump_json())
    (directory / "cancel").write_text("{}")
    assert run.main(directory) == run.CANCELLED
    assert not (directory / "result.json").exists()


def answered(rows: int, length: int = 10, limit: int = 20) -> Passes:
    made = [Rendered(at, [1] * length, [1] * length, [1] * length, "x", False) for at in range(rows)]
    return Passes(made, made, rows, Sampling(limit))


def test_answers_cost_by_question_by_step_and_by_row() -> None:
    """Two batches of twenty tokens: each step reads all weights once, however many rows wait for it."""
    cost = Answering(reading=Spent(1, 1), step=Spent(100, 100), row=Spent(10, 10))
    rows = BATCH_ROWS + 1
    assert cost.pass_of(answered(rows)).cpu == rows * 10 + 20 * (2 * 100 + rows * 10)
    assert cost.pass_of(answered(rows), share=0.5).cpu == rows * 10 + 10 * (2 * 100 + rows * 10)
    assert cost.pass_of(answered(1)).cpu == 10 + 20 * 110


def test_where_nobody_is_asked_nothing_is_measured(base: Path) -> None:
    assert Answering.measured(None, None, Passes([], [], 0, Sampling(4))) is None
