"""A method is one class and a line in each half of the registry: a toy one trains, is scored and saved like others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import base_folder, events_of, make_run, make_spec, write_rows

from slm import run
from slm.data.examples import Example, Text
from slm.data.render import IGNORED, Dropped, Rendered, Renderer
from slm.hyperparameters import METHOD_FACTS
from slm.methods import METHODS, Recipe
from slm.methods.sft import Sft
from slm.spec import DatasetKind, Hyperparameters, Method

SLM = Path(run.__file__).parent


class LastWordRenderer(Renderer):
    """Of each text only its last token is learned."""

    def render(self, example: Example, line: int) -> Rendered | Dropped:
        found = super().render(example, line)
        if isinstance(found, Dropped):
            return found
        return replace(found, labels=[*[IGNORED] * (found.size - 2), *found.input_ids[-2:-1], IGNORED])


class LastWord(Sft):
    """A toy: Sft with another renderer and half the loss."""

    ANSWERS = False

    def renderer(self, tokenizer: Any, *, max_length: int, config: Hyperparameters | None = None) -> Renderer:
        return LastWordRenderer(tokenizer, max_length=max_length)

    def collate(self, rows: Sequence[Rendered], **keywords: Any) -> dict[str, torch.Tensor]:
        assert all(row.learned == 1 for row in rows)
        return super().collate(rows, **keywords)

    def loss_sum(self, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return super().loss_sum(model, inputs) / 2


def test_a_toy_method_trains_by_two_lines_of_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy: Recipe = LastWord()
    facts = replace(METHOD_FACTS[Method.PRETRAIN], purpose="knows the last word", kinds=frozenset({DatasetKind.TEXT}))
    monkeypatch.setitem(METHODS, Method.PRETRAIN, toy)
    monkeypatch.setitem(METHOD_FACTS, Method.PRETRAIN, facts)
    rows = [{"text": f"{colour} {n} is cat"} for n in range(24) for colour in ("red", "blue")]
    data = write_rows(tmp_path / "rows.jsonl", rows, DatasetKind.TEXT)
    spec = make_spec(base_folder(tmp_path), data, method="pretrain", adapter="full", learning_rate=5e-3)
    directory = make_run(tmp_path / "run", spec)
    assert run.main(directory) == run.FINISHED
    (prepared,), (ended,) = events_of(directory, "prepared"), events_of(directory, "finished")
    assert prepared["learned_tokens"] == prepared["train_examples"]
    steps = [event["loss"] for event in events_of(directory, "step")]
    assert steps[-1] < 0.8 * steps[0]
    assert ended["evaluation"]["metrics"]["loss"] < ended["evaluation"]["base_metrics"]["loss"]
    assert (directory / "artifacts/model/model.safetensors").is_file()


def test_the_two_halves_name_the_same_methods() -> None:
    assert set(METHODS) == set(METHOD_FACTS) == set(Method)


def test_training_knows_no_method_by_name() -> None:
    """What trains, saves and resumes asks the recipe; a method by its name would be a second registry."""
    for path in (*(SLM / "train").glob("*.py"), SLM / "checkpoints.py", SLM / "adapters.py"):
        assert not re.findall(r"Method\.[A-Z]+", path.read_text(encoding="utf-8")), path.name


def test_texts_are_what_the_toy_reads(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    renderer = LastWordRenderer(AutoTokenizer.from_pretrained(base_folder(tmp_path)), max_length=64)
    found = renderer.render(Text("red cat"), 1)
    assert isinstance(found, Rendered)
    assert found.learned == 1
