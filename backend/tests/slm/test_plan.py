"""The formulas of a plan: how they move with what is asked, and that they are near what was measured once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm import plan
from slm.plan import Data, Estimate, Shape
from slm.spec import Adapter, Method, resolve

SMOLLM2 = {
    "model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536, "vocab_size": 49152,
    "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
}  # fmt: skip
SHAPE = Shape.of(134_515_008, SMOLLM2)
ROWS = Data(rows=240, characters=240 * 280, longest=330, learned_characters=240 * 90)


def estimate(data: Data = ROWS, shape: Shape = SHAPE, *, gpu: bool = False, **asked: Any) -> Estimate:
    config, _ = resolve(asked)
    return plan.estimate(config, shape=shape, data=data, cores=2, gpu=gpu)


def test_lora_learns_as_many_parameters_as_peft_makes() -> None:
    """SmolLM2 135M with rank 16 on all linear layers: 4,884,480 by PEFT's own count."""
    config, _ = resolve({})
    assert SHAPE.learned(config) == 4_884_480
    assert SHAPE.learned(config.model_copy(update={"adapter": Adapter.FULL})) == 134_515_008


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        ({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257}, 124_000_000),
        ({"model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": 3072,
          "num_attention_heads": 12, "vocab_size": 30522}, 110_000_000),
        (SMOLLM2, 134_515_008),
    ],
)  # fmt: skip
def test_parameters_that_nobody_counted_follow_from_the_shape(config: dict[str, Any], parameters: int) -> None:
    assert Shape.of(0, config).parameters == pytest.approx(parameters, rel=0.05)


@given(st.integers(1_000_000, 10**10))
def test_a_size_alone_gives_a_sensible_shape(parameters: int) -> None:
    shape = Shape.of(parameters, None)
    assert shape.parameters == parameters
    assert 0.1 < Shape.of(0, {"hidden_size": shape.hidden}).parameters / parameters < 60


def test_steps_and_tokens_follow_from_rows_epochs_and_batch() -> None:
    found = estimate(epochs=2, batch_size=8)
    assert (found.train_examples, found.eval_examples, found.steps) == (216, 24, 54)
    assert found.tokens == 432 * 90
    given_rows = estimate(replace(ROWS, held_out=64), epochs=2, batch_size=8)
    assert (given_rows.train_examples, given_rows.eval_examples, given_rows.steps) == (240, 64, 60)
    few = estimate(epochs=100, batch_size=8, max_steps=10)
    assert (few.steps, few.tokens) == (10, 80 * 90)
    assert estimate(max_length=30, epochs=1).tokens == 216 * 30


def test_full_training_takes_more_memory_and_disk_than_lora() -> None:
    lora, full = estimate(), estimate(adapter="full")
    assert full.memory_bytes - lora.memory_bytes > 15 * 134_515_008
    assert full.checkpoint_bytes > 20 * lora.checkpoint_bytes
    assert full.seconds > lora.seconds
    assert estimate(method="dpo").tokens > 1.5 * lora.tokens * estimate(epochs=1).steps / lora.steps


@pytest.mark.parametrize("method", list(Method))
def test_longer_rows_take_more_memory(method: Method) -> None:
    short = estimate(method=method.value)
    long = estimate(Data(240, 240 * 4000, 5000, 240 * 90), method=method.value)
    assert long.memory_bytes > short.memory_bytes
    assert long.tokens > short.tokens


def test_a_gpu_is_timed_by_its_own_clock() -> None:
    assert estimate(gpu=True).cpu_seconds is None
    assert estimate(gpu=True).seconds < estimate().seconds
    assert estimate().cpu_seconds == pytest.approx(2 * estimate().seconds)


def test_a_training_that_was_measured_is_near_its_formula() -> None:
    """128 rows of 55 tokens, one epoch, LoRA, two cores: 161 CPU-seconds of training and 1.75 GB at its peak."""
    data = Data(rows=128, characters=128 * 140, longest=200, learned_characters=128 * 50, held_out=0)
    found = estimate(data, epochs=1, batch_size=8)
    assert found.cpu_seconds is not None
    assert 0.5 < found.cpu_seconds / 161 < 2
    assert 0.7 < found.memory_bytes / 1.75e9 < 1.4


@pytest.mark.parametrize(
    ("seconds", "said"), [(45, "45 s"), (720, "12 min"), (4800, "1 h 20 min"), (7200, "2 h"), (260_000, "3 days")]
)
def test_durations_are_spoken(seconds: float, said: str) -> None:
    assert plan.spoken(seconds) == said


def test_what_is_unwise_is_said_and_what_is_usual_is_not() -> None:
    config, _ = resolve({})
    assert plan.warnings(config, estimate(max_steps=10), rows=240) == []
    unusual, _ = resolve({"learning_rate": 0.5, "packing": True})
    said = plan.warnings(unusual, None, rows=3)
    assert [sentence.split()[0] for sentence in said] == ["learning_rate", "3", "packing"]
    long = replace(estimate(), seconds=7200.0)
    assert "about 2 h on this machine (3 epochs" in plan.warnings(config, long, rows=240)[0]
