"""The formulas beside what the four example tasks really are: tokens by the very renderers, time as it was measured."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.models import Dataset
from app.services.plan import data_of, shape_in
from slm import checkpoints, plan
from slm.bundled import MINILM, SMOLLM2
from slm.data.examples import iter_examples
from slm.data.inspection import inspect_file
from slm.data.render import Rendered
from slm.methods import METHODS
from slm.spec import DatasetKind, FileFormat, Hyperparameters, ModelRef, resolve
from slm.weights import read_marker

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@dataclass(frozen=True)
class Task:
    """An example as its page runs it, and what a trial on one thread of a server's Xeon with AVX-512 found."""

    ending: str
    weights: str
    config: dict[str, Any]
    cpu_seconds: float
    memory_bytes: float


TASKS = {
    "tickets": Task("csv", SMOLLM2, {"epochs": 2, "learning_rate": 0.001}, 400, 2.03e9),
    "topics": Task("csv", MINILM, {"adapter": "full", "epochs": 4}, 34, 0.99e9),
    "library": Task("jsonl", SMOLLM2, {"epochs": 2, "learning_rate": 0.001, "max_length": 192}, 194, 2.09e9),
    "replies": Task("jsonl", SMOLLM2, {"learning_rate": 0.0005, "max_length": 128}, 145, 2.27e9),
}


def weights(name: str) -> Path:
    folder = Settings(_env_file=None).models_dir / name
    if read_marker(folder) is None:
        reason = f"The weights of {name} are not on this machine; `slm pull` brings them."
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return folder


def dataset(name: str, ending: str) -> Dataset:
    found = inspect_file(EXAMPLES / f"{name}.{ending}", file_format=FileFormat(ending))
    return Dataset(kind=found.kind, mapping=found.mapping, statistics=found.statistics, row_count=found.row_count)


def planned(name: str, *, wide: bool = True, cores: int = 1) -> tuple[Hyperparameters, plan.Estimate]:
    task = TASKS[name]
    train, evaluate = dataset(f"{name}-train", task.ending), dataset(f"{name}-eval", task.ending)
    config, _ = resolve(task.config, kind=DatasetKind(str(train.kind)))
    shape = shape_in(weights(task.weights), None)
    return config, plan.estimate(config, shape=shape, data=data_of(train, evaluate), cores=cores, gpu=False, wide=wide)


def rendered(name: str, config: Hyperparameters) -> list[Rendered]:
    task = TASKS[name]
    reference = ModelRef(model_id="base", name="base", path=str(weights(task.weights)))
    renderer = METHODS[config.method].renderer(checkpoints.load_tokenizer(reference), max_length=config.max_length)
    train = dataset(f"{name}-train", task.ending)
    assert train.kind is not None
    assert train.mapping is not None
    examples = iter_examples(
        EXAMPLES / f"{name}-train.{task.ending}",
        FileFormat(task.ending),
        kind=DatasetKind(train.kind),
        mapping=train.mapping,
    )
    rows = [renderer.render(example, record.line) for record, example in examples]  # type: ignore[arg-type]
    return [row for row in rows if isinstance(row, Rendered)]


@pytest.mark.parametrize("name", TASKS)
def test_tokens_are_near_those_that_the_renderer_counts(name: str) -> None:
    config, estimated = planned(name)
    counted = sum(row.size for row in rendered(name, config)) * config.epochs
    assert estimated.tokens == pytest.approx(counted, rel=0.15)
    least, most = plan.between(estimated, "tokens")
    assert least < counted < most
    assert most / estimated.tokens == pytest.approx(1.5)


@pytest.mark.parametrize("name", TASKS)
def test_processor_time_and_memory_are_near_what_was_measured(name: str) -> None:
    _, estimated = planned(name)
    assert estimated.cpu_seconds is not None
    assert 0.8 < estimated.cpu_seconds / TASKS[name].cpu_seconds < 1.3
    assert 0.75 < estimated.memory_bytes / TASKS[name].memory_bytes < 1.3


def test_a_core_with_narrower_registers_takes_longer() -> None:
    """The tickets took 520 CPU-seconds where the libraries were held to AVX2."""
    _, estimated = planned("tickets", wide=False)
    assert estimated.cpu_seconds is not None
    assert 0.8 < estimated.cpu_seconds / 520 < 1.35


def test_a_second_thread_shortens_the_wait_and_costs_some_processor_time() -> None:
    """The tickets took 460 CPU-seconds on two threads."""
    one, two = (planned("tickets", cores=cores)[1] for cores in (1, 2))
    assert one.cpu_seconds is not None
    assert two.cpu_seconds is not None
    assert one.cpu_seconds < two.cpu_seconds < 1.3 * one.cpu_seconds
    assert two.seconds < 0.65 * one.seconds
    assert 0.8 < two.cpu_seconds / 460 < 1.3
