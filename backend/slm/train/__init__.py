"""A training from its spec to its artifacts; the story that `python -m slm.run DIR` tells in `DIR/events.jsonl`.

started → preparing (digests, rows, tokens) → prepared → loading (weights) → training → evaluating → saving → finished.
Data come before weights, so that a file without anything to learn fails within seconds. The base is scored after the
training, so that the first step comes at once. A killed run goes on from its newest whole checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from slm import adapters, checkpoints, scratch
from slm.checkpoints import Checkpoint, Loaded
from slm.data.render import BaseRenderer
from slm.errors import Cancelled, Interrupted, RunFailure
from slm.evaluate import Subject, scorecard
from slm.events import EventLog, Stop, cancel_requested
from slm.methods import METHODS, Recipe
from slm.spec import Adapter, TrainSpec, steps_per_epoch, total_steps
from slm.train import evidence, outcome, references, rows
from slm.train import machine as machines
from slm.train.loop import Loop
from slm.train.machine import Machine
from slm.train.progress import Progress, Usage

CHECKPOINTS = "checkpoints"


def train(spec: TrainSpec, directory: Path, log: EventLog, stop: Stop | None = None) -> None:
    """Carry out a training attempt; on return the log ends with `finished`.

    Raises `RunFailure`, `Cancelled` (with the checkpoint that is kept) or `Interrupted`; anything else is a defect or
    the machine's (out of memory). `stop` is asked at least once a micro-batch.
    """
    Training(absolute(spec, directory), directory, log, stop or Stop(directory)).run()


@dataclass
class _Resumed:
    checkpoint: Checkpoint
    progress: Progress


class Training:
    """One attempt, phase by phase; `slm.trial` measures the same phases."""

    LOOP = Loop

    def __init__(self, spec: TrainSpec, directory: Path, log: EventLog, stop: Stop) -> None:
        self.spec, self.config, self.directory, self.log, self.stop = spec, spec.config, directory, log, stop
        self.recipe: Recipe = METHODS[spec.config.method]
        self.folder = directory / CHECKPOINTS
        self.head: dict[str, Any] = {}
        """What the rows decide about the model (`Recipe.fit`)."""

    def run(self) -> None:
        try:
            self._carry_out()
        except Cancelled as cancelled:
            newest = next(iter(checkpoints.complete(self.folder)), None)
            step = cancelled.step or (newest.step if newest else 0)
            raise Cancelled(step=step, checkpoint=newest.name if newest else None) from None

    def _carry_out(self) -> None:
        warnings: list[str] = []
        self.folder.mkdir(exist_ok=True)
        checkpoints.sweep(self.folder)
        resumed = self._resumed(warnings.append)
        self.usage = Usage(resumed.progress if resumed else Progress())
        machine = self._start(resumed, warnings)
        tokenizer, renderer, prepared = self._prepare()
        model = self._load()
        prepared = self._refer(model, prepared, machine.device)
        loop = self._loop(model, tokenizer, renderer, prepared, machine, resumed)
        self._learn(loop, resumed)
        evaluation = self._evaluate(loop, tokenizer, prepared)
        self._finish(loop, tokenizer, evaluation)

    # -- before training

    def _resumed(self, warn: Callable[[str], None]) -> _Resumed | None:
        """The newest checkpoint that is whole and tells where it stood."""
        while (checkpoint := checkpoints.newest_whole(self.folder, warn)) is not None:
            try:
                return _Resumed(checkpoint, Progress.load(checkpoint.path))
            except (OSError, ValueError, TypeError) as error:
                warn(f"Checkpoint {checkpoint.name} does not tell where it stood ({error}); an older one is used.")
                shutil.rmtree(checkpoint.path, ignore_errors=True)
        return None

    def _start(self, resumed: _Resumed | None, warnings: list[str]) -> Machine:
        earlier = resumed.progress.machine if resumed else None
        machine = machines.choose(self.config, threads=self.spec.threads, earlier=earlier)
        torch.set_num_threads(machine.threads)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        transformers.set_seed(self.config.seed)
        self.log.append(
            "started",
            resumed_from_step=resumed.checkpoint.step if resumed else None,
            pid=os.getpid(),
            versions=machines.versions(),
            **machine.as_fields(),
        )
        for sentence in warnings:
            self._warn_broken(sentence)
        self.stop.check()
        return machine

    def _prepare(self) -> tuple[Any, BaseRenderer, rows.Prepared]:
        self.log.append("phase", phase="preparing")
        adapters.require(self.config, self.spec.model)
        config = self._described()
        if (refusal := self.recipe.refusal(config) or self._other_head()) is not None:
            raise RunFailure("model_unsupported", refusal)
        ground = self.recipe.ground(
            self.spec.model,
            config,
            config=self.config,
            texts=lambda: rows.texts(self.spec, self.directory, self._beat("preparing")),
            directory=self.directory,
        )
        if ground != self.spec.model:
            self.spec = self.spec.model_copy(update={"model": ground})
            config = checkpoints.load_config(ground)
        tokenizer = checkpoints.load_tokenizer(self.spec.model)
        length = min(self.config.max_length, checkpoints.context_length(config, tokenizer))
        renderer = self.recipe.renderer(tokenizer, max_length=length, config=self.config)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        prepared = rows.prepare(self.spec, self.directory, renderer, self._beat("preparing"))
        if length < self.config.max_length:
            self._warn("max_length_lowered", f"This model reads at most {length} tokens, so max_length is {length}.")
        for code, message in prepared.warnings:
            self._warn(code, message)
        same = self.spec.model.method is self.config.method
        known = checkpoints.known_head(self.spec.model, config) if same and self.recipe.OWN_HEAD else {}
        self.head = self.recipe.fit(prepared.train, prepared.held_out, tokenizer=tokenizer, head=known, warn=self._warn)
        per_epoch = steps_per_epoch(len(prepared.train), self.config.batch_size)
        planned = total_steps(per_epoch, self.config.epochs, self.config.max_steps)
        counts = {**prepared.as_fields(), "steps_per_epoch": per_epoch, "total_steps": planned}
        self.log.append("prepared", payload=counts)
        return tokenizer, renderer, prepared

    def _described(self) -> Any:
        """The configuration of what was asked for; from scratch, its architecture's, which needs no weights."""
        kind = self.spec.model.model_type
        if self.config.from_scratch and kind is not None:
            return scratch.plain_config(kind)
        return checkpoints.load_config(self.spec.model)

    def _other_head(self) -> str | None:
        """Why a model that another method gave a head of its own cannot learn by this one, or None."""
        earlier = self.spec.model.method
        if earlier is None or self.recipe.OWN_HEAD or METHODS[earlier].MODEL_CLASS is self.recipe.MODEL_CLASS:
            return None
        return (
            f"'{self.spec.model.name}' was trained by {earlier.value} and has the head for it; "
            f"{self.config.method.value} needs the head that this has replaced."
        )

    def _warn(self, code: str, message: str) -> None:
        self.log.append("warned", code=code, message=message)

    def _load(self) -> Any:
        self.log.append("phase", phase="loading")
        self.stop.check()
        loaded = self._untrained()
        if loaded.new and not self.recipe.OWN_HEAD:
            self._warn("head_untrained", f"The base comes without {', '.join(loaded.new)}: they begin untrained.")
        self.stop.check()
        loaded.model.config.use_cache = False
        # LoRA's first matrices must not depend on what was drawn before.
        transformers.set_seed(self.config.seed)
        return adapters.prepare(loaded.model, self.config, task_type=self.recipe.TASK_TYPE, new=loaded.new)

    def _refer(self, model: Any, prepared: rows.Prepared, device: str) -> rows.Prepared:
        """The rows with what the base says of them, where the method compares with it; asked once in a run's life."""
        if not self.recipe.COMPARES:
            return prepared
        kept = references.load(self.directory, prepared, beta=self.config.dpo_beta)
        if kept is not None:
            return kept
        done, total = 0, len(prepared.train) + len(prepared.held_out)
        beat = self._beat("loading")

        def scored(count: int) -> None:
            nonlocal done
            done += count
            beat(done, total)

        model.to(device).eval()
        train, held_out = (
            self.recipe.refer(model, part, beta=self.config.dpo_beta, scored=scored)
            for part in (prepared.train, prepared.held_out)
        )
        found = replace(prepared, train=train, held_out=held_out)
        references.save(self.directory, found)
        return found

    def _untrained(self) -> Loaded:
        """The model to start from; what it does not bring is drawn anew, always the same."""
        transformers.set_seed(self.config.seed)
        keywords = {**self.head, **adapters.quantised(self.config)}
        return checkpoints.load(self.spec.model, self.directory, model_class=self.recipe.MODEL_CLASS, **keywords)

    def _loop(
        self,
        model: Any,
        tokenizer: Any,
        renderer: BaseRenderer,
        prepared: rows.Prepared,
        machine: Machine,
        resumed: _Resumed | None,
    ) -> Loop:
        progress = resumed.progress if resumed else Progress()
        progress.machine = machine.as_fields()
        return self.LOOP(
            model,
            prepared.train,
            prepared.held_out,
            recipe=self.recipe,
            renderer=renderer,
            config=self.config,
            machine=machine,
            folder=self.folder,
            pad_id=tokenizer.pad_token_id,
            progress=progress,
            usage=self.usage,
            log=self.log,
            check=self.stop.check,
        )

    # -- training and after

    def _learn(self, loop: Loop, resumed: _Resumed | None) -> None:
        """Train to the end, or save where it stood when asked to stop; leaves the best weights in the model."""
        self.log.append("phase", phase="training")
        # The newest ones, the best, and the one being written.
        held = sum(checkpoint.bytes for checkpoint in checkpoints.complete(self.folder))
        room = (self.config.save_total_limit + 2) * loop.checkpoint_bytes() - held
        checkpoints.require_space(self.folder, room, "the checkpoints")
        kept = resumed.checkpoint.step if resumed else 0
        start = resumed.checkpoint.path if resumed else None
        try:
            if start is not None and loop.progress.unevaluated:
                checkpoints.load_weights(loop.model, start)
                loop.evaluate()
                loop.amend(start)
            if not loop.finished():
                loop.train(resume_from_checkpoint=str(start) if start else None)
        except (Cancelled, Interrupted) as asked:
            marker = cancel_requested(self.directory)
            wanted = marker is None or marker.get("save", True)
            if wanted and loop.progress.step > kept:
                loop.save_stopped()
            if isinstance(asked, Cancelled):
                raise Cancelled(step=loop.progress.step) from None
            raise
        self._restore_best(loop)

    def _restore_best(self, loop: Loop) -> None:
        """Put the weights with the lowest validation loss into the model, the last ones where nothing was held out."""
        wanted = loop.progress.best_step or loop.progress.step
        for checkpoint in checkpoints.complete(self.folder):
            if checkpoint.step == wanted and checkpoints.fault(checkpoint) is None:
                checkpoints.load_weights(loop.model, checkpoint.path)
                return
        last = checkpoints.newest_whole(self.folder, self._warn_broken)
        if last is None:
            raise RunFailure("checkpoint_corrupt", "No checkpoint of this training is whole any more.")
        sentence = f"The best checkpoint (step {wanted}) is gone or broken; the result is that of step {last.step}."
        self._warn_broken(sentence)
        checkpoints.load_weights(loop.model, last.path)

    def _warn_broken(self, sentence: str) -> None:
        self._warn("checkpoint_corrupt", sentence)

    def _evaluate(self, loop: Loop, tokenizer: Any, prepared: rows.Prepared) -> dict[str, Any]:
        self.log.append("phase", phase="evaluating")
        working = self.directory / outcome.WORKING
        shutil.rmtree(working, ignore_errors=True)
        working.mkdir()
        card: dict[str, Any] = {
            "metrics": {},
            "base_metrics": {},
            "intervals": {},
            "rows_scored": 0,
            "rows_available": 0,
            "verdict": "No rows were held out, so nothing was scored.",
        }
        if prepared.held_out:
            card = scorecard(
                Subject(loop.model, tokenizer, self.config.method, lambda: self._base(loop)),
                evidence.of(self.spec, prepared, self.directory),
                scoring=evidence.scoring(self.config),
                report=lambda phase, done, total: self.log.beat(phase, done=done, total=total),
                check=self.stop.check,
                samples_path=working / outcome.SAMPLES,
            )
        self.usage.note(loop.progress)
        statistics = outcome.training_statistics(
            loop.progress, total_steps=loop.total_steps, prepared=prepared.as_fields()
        )
        return {**card, "loss_curve": outcome.loss_curve(loop.progress), "training_statistics": statistics}

    @contextmanager
    def _base(self, loop: Loop) -> Iterator[Any]:
        """The model as it was before training: without its adapter, or loaded once more where all weights learned."""
        if self.config.adapter is not Adapter.FULL:
            with loop.model.disable_adapter():
                yield loop.model
            return
        yield self._untrained().model.eval().to(loop.args.device)

    def _finish(self, loop: Loop, tokenizer: Any, evaluation: dict[str, Any]) -> None:
        self.log.append("phase", phase="saving")
        beat = self._beat("saving")
        working = self.directory / outcome.WORKING
        learned = sum(p.numel() * p.element_size() for p in loop.model.parameters() if p.requires_grad)
        checkpoints.require_space(self.directory, learned + (16 << 20), "the trained weights")
        beat(0, 3)
        (working / outcome.EVALUATION).write_text(json.dumps(evaluation, indent=1))
        made = outcome.save_model(
            loop.model,
            tokenizer,
            self.spec,
            working,
            model_class=self.recipe.MODEL_CLASS.__name__,
            head=self.head,
        )
        beat(1, 3)
        listed = outcome.list_artifacts(working)
        beat(2, 3)
        checkpoints.publish(working, self.directory / outcome.ARTIFACTS)
        made |= {"precision": loop.progress.machine["precision"]}
        self.log.append("finished", durable=True, artifacts=listed, evaluation=evaluation, model=made)

    def _beat(self, phase: str) -> rows.Beat:
        def beat(done: int, total: int) -> None:
            self.stop.check()
            self.log.beat(phase, done=done, total=total)

        return beat


def absolute(spec: TrainSpec, directory: Path) -> TrainSpec:
    """The spec with the model's folders made absolute; relative ones are below the run directory."""
    reference = spec.model
    folders = tuple(str(directory / folder) for folder in reference.adapters)
    model = reference.model_copy(update={"path": str(directory / reference.path), "adapters": folders})
    return spec.model_copy(update={"model": model})
