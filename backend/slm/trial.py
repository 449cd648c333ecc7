"""What a training will take, measured: its own data, weights and machine, a few of its steps, and the rest by counting.

A trial is a training that stops early on purpose. Rows are read and counted as they will be (so steps and tokens are
exact); then typical micro-batches and the longest one are learned from, some held-out rows are validated, scored and
answered, and one checkpoint is written. What each piece costs is multiplied by how often it will come. Nothing that was
learned is kept. Early stopping is not foreseen: the figures are those of a training that goes its whole way.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slm import baselines
from slm.data.batches import EffectiveBatches
from slm.data.render import Rendered
from slm.events import EventLog, Stop, write_atomic
from slm.generate import BATCH_ROWS, BATCH_TOKENS, Sampling, generate
from slm.passes import Passes, choose
from slm.plan import SECONDS_PER_BYTE
from slm.spec import CHECKPOINTS_A_RUN, TrialSpec, total_steps
from slm.train import Training, absolute, evidence
from slm.train.loop import Loop
from slm.train.machine import Machine, peak_memory
from slm.train.rows import Prepared

RESULT = "result.json"
TOGETHER = 2
"""Micro-batches to a step of a trial; what an optimizer step costs besides is measured apart."""
SEEN = 8
"""Held-out rows that are validated, scored and answered."""
WRITTEN = 8
"""Tokens of each of these answers."""
STOPS_EARLIER = 0.8
"""A trained model stops where the answer ends; the longest in a batch decides, which is near the limit."""
LARGEST_SAVED = 256 << 20
"""Bytes of a checkpoint that a trial writes; a larger one is reckoned with `slm.plan.SECONDS_PER_BYTE`."""


@dataclass(frozen=True)
class Spent:
    """Processor seconds over all threads, and seconds on the clock."""

    cpu: float = 0.0
    wall: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.cpu + other.cpu, self.wall + other.wall)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(max(0.0, self.cpu - other.cpu), max(0.0, self.wall - other.wall))

    def __mul__(self, times: float) -> Spent:
        return Spent(self.cpu * times, self.wall * times)

    @classmethod
    def now(cls) -> Spent:
        return cls(time.process_time(), time.monotonic())


class Enough(Exception):
    """The time is up; what was measured so far must do."""


@dataclass
class Stopwatch:
    """What the pieces of a training took."""

    until: float
    """On the monotonic clock: no micro-batch begins later."""
    micro: list[tuple[Spent, int]] = field(default_factory=list)
    """Of each micro-batch, with its tokens."""
    steps: list[Spent] = field(default_factory=list)
    """Of each optimizer step, without its micro-batches."""


class InOrder(EffectiveBatches):
    """The rows as they were chosen, batch after batch."""

    def batches(self) -> list[list[int]]:
        places = range(len(self.lengths))
        return [list(places[at : at + self.batch_size]) for at in range(0, len(places), self.batch_size)]


class TimedLoop(Loop):
    """A training loop that times its pieces, judges nothing and saves nothing by itself."""

    watch: Stopwatch
    _began = Spent()
    _counted = 0

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> Any:
        self._began, self._counted = Spent.now(), len(self.watch.micro)
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        if self.watch.micro and time.monotonic() > self.watch.until:
            raise Enough
        before, tokens = Spent.now(), int(inputs["tokens"])
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.watch.micro.append((Spent.now() - before, tokens))
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            learned = sum((spent for spent, _ in self.watch.micro[self._counted :]), Spent())
            self.watch.steps.append(Spent.now() - self._began - learned)
        super().log(logs, start_time)

    def evaluation_due(self, step: int) -> bool:
        return False

    def checkpoint_due(self, step: int) -> bool:
        return False


def trial(spec: TrialSpec, directory: Path, log: EventLog, stop: Stop | None = None) -> None:
    """Carry out a trial; on return `result.json` holds the figures and the log ends with `finished`.

    Raises what a training raises in its first phases: `RunFailure` where nothing can be learned, memory errors.
    """
    _Trial(spec, directory, log, stop or Stop(directory)).run()


class _Trial(Training):
    LOOP = TimedLoop

    def __init__(self, spec: TrialSpec, directory: Path, log: EventLog, stop: Stop) -> None:
        self.began, self.seconds = Spent.now(), spec.seconds
        super().__init__(absolute(spec.train, directory), directory, log, stop)
        self.asked = self.config
        """The hyperparameters of the training; `config` is cut down to a few steps."""
        self.warnings: list[str] = []
        self.ready = self.referred = self.validated = self.saved = Spent()

    def _warn(self, code: str, message: str) -> None:
        super()._warn(code, message)
        self.warnings.append(message)

    def _refer(self, model: Any, prepared: Prepared, device: str) -> Prepared:
        """Asking the base about every row may take as long as learning: `_loop` asks about the chosen ones."""
        return prepared

    def _loop(
        self, model: Any, tokenizer: Any, renderer: Any, prepared: Prepared, machine: Machine, resumed: Any
    ) -> TimedLoop:
        self.ready = Spent.now() - self.began
        size = min(self.asked.batch_size, TOGETHER * machine.micro_batch)
        model.to(machine.device).eval()
        chosen = chosen_rows(prepared.train, batch_size=self.asked.batch_size, size=size, seed=self.asked.seed)
        few, held_out = ([*chosen], prepared.held_out[: min(SEEN, self.asked.eval_max_rows)])
        before = Spent.now()
        few = self.recipe.refer(model, few, beta=self.asked.dpo_beta)
        held_out = self.recipe.refer(model, held_out, beta=self.asked.dpo_beta)
        tokens = sum(row.size for row in (*few, *held_out))
        everything = sum(row.size for row in (*prepared.train, *prepared.held_out))
        self.referred = (Spent.now() - before) * (everything / max(tokens, 1))
        shortened = {"batch_size": size, "epochs": 1.0, "max_steps": None, "early_stopping_patience": None}
        self.config = self.asked.model_copy(update=shortened)
        machine = replace(machine, accumulation=math.ceil(size / machine.micro_batch))
        small = replace(prepared, train=few, held_out=held_out)
        loop = super()._loop(model, tokenizer, renderer, small, machine, None)
        assert isinstance(loop, TimedLoop)
        loop.batches = InOrder(
            [row.size for row in few], batch_size=size, micro_batch=machine.micro_batch, seed=self.asked.seed
        )
        loop.watch = Stopwatch(until=self.began.wall + self.seconds)
        return loop

    def _learn(self, loop: Loop, resumed: Any) -> None:
        self.log.append("phase", phase="training")
        assert isinstance(loop, TimedLoop)
        with suppress(Enough):
            loop.train()
        if loop.held_out:
            before = Spent.now()
            loop.evaluate()
            self.validated = (Spent.now() - before) * (1 / max(sum(row.size for row in loop.held_out), 1))
        size = loop.checkpoint_bytes()
        before = Spent.now()
        if loop.watch.steps and size <= LARGEST_SAVED:
            loop.save_checkpoint()
            self.saved = Spent.now() - before
        else:
            self.saved = Spent(size * SECONDS_PER_BYTE, size * SECONDS_PER_BYTE)

    def _evaluate(self, loop: Loop, tokenizer: Any, prepared: Prepared) -> dict[str, Any]:
        """What the scorecard will take; the figures are put together here, where all pieces are known."""
        assert isinstance(loop, TimedLoop)
        self.log.append("phase", phase="evaluating")
        judged = self._judged(loop, tokenizer, prepared) if prepared.held_out else Spent()
        return figures(self, loop, prepared, judged)

    def _judged(self, loop: TimedLoop, tokenizer: Any, prepared: Prepared) -> Spent:
        passes = choose(tokenizer, prepared.held_out, self.asked.method, evidence.scoring(self.asked))
        loop.model.eval()
        before = Spent.now()
        self.recipe.measure(loop.model, loop.held_out)
        scored = (Spent.now() - before) * (
            sum(row.size for row in passes.scored) / max(sum(row.size for row in loop.held_out), 1)
        )
        before = Spent.now()
        with self._base(loop) as base:
            loaded = Spent.now() - before
            answered = Answering.measured(base, tokenizer, passes)
        if answered is None:
            return scored * 2 + loaded
        lead = self._lead(loop, tokenizer, prepared, passes)
        total = answered.pass_of(passes, share=STOPS_EARLIER) + answered.pass_of(passes)
        if lead is not None:
            total += answered.pass_of(passes) + answered.reading * lead
        return scored * 2 + loaded + total

    def _lead(self, loop: TimedLoop, tokenizer: Any, prepared: Prepared, passes: Passes) -> int | None:
        """Tokens that the examples of the few-shot baseline put before each question; None without it."""
        learned = evidence.of(self.spec, prepared, self.directory).learned_examples
        if learned is None:
            return None
        context = getattr(loop.model.config.get_text_config(), "max_position_embeddings", None)
        prompts = baselines.few_shot_prompts(
            tokenizer,
            passes.answered,
            baselines.shots(learned()),
            context=context or baselines.FEW_SHOT_CONTEXT,
            answer=passes.sampling.max_new_tokens,
        )
        return None if prompts is None else len(prompts[0]) - len(passes.answered[0].prompt_ids)

    def _finish(self, loop: Loop, tokenizer: Any, evaluation: dict[str, Any]) -> None:
        write_atomic(self.directory / RESULT, json.dumps(evaluation).encode())
        self.log.append("finished", steps_taken=loop.progress.step)


@dataclass(frozen=True)
class Answering:
    """What it takes to read a token of a question, and to write one of an answer: for each step, and for each row."""

    reading: Spent
    step: Spent
    row: Spent

    @classmethod
    def measured(cls, model: Any, tokenizer: Any, passes: Passes) -> Answering | None:
        """Three small batches: a question's reading, eight answers of eight tokens, one of eight."""
        prompts = [row.prompt_ids for row in passes.answered[:SEEN]]
        if not prompts:
            return None

        def took(some: Sequence[Sequence[int]], tokens: int) -> Spent:
            before = Spent.now()
            generate(model, tokenizer, some, sampling=Sampling(tokens))
            return Spent.now() - before

        read, written = took(prompts, 1), took(prompts, 1 + WRITTEN)
        together = (written - read) * (1 / WRITTEN)
        alone = (took(prompts[:1], 1 + WRITTEN) - took(prompts[:1], 1)) * (1 / WRITTEN)
        row = (together - alone) * (1 / max(len(prompts) - 1, 1))
        return cls(read * (1 / sum(map(len, prompts))), alone - row, row)

    def pass_of(self, passes: Passes, *, share: float = 1.0) -> Spent:
        """All answers of one model, each as long as `share` of the limit."""
        rows, limit = len(passes.answered), passes.sampling.max_new_tokens
        asked = sum(len(row.prompt_ids) for row in passes.answered)
        longest = max(len(row.prompt_ids) for row in passes.answered) + limit
        batches = math.ceil(rows / max(1, min(BATCH_ROWS, BATCH_TOKENS // longest)))
        return self.reading * asked + (self.step * batches + self.row * rows) * (limit * share)


def chosen_rows(rows: Sequence[Rendered], *, batch_size: int, size: int, seed: int) -> list[Rendered]:
    """Rows for a few batches of `size`: typical ones, the longest (once the optimizer holds its memory), typical ones.

    They stand as the training would meet them: beside rows of like length, taken from its first epoch.
    """
    batches = EffectiveBatches([row.size for row in rows], batch_size=batch_size, micro_batch=size, seed=seed).batches()
    # The longest row may stand in the epoch's last batch, which is smaller.
    longest = max(batches, key=lambda batch: rows[batch[0]].size)[:size]
    longest += [at for at in batches[0] if at not in longest][: size - len(longest)]
    others = [batch for batch in batches[1:] if len(batch) >= size]
    others.sort(key=lambda batch: sum(rows[at].size for at in batch) / len(batch))
    picked = [longest]
    if others:
        one, other = others[len(others) // 3], others[2 * len(others) // 3]
        picked = [_middle(one, size), longest, _middle(other, size)]
    return [rows[at] for batch in picked for at in batch]


def _middle(batch: list[int], size: int) -> list[int]:
    start = (len(batch) - size) // 2
    return batch[start : start + size]


def tokens_read(rows: Sequence[Rendered], *, batch_size: int, seed: int, steps: int) -> int:
    """Tokens in so many steps: whole epochs, and the first batches of the one that is broken off."""
    batches = EffectiveBatches([row.size for row in rows], batch_size=batch_size, micro_batch=batch_size, seed=seed)
    epochs, rest = divmod(steps, batches.steps)
    batches.epoch = epochs
    broken_off = [at for batch in batches.batches()[:rest] for at in batch] if rest else []
    return epochs * sum(row.size for row in rows) + sum(rows[at].size for at in broken_off)


def figures(done: _Trial, loop: TimedLoop, prepared: Prepared, judged: Spent) -> dict[str, Any]:
    """The whole training, from its pieces."""
    asked, watch = done.asked, loop.watch
    per_epoch = math.ceil(len(prepared.train) / asked.batch_size)
    steps = total_steps(per_epoch, asked.epochs, asked.max_steps)
    tokens = tokens_read(prepared.train, batch_size=asked.batch_size, seed=asked.seed, steps=steps)
    # The first micro-batch also pays for what is set up once.
    counted = watch.micro[1:] or watch.micro
    per_token = sum((spent for spent, _ in counted), Spent()) * (1 / sum(tokens for _, tokens in counted))
    per_step = sum(watch.steps[1:] or watch.steps, Spent()) * (1 / max(len(watch.steps[1:] or watch.steps), 1))
    validations = steps // per_epoch + (steps % per_epoch > 0)
    validated = sum(row.size for row in prepared.held_out[: asked.eval_max_rows]) * validations
    every = asked.save_steps or math.ceil(steps / CHECKPOINTS_A_RUN[asked.adapter])
    saves = len({*range(every, steps + 1, every), *range(per_epoch, steps + 1, per_epoch), steps})
    parts = {
        "preparing": done.ready + done.referred,
        "learning": per_token * tokens + per_step * steps,
        "validating": done.validated * validated,
        "saving": done.saved * (saves + 1),
        "judging": judged,
    }
    spent = sum(parts.values(), Spent())
    memory = peak_memory(loop.args.device.type)
    if not watch.steps:
        memory += 8 * sum(p.numel() for p in loop.model.parameters() if p.requires_grad)
    return {
        "steps": steps,
        "tokens": tokens,
        "seconds": round(spent.wall, 1),
        "cpu_seconds": round(spent.cpu, 1) if loop.args.device.type == "cpu" else None,
        "memory_bytes": memory,
        "checkpoint_bytes": (asked.save_total_limit + 2) * loop.checkpoint_bytes(),
        "train_examples": len(prepared.train),
        "eval_examples": len(prepared.held_out),
        "parts": {name: {"cpu": round(part.cpu, 2), "wall": round(part.wall, 2)} for name, part in parts.items()},
        "warnings": done.warnings,
        "steps_taken": loop.progress.step,
    }
