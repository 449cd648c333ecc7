"""Scorecards: what a model could do before and after training, on the same untouched rows, and what that is worth.

Called by `slm.train` once training is done (so that the first step comes at once) and by `slm.scoring` for any model on
any rows. The base is the tuned model with its adapter switched off, or a second load where all weights were trained.
Nothing here is estimated: each number is counted over rows, and the card says how many and how they were chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from slm import baselines, overlap, samples
from slm.answers import Scores, answer_tallies, score_answers
from slm.baselines import Baseline
from slm.comparison import against, compare, differences, values
from slm.data.examples import Example
from slm.data.render import Rendered
from slm.generate import generate
from slm.labels import by_label, confusion, label_metrics
from slm.methods import METHODS
from slm.metrics import METRIC_NOTES, Metric, Rows
from slm.overlap import Numbered
from slm.passes import Passes, Progress, Report, choose
from slm.spec import Method, Scoring
from slm.verdict import verdict

TEXT_METHODS = frozenset({Method.SFT, Method.PRETRAIN, Method.MASK})
"""Where plain text is learned, frequencies of words are the baseline."""
_BETA = 0.1
"""The usual scale of rewards, for pairs that come without that of a training."""
_ROWS_PER_SIGN = 256
"""Training rows compared between two signs of life."""

Examples = Callable[[], Iterator[Numbered]]


@dataclass(frozen=True)
class Subject:
    """The model that is scored, and how to have it as it was before its training."""

    model: Any
    tokenizer: Any
    method: Method
    base: Callable[[], AbstractContextManager[Any]] | None = None
    """The same model before training, ready to answer; None for one that is a base itself."""


@dataclass(frozen=True)
class Evidence:
    """The rows that a model is judged by, and those it learned from, as far as they are known."""

    held_out: Sequence[Rendered]
    examples: Examples
    """Their examples by line; more lines do no harm."""
    learned: Callable[[], Iterator[Rendered]] | None = None
    learned_examples: Examples | None = None


@dataclass
class _Examined:
    """What one model made of the rows: metrics over the scored rows, metrics over the answered ones, its words."""

    scored: dict[str, Metric]
    answers: dict[str, Metric] = field(default_factory=dict)
    outputs: list[str] | None = None
    scores: Scores | None = None

    @property
    def metrics(self) -> dict[str, Metric]:
        return {**self.scored, **self.answers}

    @property
    def labels(self) -> list[str] | None:
        """What it said to each scored row, where that is a label."""
        return self.outputs if self.scores is None else None


def scorecard(
    subject: Subject,
    evidence: Evidence,
    *,
    scoring: Scoring,
    report: Report,
    check: Callable[[], None],
    samples_path: Path,
) -> dict[str, Any]:
    """The evaluation part of a `finished` event, without curves; writes `samples_path` (JSON lines).

    `report(phase, done, total)` is called at each batch and decoded token, `check()` may raise to stop. Raises
    `ValueError` for no rows, `RunFailure` where a loss is NaN.
    """
    passes = choose(subject.tokenizer, evidence.held_out, subject.method, scoring)
    if not passes.scored:
        raise ValueError("There are no held-out rows to score.")
    return _Scorecard(subject, evidence, passes, scoring, report, check).card(samples_path)


class _Scorecard:
    """One scorecard in the making."""

    def __init__(
        self,
        subject: Subject,
        evidence: Evidence,
        passes: Passes,
        scoring: Scoring,
        report: Report,
        check: Callable[[], None],
    ) -> None:
        self._subject, self._evidence, self._passes, self._seed = subject, evidence, passes, scoring.seed
        self._few_shot: tuple[list[list[int]], int] | None = self._few_shot_prompts()
        self._progress = Progress(report, check, passes, models=2 if subject.base else 1, shots=bool(self._few_shot))
        self._examples = self._examples_of_scored()

    def card(self, samples_path: Path) -> dict[str, Any]:
        models = self._examine_all()
        tuned, base = models["tuned"], models.get("base")
        card = compare(base.metrics if base else {}, tuned.metrics, seed=self._seed)
        card |= self._provenance()
        card |= _label_tables(self._passes.scored, models)
        card["metric_notes"] = {name: METRIC_NOTES[name] for name in card["metrics"] if name in METRIC_NOTES}
        baselines_ = self._baselines(models)
        card["baselines"] = {name: against(other, tuned.metrics, seed=self._seed) for name, other in baselines_.items()}
        card["overlap"] = self._overlap(tuned, base, baselines_)
        card["verdict"] = verdict(card, self._subject.method)
        self._write_samples(samples_path, models)
        return card

    # -- the models

    def _examine_all(self) -> dict[str, _Examined]:
        """The tuned model, its base, and the base with examples in its prompt, as far as there are such."""
        self._refer()
        subject, found = self._subject, {}
        was_training = subject.model.training
        subject.model.eval()
        try:
            found["tuned"] = self._examine(subject.model)
            if subject.base is not None:
                with subject.base() as base:
                    found["base"] = self._examine(base)
                    if self._few_shot is not None:
                        found["few_shot"] = self._answered(base, self._few_shot[0])
        finally:
            subject.model.train(was_training)
        return found

    def _refer(self) -> None:
        """What the base says of the rows, where the method compares with it and a training has not asked it yet."""
        recipe, scored = METHODS[self._subject.method], self._passes.scored
        if self._subject.base is None or not recipe.COMPARES or all(row.reference is not None for row in scored):
            return
        with self._subject.base() as base:
            self._passes = replace(self._passes, scored=recipe.refer(base, scored, beta=_BETA))

    def _examine(self, model: Any) -> _Examined:
        measured = METHODS[self._subject.method].measure(model, self._passes.scored, scored=self._progress.scored)
        metrics: dict[str, Metric] = dict(measured.tallies)
        if measured.outputs is not None:
            metrics |= label_metrics(_expected(self._passes.scored), measured.outputs)
            return _Examined(metrics, outputs=measured.outputs)
        if not self._passes.answered:
            return _Examined(metrics)
        answered = self._answered(model, [row.prompt_ids for row in self._passes.answered])
        answered.scored = metrics
        return answered

    def _answered(self, model: Any, prompts: Sequence[Sequence[int]]) -> _Examined:
        sampling, tick = self._passes.sampling, self._progress.tick()
        outputs = generate(model, self._subject.tokenizer, prompts, sampling=sampling, tick=tick)
        scores = score_answers(_expected(self._passes.answered), outputs)
        return _Examined({}, dict(answer_tallies(scores)), outputs, scores)

    def _few_shot_prompts(self) -> tuple[list[list[int]], int] | None:
        """Prompts of the answered rows with training examples before them, and how many those are."""
        if self._subject.base is None or self._evidence.learned_examples is None or not self._passes.answered:
            return None
        shown = baselines.shots(self._evidence.learned_examples())
        context = getattr(self._subject.model.config.get_text_config(), "max_position_embeddings", None)
        prompts = baselines.few_shot_prompts(
            self._subject.tokenizer,
            self._passes.answered,
            shown,
            context=context or baselines.FEW_SHOT_CONTEXT,
            answer=self._passes.sampling.max_new_tokens,
        )
        return None if prompts is None else (prompts, len(shown))

    # -- what they are compared with

    def _baselines(self, models: Mapping[str, _Examined]) -> dict[str, Baseline]:
        evidence, scored = self._evidence, self._passes.scored
        if "few_shot" in models and self._few_shot is not None:
            note = f"The base asked with {self._few_shot[1]} training examples before each question."
            return {"few_shot": Baseline(models["few_shot"].metrics, note)}
        if models["tuned"].labels is not None:
            if evidence.learned_examples is None:
                return {}
            texts = [self._text(row) for row in scored]
            return baselines.label_baselines(
                evidence.learned_examples(), texts, _expected(scored), seed=self._seed, wait=self._progress.alive
            )
        if evidence.learned is None or self._subject.method not in TEXT_METHODS or self._passes.answered:
            return {}
        vocabulary = int(self._subject.model.config.get_text_config().vocab_size)
        # Of hidden words the whole texts tell more than those that were hidden once.
        marks = frozenset(self._subject.tokenizer.all_special_ids) if self._subject.method is Method.MASK else None
        found = baselines.unigram(evidence.learned(), scored, vocabulary=vocabulary, marks=marks)
        return {} if found is None else {"unigram": found}

    def _overlap(
        self, tuned: _Examined, base: _Examined | None, others: Mapping[str, Baseline]
    ) -> dict[str, Any] | None:
        """Rows that were learned from, and the metrics again without them; None where that is not known."""
        if self._evidence.learned_examples is None:
            return None
        found = overlap.find(self._alive(self._evidence.learned_examples()), self._scored_first())
        document = found.as_document() | {"metrics_without": None, "rows_without": None}
        if not found.matches:
            return document
        scored = _without(self._passes.scored, found.lines)
        answered = _without(self._passes.answered, found.lines)
        tuned_left, base_left = (
            _of_rows(model, scored, answered) if model is not None else {} for model in (tuned, base)
        )
        return document | {
            "metrics_without": values(tuned_left),
            "base_metrics_without": values(base_left),
            "differences_without": differences(base_left, tuned_left, seed=self._seed),
            "baselines_without": {
                name: {"metrics": values(left), "differences": differences(left, tuned_left, seed=self._seed)}
                for name, other in others.items()
                if (left := _baseline_of_rows(other, tuned, scored, answered))
            },
            "rows_without": len(scored),
            "rows_generated_without": len(answered),
        }

    def _scored_first(self) -> Iterator[Numbered]:
        """Every held-out example, beginning with those that were scored, since `overlap` may not look at all."""
        held_out = {row.line for row in self._evidence.held_out} - self._examples.keys()
        rest = ((line, example) for line, example in self._evidence.examples() if line in held_out)
        return chain(self._examples.items(), rest)

    def _alive(self, examples: Iterator[Numbered]) -> Iterator[Numbered]:
        for count, numbered in enumerate(examples):
            if count % _ROWS_PER_SIGN == 0:
                self._progress.alive()
            yield numbered

    # -- rows

    def _examples_of_scored(self) -> dict[int, Example]:
        lines = {row.line for row in self._passes.scored}
        found = {line: example for line, example in self._alive(self._evidence.examples()) if line in lines}
        return {line: found[line] for line in sorted(lines) if line in found}

    def _text(self, row: Rendered) -> str:
        example = self._examples.get(row.line)
        return overlap.text_of(example) if example is not None else row.prompt or ""

    def _provenance(self) -> dict[str, Any]:
        """How many rows, how chosen, how long an answer could be."""
        passes = self._passes
        everything = len(passes.scored) == passes.available
        return {
            "method": self._subject.method.value,
            "rows_scored": len(passes.scored),
            "rows_generated": len(passes.answered),
            "rows_available": passes.available,
            "rows_chosen": "all" if everything else f"drawn at random with seed {self._seed}",
            "max_new_tokens": passes.sampling.max_new_tokens,
        }

    def _write_samples(self, path: Path, models: Mapping[str, _Examined]) -> None:
        """The answered rows where there are such, else all that were scored."""
        answered = bool(self._passes.answered)
        rows = self._passes.answered if answered else self._passes.scored
        places = {id(row): at for at, row in enumerate(self._passes.scored)}
        chosen = np.asarray([places[id(row)] for row in rows], dtype=np.int64)
        columns = {
            name: samples.Column(
                model.outputs,
                model.scores,
                {metric: tally.of_rows(chosen) for metric, tally in model.scored.items()},
            )
            for name, model in models.items()
        }
        samples.write(path, self._subject.tokenizer, rows, self._examples, columns)


def _expected(rows: Sequence[Rendered]) -> list[str]:
    return [row.expected or "" for row in rows]


def _label_tables(rows: Sequence[Rendered], models: Mapping[str, _Examined]) -> dict[str, Any]:
    """`per_class` and `confusion` where the models gave labels; null else."""
    outputs = {name: labels for name, model in models.items() if (labels := model.labels) is not None}
    if not outputs:
        return {"per_class": None, "confusion": None}
    return {"per_class": by_label(_expected(rows), outputs), "confusion": confusion(_expected(rows), outputs)}


def _without(rows: Sequence[Rendered], lines: frozenset[int]) -> Rows:
    """Places of the rows that are not among these lines."""
    return np.asarray([at for at, row in enumerate(rows) if row.line not in lines], dtype=np.int64)


def _baseline_of_rows(other: Baseline, tuned: _Examined, scored: Rows, answered: Rows) -> dict[str, Metric]:
    """A baseline's metrics again over some of the rows that the tuned model was measured on."""
    places = {name: answered if name in tuned.answers else scored for name in other.metrics}
    return {name: metric.of_rows(places[name]) for name, metric in other.metrics.items() if len(places[name])}


def _of_rows(model: _Examined, scored: Rows, answered: Rows) -> dict[str, Metric]:
    """The metrics again over some rows; none where no row is left."""
    left = {name: metric.of_rows(scored) for name, metric in model.scored.items()} if len(scored) else {}
    if len(answered):
        left |= {name: metric.of_rows(answered) for name, metric in model.answers.items()}
    return left
