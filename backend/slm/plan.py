"""What a training will take, by formula: steps, tokens, time. Standard library only, so that the platform may ask.

Constants were measured on two cores of a laptop-class CPU: LoRA over 134.5 million parameters took 11.6 CPU-seconds
per 1,000 tokens, which is 4 floating-point operations per parameter and token at 46 GFLOP/s a core.
"""

from __future__ import annotations

from dataclasses import dataclass

from slm.spec import METHOD_FACTS, Adapter, Hyperparameters, steps_per_epoch

CHARACTERS_PER_TOKEN = 4.0
TEMPLATE_TOKENS = 20
CORE_FLOPS = 46e9
GPU_FLOPS = 40e12
_OPERATIONS = {Adapter.LORA: 4, Adapter.QLORA: 4, Adapter.FULL: 6}
LONG_SECONDS = 15 * 60
FEW_ROWS = 20


@dataclass(frozen=True)
class Estimate:
    """By formula, before anything is measured. Seconds are for this machine's processor or GPU."""

    steps: int
    tokens: int
    seconds: float
    basis: str = "formula"


def estimate(
    config: Hyperparameters, *, parameters: int, rows: int, characters: int, longest: int, cores: int, gpu: bool
) -> Estimate:
    """`characters` of all rows together; `rows` that become examples; `cores` that the training may use."""
    rows = max(rows, 1)
    per_row = min(characters / rows / CHARACTERS_PER_TOKEN + TEMPLATE_TOKENS, config.max_length)
    learned_rows = max(1, round(rows * (1 - config.eval_fraction)))
    steps = round(steps_per_epoch(learned_rows, config.batch_size) * config.epochs) or 1
    if config.max_steps is not None:
        steps = min(steps, config.max_steps)
    tokens = round(min(steps * config.batch_size, learned_rows * config.epochs) * per_row)
    flops = GPU_FLOPS if gpu else CORE_FLOPS * max(cores, 1)
    return Estimate(steps, tokens, tokens * _OPERATIONS[config.adapter] * max(parameters, 1) / flops)


def warnings(config: Hyperparameters, estimated: Estimate | None, *, rows: int) -> list[str]:
    """Sentences about what is allowed but unwise."""
    found = []
    low, usual, high = METHOD_FACTS[config.method].rates[config.adapter]
    if not low <= config.learning_rate <= high:
        word = "high" if config.learning_rate > high else "low"
        found.append(
            f"learning_rate {config.learning_rate:g} is unusually {word} for {config.method.value} with "
            f"{config.adapter.value}; {usual:g} is a good start."
        )
    if rows < FEW_ROWS:
        found.append(f"{rows} rows are very few: the model may learn them by heart and little else.")
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
