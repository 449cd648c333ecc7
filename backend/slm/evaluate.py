"""Scorecards: what a model could do before and after training, on the same held-out rows, with intervals.

Called by `slm.train` once training is done (so that the first step comes at once), and of use alone. The base is the
tuned model with its adapter switched off, or a second load where all weights were trained. Nothing here is estimated:
each number is counted over rows, and the card says how many and how they were chosen.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from slm.data.render import Rendered
from slm.events import write_atomic
from slm.generate import Sampling, generate
from slm.methods import METHODS, Recipe
from slm.metrics import Measured, Scores, Tally, answer_tallies, interval, intervals, score_answers, verdict
from slm.spec import Adapter, Hyperparameters

ANSWER_WORK = 6
"""What answering one row costs, in rows scored for loss; only shapes the progress shown."""
FEW_SHOT_CONTEXT = 4096

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Passes:
    """The rows that a scorecard looks at, and how they are answered."""

    scored: list[Rendered]
    answered: list[Rendered]
    available: int
    sampling: Sampling
    recipe: Recipe


def scorecard(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rendered: Sequence[Rendered],
    *,
    config: Hyperparameters,
    adapter: Adapter,
    base_loader: Callable[[], PreTrainedModel],
    report: Report,
    check: Callable[[], None],
    samples_path: Path,
    shots: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """The evaluation part of a `finished` event, without curves; writes `samples_path` (JSON lines).

    `shots` are (prompt, completion) pairs of the *training* data: the base is then also asked with them as examples,
    which is the fair question whether training was needed. `report(phase, done, total)` is called at each batch and
    decoded token, `check()` may raise to stop. Raises `ValueError` for no rows, `RunFailure` where a loss is NaN.
    """
    passes = _choose(tokenizer, rendered, config)
    if not passes.scored:
        raise ValueError("There are no held-out rows to score.")
    few_shot = _few_shot_prompts(tokenizer, model, passes, shots)
    progress = _Progress(report, check, passes, with_shots=few_shot is not None)
    was_training = model.training
    model.eval()
    outputs: dict[str, list[str]] = {}
    try:
        tuned_measured, outputs["tuned"] = _examine(model, tokenizer, passes, progress)
        with _base(model, adapter, base_loader) as base:
            base_measured, outputs["base"] = _examine(base, tokenizer, passes, progress)
            if few_shot is not None:
                outputs["few_shot"] = generate(
                    base, tokenizer, few_shot, sampling=passes.sampling, tick=progress.tick()
                )
    finally:
        model.train(was_training)
    expected = [row.expected or "" for row in passes.answered]
    scores = {name: score_answers(expected, texts) for name, texts in outputs.items()}
    tuned = tuned_measured.tallies | answer_tallies(scores["tuned"])
    card = compare(base_measured.tallies | answer_tallies(scores["base"]), tuned, seed=config.seed)
    card |= _provenance(passes, config.seed)
    card["verdict"] = verdict(card, rows=len(passes.scored), answered=len(passes.answered))
    if "few_shot" in scores:
        shown = baseline(answer_tallies(scores["few_shot"]), tuned, seed=config.seed)
        card["baselines"] = {"few_shot": {"examples": len(shots)} | shown}
    _write_samples(samples_path, tokenizer, passes.answered, outputs, scores)
    return card


def compare(base: dict[str, Tally], tuned: dict[str, Tally], *, seed: int) -> dict[str, Any]:
    """`metrics`, `base_metrics` and `intervals` (base, tuned, difference) of models scored on the same rows."""
    return {
        "metrics": {name: tally.value for name, tally in tuned.items()},
        "base_metrics": {name: tally.value for name, tally in base.items()},
        "intervals": {name: intervals(base[name], tuned[name], seed=seed) for name in tuned},
    }


def baseline(other: dict[str, Tally], tuned: dict[str, Tally], *, seed: int) -> dict[str, Any]:
    """Another way to answer the same rows: its metrics, their intervals, and those of (tuned − it)."""
    return {
        "metrics": {name: tally.value for name, tally in other.items()},
        "intervals": {name: interval(tally, seed=seed) for name, tally in other.items()},
        "differences": {name: intervals(tally, tuned[name], seed=seed)["difference"] for name, tally in other.items()},
    }


def _choose(tokenizer: PreTrainedTokenizerBase, rendered: Sequence[Rendered], config: Hyperparameters) -> _Passes:
    """Seeded samples where there are more rows than the caps allow; the answered rows are among the scored ones."""
    generator = random.Random(config.seed)
    scored = _sample(generator, [row for row in rendered if row.learned], config.eval_max_rows)
    recipe = METHODS[config.method]
    answerable = [row for row in scored if recipe.ANSWERS and row.expected is not None and row.prompt_ids]
    answered = _sample(generator, answerable, config.generate_max_rows)
    longest = max((len(tokenizer(row.expected)["input_ids"]) for row in answered), default=0)
    # Half as long again as the longest expected answer: who has not stopped by then has not answered as asked.
    limit = min(config.max_new_tokens, longest + max(8, longest // 2))
    return _Passes(scored, answered, len(rendered), Sampling(max(1, limit)), recipe)


def _sample(generator: random.Random, rows: list[Rendered], most: int) -> list[Rendered]:
    if len(rows) <= most:
        return rows
    return [rows[index] for index in sorted(generator.sample(range(len(rows)), most))]


def _provenance(passes: _Passes, seed: int) -> dict[str, Any]:
    """How many rows, how chosen, how long an answer could be."""
    everything = len(passes.scored) == passes.available
    return {
        "rows_scored": len(passes.scored),
        "rows_generated": len(passes.answered),
        "rows_available": passes.available,
        "rows_chosen": "all" if everything else f"drawn at random with seed {seed}",
        "max_new_tokens": passes.sampling.max_new_tokens,
    }


class _Progress:
    """Counts work over all passes, so that one bar runs from nothing to done; asks at each piece whether to go on."""

    def __init__(self, report: Report, check: Callable[[], None], passes: _Passes, *, with_shots: bool) -> None:
        answers = len(passes.answered) * ANSWER_WORK
        self._report, self._check = report, check
        self._total = 2 * (len(passes.scored) + answers) + (answers if with_shots else 0)
        self._done = 0.0

    def scored(self, rows: int) -> None:
        self._done += rows
        self._say()

    def tick(self) -> Callable[[float, int], None]:
        """A callback for one pass of answering; the next pass begins where this one should end."""
        before = self._done

        def tick(done: float, total: int) -> None:
            self._done = before + done * ANSWER_WORK
            self._say()

        return tick

    def _say(self) -> None:
        self._check()
        self._report("evaluating", min(self._total, round(self._done)), self._total)


def _examine(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, passes: _Passes, progress: _Progress
) -> tuple[Measured, list[str]]:
    measured = passes.recipe.measure(model, passes.scored, scored=progress.scored)
    prompts = [row.prompt_ids for row in passes.answered]
    if not prompts:
        return measured, []
    return measured, generate(model, tokenizer, prompts, sampling=passes.sampling, tick=progress.tick())


@contextmanager
def _base(
    model: PreTrainedModel, adapter: Adapter, base_loader: Callable[[], PreTrainedModel]
) -> Iterator[PreTrainedModel]:
    """The model as it was before training, ready to answer."""
    if adapter is not Adapter.FULL:
        with model.disable_adapter():
            yield model
    else:
        base = base_loader()
        base.eval()
        yield base.to(model.device)


_PLACE = "§PLACE§"


def _frame(tokenizer: PreTrainedTokenizerBase, earlier: Sequence[tuple[str, str]] = ()) -> tuple[list[int], list[int]]:
    """Token ids that the chat template puts before and after one user's question that follows `earlier` turns."""
    turns = [{"role": role, "content": content} for role, content in (*earlier, ("user", _PLACE))]
    text = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    head, _, tail = text.rpartition(_PLACE)
    return tuple(list(tokenizer(part, add_special_tokens=False)["input_ids"]) for part in (head, tail))  # type: ignore[return-value]


def _few_shot_prompts(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, passes: _Passes, shots: Sequence[tuple[str, str]]
) -> list[list[int]] | None:
    """Each answered row's prompt with the shots before it, as earlier turns of the same conversation.

    None (no such baseline) without shots, answers or a chat template, where a row has a system prompt of its own, and
    where the longest prompt would not fit the model's context.
    """
    if not shots or not passes.answered or not getattr(tokenizer, "chat_template", None):
        return None
    head, tail = _frame(tokenizer)
    earlier = [turn for prompt, answer in shots for turn in (("user", prompt), ("assistant", answer))]
    lead, end = _frame(tokenizer, earlier)
    if end != tail or any(row.prompt_ids[: len(head)] != head for row in passes.answered):
        return None
    prompts = [lead + row.prompt_ids[len(head) :] for row in passes.answered]
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None) or FEW_SHOT_CONTEXT
    longest = max(map(len, prompts)) + passes.sampling.max_new_tokens
    return prompts if longest <= min(context, FEW_SHOT_CONTEXT) else None


def _question(tokenizer: PreTrainedTokenizerBase, row: Rendered) -> str:
    """What was asked, as text: without the template's frame where the row is one plain question."""
    ids = row.prompt_ids
    if getattr(tokenizer, "chat_template", None):
        head, tail = _frame(tokenizer)
        if ids[: len(head)] == head and ids[len(ids) - len(tail) :] == tail:
            ids = ids[len(head) : len(ids) - len(tail)]
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _write_samples(
    path: Path,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[Rendered],
    outputs: dict[str, list[str]],
    scores: dict[str, Scores],
) -> None:
    """One line per answered row: its line in the data, prompt, expected answer, what each model said, its scores."""
    lines = []
    for index, row in enumerate(rows):
        sample: dict[str, Any] = {"row": row.line, "prompt": _question(tokenizer, row), "expected": row.expected}
        sample |= {f"{name}_output": texts[index] for name, texts in outputs.items()}
        sample["scores"] = {name: each[index] for name, each in scores.items()}
        lines.append(json.dumps(sample, ensure_ascii=False, allow_nan=False))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
