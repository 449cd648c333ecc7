"""What a training will take, by formula: steps, tokens, memory, time. Standard library only: the platform may ask.

Constants were measured on cores of a laptop-class CPU: LoRA over 134.5 million parameters took 11.6 CPU-seconds per
1,000 tokens, which is 4 floating-point operations per parameter and token at 46 GFLOP/s a core; half of that where rows
begin alike. A formula knows characters, not tokens, and so is a first guess; `slm.trial` measures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from slm.spec import Adapter, Hyperparameters, Method, steps_per_epoch, usual_rates

CHARACTERS_PER_TOKEN = 4.0
TEMPLATE_TOKENS = 20
CORE_FLOPS = 46e9
GPU_FLOPS = 40e12
_OPERATIONS = {Adapter.LORA: 4, Adapter.QLORA: 4, Adapter.FULL: 6}
READING = 2
"""Operations per parameter and token of looking at a text without learning from it."""
WRITING = 5
"""The same for a token that is generated: weights are read once for a few rows only."""
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


@dataclass(frozen=True)
class Shape:
    """A model as far as the formulas look at it."""

    parameters: int
    hidden: int
    layers: int
    intermediate: int
    keys: int
    """Width of the keys, and of the values; that of the queries is `hidden`."""
    vocabulary: int
    gated: bool
    """Whether the feed-forward layers have three matrices, as Llama's, and not two."""

    @classmethod
    def of(cls, parameters: int, config: Mapping[str, Any] | None) -> Shape:
        """From the `config.json` beside the weights; without one, what such a size usually looks like.

        `parameters` 0 means that nobody has counted them.
        """
        found = config or {}

        def number(*names: str, default: int) -> int:
            return next((int(found[name]) for name in names if isinstance(found.get(name), int)), default)

        guess = 64
        while 12 * (guess / 64) * guess**2 + 32_000 * guess < parameters:
            guess += 64
        hidden = number("hidden_size", "n_embd", "d_model", default=guess)
        layers = number("num_hidden_layers", "n_layer", "num_layers", default=max(2, hidden // 64))
        heads = number("num_attention_heads", "n_head", default=max(1, hidden // 64))
        keys = number("num_key_value_heads", default=heads) * number("head_dim", default=hidden // max(heads, 1))
        intermediate = number("intermediate_size", "n_inner", default=4 * hidden)
        vocabulary = number("vocab_size", default=32_000)
        gated = str(found.get("model_type", "")) not in {"", "gpt2", "bert", "distilbert", "roberta"}
        layer = 2 * hidden * (hidden + keys) + (3 if gated else 2) * hidden * intermediate
        return cls(
            parameters=parameters or layers * layer + vocabulary * hidden,
            hidden=hidden,
            layers=layers,
            intermediate=intermediate,
            keys=keys,
            vocabulary=vocabulary,
            gated=gated,
        )

    def learned(self, config: Hyperparameters) -> int:
        """Parameters that learn."""
        if config.adapter is Adapter.FULL:
            return self.parameters
        attention = 4 * self.hidden + 2 * (self.hidden + self.keys)
        feed_forward = (3 if self.gated else 2) * (self.hidden + self.intermediate)
        return config.lora_r * self.layers * (attention + feed_forward)


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
    basis: str = "formula"


def estimate(config: Hyperparameters, *, shape: Shape, data: Data, cores: int, gpu: bool) -> Estimate:
    """`cores` are those that the training may use."""
    rows = max(data.rows, 1)
    sides = 2 if config.method is Method.DPO else 1
    per_row = sides * min(data.characters / rows / CHARACTERS_PER_TOKEN + TEMPLATE_TOKENS, config.max_length)
    held_out = round(rows * config.eval_fraction) if data.held_out is None else data.held_out
    learned_rows = max(1, rows - held_out) if data.held_out is None else rows
    steps = max(1, round(steps_per_epoch(learned_rows, config.batch_size) * config.epochs))
    if config.max_steps is not None:
        steps = min(steps, config.max_steps)
    read = min(steps * config.batch_size, learned_rows * config.epochs)
    tokens = round(read * per_row)
    work = tokens * _OPERATIONS[config.adapter] + _judging(config, data, held_out, per_row, passes=read / learned_rows)
    flops = GPU_FLOPS if gpu else CORE_FLOPS
    seconds = work * shape.parameters / flops
    learned = shape.learned(config)
    return Estimate(
        steps=steps,
        tokens=tokens,
        seconds=seconds if gpu else seconds / max(cores, 1),
        cpu_seconds=None if gpu else seconds,
        memory_bytes=_memory(config, shape, data, learned, per_row),
        checkpoint_bytes=(config.save_total_limit + 2) * (12 * learned + (1 << 20)),
        train_examples=learned_rows,
        eval_examples=held_out,
    )


def _judging(config: Hyperparameters, data: Data, held_out: int, per_row: float, *, passes: float) -> float:
    """Operations per parameter of validation and of the scorecard: base and tuned are scored, and answer."""
    scored = min(held_out, config.eval_max_rows)
    reading = scored * per_row * READING * (max(1.0, passes) + 2)
    if config.method is not Method.SFT:
        return reading
    answer = (data.learned_characters or 0) / max(data.rows, 1) / CHARACTERS_PER_TOKEN
    written = min(config.max_new_tokens, 1.5 * answer + 8)
    return reading + 3 * min(held_out, config.generate_max_rows) * (written * WRITING + per_row * READING)


def _memory(config: Hyperparameters, shape: Shape, data: Data, learned: int, per_row: float) -> int:
    """The most that the process holds: libraries, weights, what learning adds to them, what a micro-batch leaves."""
    weights = 4 * shape.parameters
    if config.adapter is Adapter.FULL:
        # Gradients and two moments; and the untrained base beside the trained model when both are scored.
        weights += 12 * shape.parameters + 4 * shape.parameters
    elif config.adapter is Adapter.QLORA:
        weights = shape.parameters
    if config.adapter is not Adapter.FULL:
        weights += 16 * learned
    micro = min(config.per_device_train_batch_size or MICRO_BATCH, config.batch_size)
    longest = min(data.longest / CHARACTERS_PER_TOKEN + TEMPLATE_TOKENS, config.max_length) if data.longest else per_row
    held = micro * longest * (2 if config.method is Method.DPO else 1)
    share = (data.learned_characters or 0) / max(data.characters, 1) if config.method is Method.SFT else 1.0
    logits = 0.0 if config.method is Method.CLASSIFY else held * share * shape.vocabulary * LOGIT_BYTES
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
        found.append(
            f"This will take about {spoken(estimated.seconds)} on this machine ({passes}, about {estimated.tokens:,} "
            f"tokens; an estimate by formula). Fewer epochs, max_steps or a shorter max_length make it shorter; "
            f"early stopping may end it sooner."
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
