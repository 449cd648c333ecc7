"""Scores a model that is there already on any rows: the task `evaluate`.

started → preparing (digests, rows) → loading (weights) → evaluating → saving → finished. A fine-tuned model is scored
beside what it was before its last training, loaded for itself; a base alone. Files appear at the very end and by one
rename, so that a run that is cancelled or killed leaves none.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers

from slm import checkpoints, limits, overlap
from slm.data.batches import in_seeded_order
from slm.data.formats import BrokenSyntax
from slm.data.render import BaseRenderer, Rendered
from slm.errors import RunFailure
from slm.evaluate import Evidence, Subject, scorecard
from slm.events import EventLog, Stop
from slm.methods import METHODS, Recipe
from slm.overlap import Numbered
from slm.spec import DatasetRef, EvaluateSpec, ModelRef
from slm.train import machine as machines
from slm.train import outcome
from slm.train.rows import verify

_ROWS_PER_BEAT = 64


def evaluate(spec: EvaluateSpec, directory: Path, log: EventLog, stop: Stop | None = None) -> None:
    """Carry out an evaluation; on return the log ends with `finished`.

    Raises `RunFailure` or `Cancelled`. `stop` is asked at each batch of rows and each decoded token.
    """
    _Evaluation(spec, directory, log, stop or Stop(directory)).run()


class _Evaluation:
    def __init__(self, spec: EvaluateSpec, directory: Path, log: EventLog, stop: Stop) -> None:
        self.spec, self.directory, self.log, self.stop = spec, directory, log, stop
        self.recipe: Recipe = METHODS[spec.method]
        self.device = machines.detect_device()
        self.length = spec.scoring.max_length

    def run(self) -> None:
        working = self.directory / outcome.WORKING
        shutil.rmtree(working, ignore_errors=True)
        try:
            self._start()
            tokenizer, rows = self._prepare()
            subject = self._load(tokenizer)
            rows = self._referred(subject, rows)
            card = self._score(subject, rows, working)
            self._finish(card, working)
        finally:
            shutil.rmtree(working, ignore_errors=True)

    def _start(self) -> None:
        threads = self.spec.threads or limits.cores()
        torch.set_num_threads(threads)
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        transformers.set_seed(self.spec.scoring.seed)
        self.log.append(
            "started",
            resumed_from_step=None,
            pid=os.getpid(),
            versions=machines.versions(),
            device=self.device,
            precision="fp32",
            threads=threads,
        )
        self.stop.check()

    def _prepare(self) -> tuple[Any, list[Rendered]]:
        self.log.append("phase", phase="preparing")
        verify(self.spec.dataset, self.directory, self._beat("preparing"))
        config = checkpoints.load_config(self.spec.model)
        if (refusal := self.recipe.refusal(config)) is not None:
            raise RunFailure("model_unsupported", refusal)
        tokenizer = checkpoints.load_tokenizer(self.spec.model)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self.length = min(self.spec.scoring.max_length, checkpoints.context_length(config, tokenizer))
        # As after a training, so that the same seed draws the same rows.
        renderer = self._renderer(tokenizer)
        rows = in_seeded_order(list(self._render(renderer, self.spec.dataset)), seed=self.spec.scoring.seed)
        left_out = self.spec.dataset.row_count - len(rows)
        if not rows:
            raise RunFailure(
                "data_unusable", f"None of the rows of '{self.spec.dataset.name}' can be scored by {self.spec.method}."
            )
        if left_out > 0:
            self._warn("dropped", f"{left_out} of {self.spec.dataset.row_count} rows cannot be scored.")
        return tokenizer, renderer.arrange(rows, held_out=True)

    def _renderer(self, tokenizer: Any) -> BaseRenderer:
        return self.recipe.renderer(tokenizer, max_length=self.length, config=self.spec.scoring)

    def _render(self, renderer: BaseRenderer, reference: DatasetRef) -> Iterator[Rendered]:
        """The rows of a dataset that can be scored."""
        beat = self._beat("preparing")
        for count, (line, example) in enumerate(self._examples(reference)):
            if count % _ROWS_PER_BEAT == 0:
                beat(count, reference.row_count)
            rendered = renderer.render(example, line)
            if isinstance(rendered, Rendered) and rendered.learned:
                yield rendered

    def _examples(self, reference: DatasetRef) -> Iterator[Numbered]:
        try:
            yield from overlap.read(reference, self.directory)
        except BrokenSyntax as error:
            raise RunFailure("data_unusable", f"Dataset '{reference.name}' cannot be read: {error}") from error

    def _load(self, tokenizer: Any) -> Subject:
        self.log.append("phase", phase="loading")
        self.stop.check()
        model, reference = self._model(self.spec.model), self.spec.base
        base = None if reference is None else partial(self._loaded, reference, self._head(model))
        return Subject(model, tokenizer, self.spec.method, base)

    def _model(self, reference: ModelRef, **head: Any) -> Any:
        """The model, ready to answer. What its weights do not bring (a classifier's head) is drawn by the seed."""
        transformers.set_seed(self.spec.scoring.seed)
        model = checkpoints.load_base(reference, self.directory, model_class=self.recipe.MODEL_CLASS, **head)
        self.stop.check()
        model.eval()
        return model.to(self.device)

    @contextmanager
    def _loaded(self, reference: ModelRef, head: dict[str, Any]) -> Iterator[Any]:
        yield self._model(reference, **head)

    def _head(self, model: Any) -> dict[str, Any]:
        """The keywords that give a base the same labels to choose from as the tuned model has."""
        if not self.recipe.OWN_HEAD:
            return {}
        config = model.config
        labels = {"id2label": config.id2label, "label2id": config.label2id}
        return {**labels, "pad_token_id": config.pad_token_id, "ignore_mismatched_sizes": True}

    def _referred(self, subject: Subject, rows: list[Rendered]) -> list[Rendered]:
        """The rows with what the base says of them, where the method compares a model with its base."""
        if subject.base is None or type(self.recipe).refer is Recipe.refer:  # no need to load a base for nothing
            return rows
        with subject.base() as base:
            return self.recipe.refer(base, rows, beta=self.spec.scoring.dpo_beta)

    def _score(self, subject: Subject, rows: list[Rendered], working: Path) -> dict[str, Any]:
        self.log.append("phase", phase="evaluating")
        learned = self._learned()
        evidence = Evidence(rows, partial(self._examples, self.spec.dataset))
        if learned is not None:
            evidence = replace(
                evidence,
                learned=partial(self._learned_rows, self._renderer(subject.tokenizer), learned),
                learned_examples=partial(self._examples, learned),
            )
        return scorecard(
            subject,
            evidence,
            scoring=self.spec.scoring,
            report=lambda phase, done, total: self.log.beat(phase, done=done, total=total),
            check=self.stop.check,
            samples_path=working / outcome.SAMPLES,
        )

    def _learned_rows(self, renderer: BaseRenderer, reference: DatasetRef) -> Iterator[Rendered]:
        """The rows as they were learned, one after the other."""
        for row in self._render(renderer, reference):
            yield from renderer.arrange([row], held_out=True)

    def _learned(self) -> DatasetRef | None:
        """The data that the model learned from, if they are still what they were."""
        if self.spec.train is None:
            return None
        try:
            verify(self.spec.train, self.directory, self._beat("evaluating"))
        except RunFailure as failure:
            self._warn("no_overlap", f"{failure.message} Overlap and baselines are left out.")
            return None
        return self.spec.train

    def _finish(self, card: dict[str, Any], working: Path) -> None:
        self.log.append("phase", phase="saving")
        working.mkdir(exist_ok=True)
        (working / outcome.EVALUATION).write_text(json.dumps(card, indent=1, allow_nan=False))
        listed = outcome.list_artifacts(working)
        self.stop.check()
        checkpoints.publish(working, self.directory / outcome.ARTIFACTS)
        self.log.append("finished", durable=True, artifacts=listed, evaluation=card)

    def _warn(self, code: str, message: str) -> None:
        self.log.append("warned", code=code, message=message)

    def _beat(self, phase: str) -> Callable[[int, int], None]:
        def beat(done: int, total: int) -> None:
            self.stop.check()
            self.log.beat(phase, done=done, total=total)

        return beat
