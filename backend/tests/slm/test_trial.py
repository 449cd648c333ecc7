"""A trial foretells the training that follows: steps and tokens exactly, time and memory by what it measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import base_folder, encoder_folder, events_of, make_run, make_spec, task_rows, write_rows

from slm import run
from slm.data.batches import EffectiveBatches
from slm.data.render import Rendered
from slm.methods import METHODS
from slm.spec import CAUSAL, METHOD_FACTS, DatasetKind, DatasetRef, Method, TrainSpec, TrialSpec
from slm.trial import Spent, chosen_rows, tokens_read

ROWS: dict[DatasetKind, list[dict[str, Any]]] = {
    DatasetKind.PROMPT_COMPLETION: task_rows(40),
    DatasetKind.TEXT: [{"text": f"{row['prompt']} {row['completion']}"} for row in task_rows(40)],
    DatasetKind.CLASSIFICATION: [{"text": row["prompt"], "label": row["completion"]} for row in task_rows(40)],
    DatasetKind.PREFERENCE: [
        {"prompt": row["prompt"], "chosen": row["completion"], "rejected": "nothing"} for row in task_rows(40)
    ],
}
LEARNED_FROM = {
    Method.PRETRAIN: DatasetKind.TEXT,
    Method.CLASSIFY: DatasetKind.CLASSIFICATION,
    Method.DPO: DatasetKind.PREFERENCE,
}
LEARNERS = [method for method in METHODS if CAUSAL in METHOD_FACTS[method].bases]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(tmp_path_factory.mktemp("base"))


def data(tmp_path: Path, method: Method = Method.SFT) -> DatasetRef:
    kind = LEARNED_FROM.get(method, DatasetKind.PROMPT_COMPLETION)
    return write_rows(tmp_path / "data.jsonl", ROWS[kind], kind)


def carried_out(directory: Path, spec: TrainSpec, seconds: float = 60) -> dict[str, Any]:
    document = TrialSpec(run_id="trial", train=spec, seconds=seconds).model_dump_json()
    directory.mkdir()
    (directory / "run.json").write_text(document)
    assert run.main(directory) == run.FINISHED, events_of(directory, "failed")
    found: dict[str, Any] = json.loads((directory / "result.json").read_bytes())
    return found


def trained(directory: Path, spec: TrainSpec) -> dict[str, Any]:
    assert run.main(make_run(directory, spec)) == run.FINISHED, events_of(directory, "failed")
    found: dict[str, Any] = events_of(directory, "finished")[0]["evaluation"]["training_statistics"]
    return found


@pytest.mark.parametrize("method", LEARNERS)
def test_the_training_takes_the_steps_and_tokens_that_were_foretold(method: Method, base: Path, tmp_path: Path) -> None:
    spec = make_spec(base, data(tmp_path, method), method=method.value, epochs=2, batch_size=8)
    planned, actual = carried_out(tmp_path / "trial", spec), trained(tmp_path / "training", spec)
    assert planned["steps"] == actual["total_steps"]
    assert planned["tokens"] == actual["tokens_seen"]
    assert planned["train_examples"] == actual["train_examples"]
    assert planned["eval_examples"] == actual["eval_examples"]
    assert 0 < planned["cpu_seconds"] < 60
    assert 0.5 < actual["peak_memory_bytes"] / planned["memory_bytes"] < 1.5
    assert planned["steps_taken"] == 3


@pytest.mark.parametrize(
    ("method", "config"),
    [
        ("mask", {}),
        ("mask", {"adapter": "lora"}),
        ("classify", {}),
        ("pretrain", {"packing": True, "max_length": 24}),
        ("pretrain", {"from_scratch": True, "max_length": 24}),
    ],
    ids=str,
)
def test_so_does_one_of_another_kind(method: str, config: dict[str, Any], base: Path, tmp_path: Path) -> None:
    """Encoders; texts that share a sequence; a model and tokens that the run makes for itself."""
    kind = LEARNED_FROM.get(Method(method), DatasetKind.TEXT)
    rows = write_rows(tmp_path / "data.jsonl", ROWS[kind], kind)
    start = base if method == "pretrain" else encoder_folder(tmp_path)
    asked = {"method": method, "epochs": 2, "batch_size": 4} | config
    planned = carried_out(tmp_path / "trial", make_spec(start, rows, **asked))
    actual = trained(tmp_path / "training", make_spec(start, rows, **asked))
    for figure, measured in (("steps", "total_steps"), ("tokens", "tokens_seen")):
        assert planned[figure] == actual[measured]
    for count in ("train_examples", "eval_examples"):
        assert planned[count] == actual[count]
    assert 0 < planned["cpu_seconds"] < 60
    assert 0.5 < actual["peak_memory_bytes"] / planned["memory_bytes"] < 1.5
    assert not (tmp_path / "trial" / "artifacts").exists()


def test_all_weights_learning_is_measured_too(base: Path, tmp_path: Path) -> None:
    spec = make_spec(base, data(tmp_path), adapter="full", epochs=1, max_steps=3)
    planned, actual = carried_out(tmp_path / "trial", spec), trained(tmp_path / "training", spec)
    assert (planned["steps"], planned["tokens"]) == (actual["total_steps"], actual["tokens_seen"])
    lora = carried_out(tmp_path / "lora", make_spec(base, data(tmp_path), epochs=1, max_steps=3))
    assert planned["checkpoint_bytes"] != lora["checkpoint_bytes"]


def test_nothing_of_it_is_kept(base: Path, tmp_path: Path) -> None:
    carried_out(tmp_path / "trial", make_spec(base, data(tmp_path), epochs=1))
    assert not (tmp_path / "trial" / "artifacts").exists()
    assert [event["type"] for event in events_of(tmp_path / "trial", "finished", "failed")] == ["finished"]


def test_when_time_is_up_what_was_measured_must_do(base: Path, tmp_path: Path) -> None:
    found = carried_out(tmp_path / "trial", make_spec(base, data(tmp_path), batch_size=32), seconds=1e-6)
    assert found["steps_taken"] == 0
    assert found["cpu_seconds"] > 0
    assert found["memory_bytes"] > 1e8


def test_fewer_rows_than_a_batch_are_enough(base: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "few.jsonl", task_rows(3))
    found = carried_out(tmp_path / "trial", make_spec(base, rows, batch_size=32, eval_fraction=0.0, epochs=5))
    assert (found["steps"], found["eval_examples"], found["steps_taken"]) == (5, 0, 1)


def test_what_a_training_would_warn_of_is_told(base: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "long.jsonl", [*task_rows(20), {"prompt": "long?", "completion": "word " * 60}])
    found = carried_out(tmp_path / "trial", make_spec(base, rows))
    assert any("longer than max_length (64 tokens) and cut" in warning for warning in found["warnings"])


def test_nothing_to_learn_fails_as_the_training_would(base: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "none.jsonl", [{"prompt": "word " * 200, "completion": "x"}] * 4)
    directory = tmp_path / "trial"
    directory.mkdir()
    spec = TrialSpec(run_id="trial", train=make_spec(base, rows))
    (directory / "run.json").write_text(spec.model_dump_json())
    assert run.main(directory) == run.FAILED
    failure = events_of(directory, "failed")[0]
    assert (failure["code"], failure["fault"]) == ("nothing_to_learn", "user")


def rendered(lengths: list[int]) -> list[Rendered]:
    return [Rendered(at, [1] * length, [1] * length, [], None, False) for at, length in enumerate(lengths)]


@given(
    st.lists(st.integers(1, 200), min_size=1, max_size=120),
    st.integers(1, 40),
    st.integers(1, 8),
    st.integers(0, 5),
)
def test_the_rows_of_a_trial_hold_the_longest_and_make_whole_batches(
    lengths: list[int], batch_size: int, micro: int, seed: int
) -> None:
    rows = rendered(lengths)
    size = min(batch_size, 2 * micro)
    chosen = chosen_rows(rows, batch_size=batch_size, size=size, seed=seed)
    assert max(row.size for row in chosen) == max(lengths)
    assert len(chosen) in (size, 3 * size) or len(lengths) < batch_size
    assert len({row.line for row in chosen}) >= min(size, len(lengths), len(chosen))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 20), st.integers(1, 30), st.integers(0, 5))
def test_tokens_are_those_of_the_batches_that_will_come(
    lengths: list[int], batch_size: int, steps: int, seed: int
) -> None:
    batches = EffectiveBatches(lengths, batch_size=batch_size, micro_batch=batch_size, seed=seed)
    wanted, left = 0, steps
    while left > 0:
        for batch in batches.batches()[:left]:
            wanted += sum(lengths[at] for at in batch)
        left -= batches.steps
        batches.epoch += 1
    assert tokens_read(rendered(lengths), batch_size=batch_size, seed=seed, steps=steps) == wanted


def test_spent_time_is_added_and_never_negative() -> None:
    assert Spent(1, 2) + Spent(0.5, 0.5) == Spent(1.5, 2.5)
    assert Spent(1, 2) - Spent(3, 1) == Spent(0, 1)
    assert Spent(1, 2) * 3 == Spent(3, 6)
