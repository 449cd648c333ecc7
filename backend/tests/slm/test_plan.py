"""The formulas of a plan: how they move with what is asked, and that they are near what was measured once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm import plan
from slm.data.render import Rendered
from slm.plan import Data, Estimate
from slm.shape import Shape
from slm.spec import Adapter, Method, resolve, steps_per_epoch, total_steps
from slm.trial import tokens_read

SMOLLM2 = {
    "model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "intermediate_size": 1536, "vocab_size": 49152,
    "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
}  # fmt: skip
SHAPE = Shape.of(134_515_008, SMOLLM2, templated=True)
UNTEMPLATED = Shape.of(134_515_008, SMOLLM2)
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
    assert found.tokens == 432 * 100
    given_rows = estimate(replace(ROWS, held_out=64), epochs=2, batch_size=8)
    assert (given_rows.train_examples, given_rows.eval_examples, given_rows.steps) == (240, 64, 60)
    few = estimate(epochs=100, batch_size=8, max_steps=10)
    assert (few.steps, few.tokens) == (10, 80 * 100)
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


def test_what_a_template_writes_is_counted() -> None:
    """A row of 280 characters is 70 tokens, and what stands around it."""
    around = {
        "a prompt, an answer and the template's own system prompt": (ROWS, SHAPE, 30),
        "a system prompt of the data": (replace(ROWS, turns=3, own_system=True), SHAPE, 15),
        "two questions": (replace(ROWS, turns=4), SHAPE, 40),
        "no template": (ROWS, UNTEMPLATED, 4),
        "plain texts": (replace(ROWS, plain=True), SHAPE, 2),
    }
    for what, (data, shape, tokens) in around.items():
        assert estimate(data, shape, epochs=1).tokens == 216 * (70 + tokens), what
    assert estimate(method="classify", epochs=1).tokens == estimate(method="mask", epochs=1).tokens == 216 * 72


def test_both_answers_of_a_pair_stand_behind_the_whole_prompt() -> None:
    """Of 280 characters 90 are answers: twice 190 and once 90."""
    assert estimate(method="dpo", epochs=1).tokens == 216 * ((2 * 190 + 90) // 4 + 1 + 2 * 30) - 108
    assert estimate(method="dpo", epochs=1, max_length=40).tokens == 216 * 2 * 40


def test_rows_are_no_longer_than_the_model_reads() -> None:
    long = Data(240, 240 * 40_000, 50_000, 240 * 90)
    short = Shape.of(134_515_008, SMOLLM2 | {"max_position_embeddings": 512})
    assert estimate(long, short, epochs=1).tokens == 216 * 512
    assert estimate(long, SHAPE, epochs=1).tokens == 216 * 1024


def test_a_common_beginning_is_computed_once_and_counted_every_time() -> None:
    alone = estimate(per_device_train_batch_size=1)
    together = estimate(per_device_train_batch_size=4)
    assert alone.tokens == together.tokens
    assert alone.cpu_seconds is not None
    assert together.cpu_seconds is not None
    layers = alone.steps * 6 * SHAPE.layers * plan.LAYER_SECONDS
    assert together.cpu_seconds < 0.9 * (alone.cpu_seconds - layers)


def test_the_table_of_words_is_no_work_but_where_words_are_foretold() -> None:
    """MiniLM: half of its parameters are the table, of which a token takes one row."""
    bert = {"model_type": "bert", "hidden_size": 384, "vocab_size": 30522, "num_hidden_layers": 6}
    minilm = Shape.of(22_713_216, bert)
    assert minilm.body == 22_713_216 - 384 * 30522
    label, hidden = (estimate(shape=minilm, method=method, adapter="full") for method in ("classify", "mask"))
    assert label.cpu_seconds is not None
    assert hidden.cpu_seconds is not None
    assert label.cpu_seconds < hidden.cpu_seconds
    assert Shape.of(1_000_000, {"hidden_size": 512, "vocab_size": 100_000}).body == 300_000


def test_a_model_from_scratch_is_small_whatever_its_base() -> None:
    new = estimate(method="pretrain", from_scratch=True)
    whole = estimate(method="pretrain", adapter="full")
    assert new.tokens == pytest.approx(whole.tokens, rel=0.01)
    assert new.memory_bytes < whole.memory_bytes / 3
    assert new.checkpoint_bytes == 4 * (12 * Shape.from_scratch(240 * 280).parameters + (1 << 20))
    assert Shape.from_scratch(10**9).vocabulary == 4096


def test_answers_are_written_only_where_somebody_asked() -> None:
    asked = replace(ROWS, held_out=64)
    written, unwritten = estimate(asked).seconds, estimate(asked, generate_max_rows=0).seconds
    assert written > 1.2 * unwritten
    assert (
        estimate(replace(asked, plain=True)).seconds
        == estimate(replace(asked, plain=True), generate_max_rows=0).seconds
    )


def test_dpo_asks_the_base_first() -> None:
    """About every pair, whatever the number of steps."""
    few = estimate(replace(ROWS, held_out=0), method="dpo", max_steps=1)
    fewer_rows = estimate(replace(ROWS, rows=24, characters=24 * 280, learned_characters=24 * 90, held_out=0),
                          method="dpo", max_steps=1)  # fmt: skip
    assert few.tokens == fewer_rows.tokens
    assert few.seconds > 2 * fewer_rows.seconds


def test_a_figure_says_how_far_off_it_may_be() -> None:
    found = estimate()
    assert plan.between(found, "steps") == (found.steps, found.steps)
    assert plan.between(found, "tokens") == (found.tokens / 1.5, found.tokens * 1.5)
    trial = replace(found, basis="measured")
    assert plan.between(trial, "tokens") == (found.tokens, found.tokens)
    assert plan.between(trial, "cpu_seconds")[1] < plan.between(found, "cpu_seconds")[1]
    on_gpu = estimate(gpu=True)
    assert plan.between(on_gpu, "seconds")[1] == pytest.approx(5 * on_gpu.seconds)


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
    said = plan.warnings(config, long, rows=240)[0]
    assert "about 2 h on this machine (3 epochs" in said
    assert "; by formula, between 48 min and 5 h)." in said
    assert "; by a trial, between 1 h and 4 h)." in plan.warnings(config, replace(long, basis="measured"), rows=240)[0]
    assert said.endswith("make it shorter; early stopping may end it sooner.")
    few_steps, _ = resolve({"max_steps": 500, "early_stopping_patience": None})
    assert plan.warnings(few_steps, long, rows=240)[0].endswith("make it shorter.")
    assert f"({long.steps} steps" in plan.warnings(few_steps, long, rows=240)[0]


@given(
    rows=st.integers(2, 500), epochs=st.floats(0.01, 9), batch=st.integers(1, 64), most=st.none() | st.integers(1, 50)
)
def test_steps_and_rows_are_those_that_the_training_counts(
    rows: int, epochs: float, batch: int, most: int | None
) -> None:
    """A run rounds up, and its last epoch may be broken off."""
    data = Data(rows, rows * 280, held_out=0)
    found = estimate(data, epochs=epochs, batch_size=batch, max_steps=most)
    per_epoch = steps_per_epoch(rows, batch)
    assert found.steps == total_steps(per_epoch, epochs, most)
    lengths = [Rendered(at, [1] * 100, [1] * 100, [], None, False) for at in range(rows)]
    assert found.tokens == tokens_read(lengths, batch_size=batch, seed=0, steps=found.steps)


def test_one_row_at_least_is_held_out_where_any_is_wanted() -> None:
    few = Data(rows=4, characters=400)
    assert (estimate(few).train_examples, estimate(few).eval_examples) == (3, 1)
    assert estimate(few, eval_fraction=0.0).eval_examples == 0
    assert estimate(replace(few, rows=1)).train_examples == 1


def test_packed_texts_make_fewer_steps_and_no_fewer_tokens() -> None:
    """240 texts of 72 tokens, 14 to a sequence of 1,024."""
    texts = replace(ROWS, plain=True, held_out=24)
    apart = estimate(texts, method="pretrain", epochs=1)
    packed = estimate(texts, method="pretrain", epochs=1, packing=True)
    assert packed.train_examples == -(-240 * 72 // 1024)
    assert packed.eval_examples == 2
    assert packed.tokens == pytest.approx(apart.tokens, rel=0.01)
    assert packed.steps == 3
    assert apart.steps == 30
    assert packed.memory_bytes > apart.memory_bytes, "a micro-batch is filled"
    assert plan.between(packed, "steps") == (2, 4.5)
    long = replace(texts, characters=240 * 40_000)
    assert estimate(long, method="pretrain", packing=True).steps == estimate(long, method="pretrain").steps
