"""What a training will take, by formula: steps, tokens, memory, time. Standard library only: the platform may ask.

A formula knows characters, not tokens, and nothing of the machine but its cores, and so is a first guess: `SPREAD` says
how far off it may be, `slm.trial` measures. Each constant says what it was measured on: the four tasks of `examples/`
(SmolLM2 135M with LoRA, MiniLM L6 in full), one thread of a server's Xeon, in processor seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from slm.shape import Shape
from slm.spec import CHECKPOINTS_A_RUN, Adapter, Hyperparameters, Method, steps_per_epoch, total_steps, usual_rates

Basis = Literal["formula", "measured"]

CHARACTERS_PER_TOKEN = 4.0
"""Of English: 3.5 where names and JSON abound (tickets, library), 4.3 to 4.6 in plain sentences (replies, topics).
Other languages and programs have fewer: 1 to 3."""
TURN_TOKENS = 5
"""Written by a chat template around a message: a mark at each end, the role, two newlines."""
SYSTEM_TOKENS = 20
"""Of the system prompt that a template adds where the data have none: SmolLM2's has 21."""
COMMON_TOKENS = 24
"""That dressed conversations begin with alike, which is computed once for a whole micro-batch."""
PLAIN_TURN_TOKENS = 2
"""Without a template: a role's name or an end of text."""
LEAST_GAIN = 0.1
"""Rows that begin alike are laid together where that saves such a share of the tokens (`slm.data.prefix`)."""

CORE_FLOPS = 50e9
"""Of matrix products in 32-bit floats by a core with AVX2, all else that goes on in a step included: 52 measured."""
WIDE_CORE_FLOPS = 70e9
"""By a core with AVX-512: 64 to 76 measured."""
GPU_FLOPS = 40e12
"""Of a data-centre GPU in bfloat16, modestly; not measured here."""
READING = 2
"""Operations per parameter and token of looking at a text without learning from it."""
LEARNING = {Adapter.LORA: 4, Adapter.QLORA: 4, Adapter.FULL: 6}
"""The same forth and back; a frozen parameter needs no gradient of its own."""
WRITING = 6
"""The same for a token that is generated, in batches of tens: 11 ms with SmolLM2. Few rows use a core badly."""
FETCHING = 23
"""Operations that pass while a parameter is fetched for a step of generation, whatever the rows: 45 ms with SmolLM2."""
LAYER_SECONDS = 0.004
"""Of a micro-batch in each layer, besides its products: 40 ms in MiniLM's six, where rows of 12 tokens show it."""
OPTIMIZER_SECONDS = 2.6e-9
"""Of a step, for each parameter that learns: 58 ms for MiniLM's 22.7 million."""
SECONDS_PER_BYTE = 4e-9
"""Of writing a checkpoint and its digests: 4 s a gigabyte."""
START_SECONDS = 5.0
"""Of rows, weights and digests, and of what the scorecard needs besides models."""
WAITING = 1.15
"""What a second thread and more add to processor time, by waiting for each other: 14 % on two free cores."""
SHOTS = 4
"""Examples that the base is shown where it is asked for comparison (`slm.baselines`)."""
ANSWERED_TOGETHER = 32
"""Rows whose answers are written at once (`slm.generate`)."""
MASKED = 0.15
"""Share of tokens to be found again (`slm.methods.mask`)."""

RUNTIME_BYTES = 600_000_000
"""Of the libraries, before any model."""
LAYER_BYTES = 72
"""Held for each token, layer and unit of width until the gradients are known."""
LOGIT_BYTES = 12
"""Held for each learned token and word of the vocabulary: the logits, their copy in the loss, their gradient."""
MICRO_BATCH = 4
LONG_SECONDS = 15 * 60
FEW_ROWS = 20
FULL_MEMORY = 0.8
"""A share of the machine's memory beyond which a training is warned of."""
FAR_BEYOND = 1.5
"""A share beyond which it is refused."""

SPREAD: dict[Basis, dict[str, float]] = {
    "formula": {"tokens": 1.5, "memory_bytes": 1.5, "seconds": 2.5, "cpu_seconds": 2.0, "checkpoint_bytes": 1.1},
    "measured": {"memory_bytes": 1.3, "seconds": 2.0, "cpu_seconds": 1.5, "checkpoint_bytes": 1.1},
}
"""How many times more or less a figure may come out; one that is not named is exact, as long as no row is dropped.

Tokens of English; time on the clock of a machine that does little else; a GPU's time by formula is `GPU_SPREAD`.
"""
GPU_SPREAD = 5.0


@dataclass(frozen=True)
class Data:
    """What is known of the rows before a tokenizer has seen them."""

    rows: int
    """Those that become examples."""
    characters: int
    """Of all of them together."""
    longest: int = 0
    """Characters of the longest."""
    learned_characters: int | None = None
    held_out: int | None = None
    """Rows of an evaluation dataset; null where a part of the rows themselves is held out."""
    turns: float = 2
    """Messages of a row, on average; a prompt and its answer are two."""
    own_system: bool = False
    """Whether a system prompt is among them."""
    plain: bool = False
    """Whether rows are texts, which nothing is written around and nothing is asked about."""


@dataclass(frozen=True)
class Estimate:
    """By formula, before anything is measured. Seconds and bytes are for this machine's processor or GPU."""

    steps: int
    tokens: int
    """Read in all steps together."""
    seconds: float
    cpu_seconds: float | None
    """Null on a GPU, where the processor waits."""
    memory_bytes: int
    checkpoint_bytes: int
    """The most that checkpoints take on the disk at a time."""
    train_examples: int
    eval_examples: int
    basis: Basis = "formula"
    packed: bool = False
    """Whether examples are sequences of as many texts as fit, whose number hangs on their tokens."""


@dataclass(frozen=True)
class _Row:
    """An example of mean length, in tokens; of both answers where there are two."""

    tokens: float
    learned: float
    answer: float
    """Of the last answer alone."""
    width: float
    """Of one sequence."""
    longest: float
    """The same for the longest example."""
    computed: float
    """Tokens that are computed, where those that a micro-batch has in common are computed once."""


def estimate(
    config: Hyperparameters, *, shape: Shape, data: Data, cores: int, gpu: bool, wide: bool = False
) -> Estimate:
    """`cores` are those that the training may use; `wide`: whether they have AVX-512."""
    if config.from_scratch:
        shape = Shape.from_scratch(data.characters)
    row = _row(config, shape, data, gpu=gpu)
    learned_rows, held_out = _parted(config, data)
    if config.packing and config.method is Method.PRETRAIN:
        row, texts = _packed(config, shape, row)
        learned_rows, held_out = math.ceil(learned_rows / texts), math.ceil(held_out / texts)
    per_epoch = steps_per_epoch(learned_rows, config.batch_size)
    steps = total_steps(per_epoch, config.epochs, config.max_steps)
    epochs, further = divmod(steps, per_epoch)
    read = epochs * learned_rows + min(further * config.batch_size, learned_rows)
    passes = epochs + (further > 0)
    learned = shape.learned(config)
    checkpoint = 12 * learned + (1 << 20)
    asked_before = learned_rows + held_out if config.method is Method.DPO else 0
    operations = (
        read * _learning(config, shape, row)
        + asked_before * _reading(config, shape, row)
        + _judging(config, shape, data, row, held_out=held_out, passes=passes)
    )
    spent = operations / (GPU_FLOPS if gpu else WIDE_CORE_FLOPS if wide else CORE_FLOPS)
    spent += math.ceil(read / _micro_batch(config)) * shape.layers * LAYER_SECONDS
    spent += steps * learned * OPTIMIZER_SECONDS
    spent += (_checkpoints(config, steps) + passes) * checkpoint * SECONDS_PER_BYTE
    spent = (spent + START_SECONDS) * (1 if gpu or cores < 2 else WAITING)
    return Estimate(
        steps=steps,
        tokens=round(read * row.tokens),
        seconds=spent if gpu else spent / max(cores, 1),
        cpu_seconds=None if gpu else spent,
        memory_bytes=_memory(config, shape, data, row, learned),
        checkpoint_bytes=(config.save_total_limit + 2) * checkpoint,
        train_examples=learned_rows,
        eval_examples=held_out,
        packed=config.packing and config.method is Method.PRETRAIN,
    )


def _parted(config: Hyperparameters, data: Data) -> tuple[int, int]:
    """Rows that are learned from and rows that are held out, of which there is one at least where any is wanted."""
    rows = max(data.rows, 1)
    if data.held_out is not None:
        return rows, data.held_out
    held_out = max(1, round(rows * config.eval_fraction)) if config.eval_fraction and rows > 1 else 0
    return rows - held_out, held_out


def _packed(config: Hyperparameters, shape: Shape, row: _Row) -> tuple[_Row, float]:
    """A sequence filled with texts of mean length, and how many those are."""
    texts = max(1.0, _limit(config, shape) / row.width)
    more = {name: getattr(row, name) * texts for name in ("tokens", "learned", "width", "computed")}
    return replace(row, **more, longest=row.width * texts), texts


def _limit(config: Hyperparameters, shape: Shape) -> int:
    return min(config.max_length, shape.positions or config.max_length)


def between(estimated: Estimate, name: str) -> tuple[float, float]:
    """The least and the most that the figure may come out at, see `SPREAD`."""
    value = float(getattr(estimated, name))
    spread = SPREAD[estimated.basis].get(name, 1.0)
    if name == "steps" and estimated.packed:
        spread = SPREAD[estimated.basis].get("tokens", 1.0)
    if name == "seconds" and estimated.cpu_seconds is None and estimated.basis == "formula":
        spread = GPU_SPREAD
    return value / spread, value * spread


def _row(config: Hyperparameters, shape: Shape, data: Data, *, gpu: bool) -> _Row:
    rows, answers = max(data.rows, 1), (data.learned_characters or 0) / CHARACTERS_PER_TOKEN
    sides = 2 if config.method is Method.DPO else 1
    limit = _limit(config, shape)
    around = _around(config, shape, data)
    # Each of two answers stands behind the whole prompt.
    text = data.characters / CHARACTERS_PER_TOKEN
    content = (2 * text - answers) / sides if sides == 2 else text
    width = min(content / rows + around, limit)
    longest = min(data.longest / CHARACTERS_PER_TOKEN + around, limit) if data.longest else width
    answered = max(1.0, (data.turns - data.own_system) / 2)
    learned = {Method.CLASSIFY: 0.0, Method.MASK: MASKED * width, Method.PRETRAIN: width}.get(
        config.method, min(answers / rows, sides * width)
    )
    alike = 0.0
    if not gpu and shape.templated and config.method in {Method.SFT, Method.DPO} and not data.plain:
        alike = COMMON_TOKENS / width * (1 - 1 / (sides * _micro_batch(config)))
    return _Row(
        tokens=sides * width,
        learned=learned,
        answer=answers / rows / answered,
        width=width,
        longest=max(longest, width),
        computed=sides * width * (1 - alike if alike >= LEAST_GAIN else 1),
    )


def _around(config: Hyperparameters, shape: Shape, data: Data) -> float:
    """Tokens of one sequence that are not in the data."""
    if data.plain or config.method not in {Method.SFT, Method.DPO}:
        return PLAIN_TURN_TOKENS
    if not shape.templated:
        return PLAIN_TURN_TOKENS * data.turns
    return TURN_TOKENS * data.turns + (0 if data.own_system else SYSTEM_TOKENS)


def _micro_batch(config: Hyperparameters) -> int:
    return min(config.per_device_train_batch_size or MICRO_BATCH, config.batch_size)


def _products(shape: Shape, row: _Row) -> float:
    """Multiplications for a row: every token by the body, learned ones by the head, and by each other in attention."""
    attention = 1 + row.width / (6 * shape.hidden)
    return row.computed * shape.body * attention + row.learned * shape.head


def _reading(config: Hyperparameters, shape: Shape, row: _Row) -> float:
    """Operations of looking at a row."""
    return READING * _products(shape, row)


def _learning(config: Hyperparameters, shape: Shape, row: _Row) -> float:
    """Operations of learning from a row; parameters beside the base are learned in full."""
    beside = 0 if config.adapter is Adapter.FULL else shape.learned(config)
    return LEARNING[config.adapter] * _products(shape, row) + LEARNING[Adapter.FULL] * beside * row.computed


def _judging(config: Hyperparameters, shape: Shape, data: Data, row: _Row, *, held_out: int, passes: int) -> float:
    """Operations of validation, and of the scorecard: base and tuned are scored; they and few shots answer."""
    reading = min(held_out, config.eval_max_rows) * (passes + 2) * _reading(config, shape, row)
    answered = min(held_out, config.generate_max_rows)
    if config.method is not Method.SFT or data.plain or not answered:
        return reading
    asked = answered * max(row.computed - row.answer, 0.0) + SHOTS * row.tokens / 3
    written = min(config.max_new_tokens, 1.5 * row.answer + 8)
    fetched = math.ceil(answered / ANSWERED_TOGETHER) * FETCHING
    return reading + 3 * (READING * asked * shape.body + written * (answered * WRITING + fetched) * shape.parameters)


def _checkpoints(config: Hyperparameters, steps: int) -> int:
    """Beside those at each validation."""
    return steps // (config.save_steps or math.ceil(steps / CHECKPOINTS_A_RUN[config.adapter]))


def _memory(config: Hyperparameters, shape: Shape, data: Data, row: _Row, learned: int) -> int:
    """The most that the process holds: libraries, weights, what learning adds to them, what a micro-batch leaves."""
    weights = 4 * shape.parameters
    if config.adapter is Adapter.FULL:
        # Gradients and two moments; and the untrained base beside the trained model when both are scored.
        weights += 12 * shape.parameters + 4 * shape.parameters
    elif config.adapter is Adapter.QLORA:
        weights = shape.parameters
    if config.adapter is not Adapter.FULL:
        weights += 16 * learned
    held = _micro_batch(config) * row.longest * (2 if config.method is Method.DPO else 1)
    share = row.learned / row.tokens
    logits = held * share * shape.vocabulary * LOGIT_BYTES
    return round(RUNTIME_BYTES + weights + held * shape.layers * shape.hidden * LAYER_BYTES + logits)


def warnings(config: Hyperparameters, estimated: Estimate | None, *, rows: int) -> list[str]:
    """Sentences about what is allowed but unwise."""
    found = []
    low, usual, high = usual_rates(config)
    if not low <= config.learning_rate <= high:
        word = "high" if config.learning_rate > high else "low"
        found.append(
            f"learning_rate {config.learning_rate:g} is unusually {word} for {config.method.value} with "
            f"{config.adapter.value}; {usual:g} is a good start."
        )
    if rows < FEW_ROWS:
        found.append(f"{rows} rows are very few: the model may learn them by heart and little else.")
    if config.packing and config.method is not Method.PRETRAIN:
        found.append(f"packing is of method pretrain; {config.method.value} learns one row a sequence.")
    if estimated is not None and estimated.seconds > LONG_SECONDS:
        passes = f"{config.epochs:g} epochs" if config.max_steps is None else f"{estimated.steps} steps"
        least, most = (spoken(seconds) for seconds in between(estimated, "seconds"))
        basis = "by formula" if estimated.basis == "formula" else "by a trial"
        sooner = "; early stopping may end it sooner" if config.early_stopping_patience is not None else ""
        found.append(
            f"This will take about {spoken(estimated.seconds)} on this machine ({passes}, about {estimated.tokens:,} "
            f"tokens; {basis}, between {least} and {most}). "
            f"Fewer epochs, max_steps or a shorter max_length make it shorter{sooner}."
        )
    return found


def spoken(seconds: float) -> str:
    """A duration for people: `45 s`, `12 min`, `1 h 20 min`, `3 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{round(hours / 24)} days"
