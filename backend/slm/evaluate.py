"""The scorecard: base and tuned model on the same untouched rows, with intervals and a verdict that can say no.

The base is scored after the training, so that the first step comes at once. Intervals are paired bootstrap
percentiles (Efron & Tibshirani 1993, ch. 13): the same resampled rows for base and tuned, so that the difference is
judged row by row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slm import answers, generate
from slm.data.batches import Padding, Rows, sample_rows
from slm.data.render import Rendered, Renderer
from slm.methods import METHODS
from slm.spec import Hyperparameters

RESAMPLES = 2000
SCORING_BATCH = 8
SHOTS = 4
Report = Callable[[str, int, int], None]
"""(phase, rows done, rows in all): a sign of life; raises to stop."""


@dataclass
class Scored:
    """One model's scores, one entry a row. Teacher-forced ones for every row, answers for the generated ones."""

    loss: np.ndarray
    tokens: np.ndarray
    correct: np.ndarray
    outputs: list[str] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)


def held_out_loss(
    model: Any, tokenizer: Any, rows: Sequence[Rendered], config: Hyperparameters, report: Callable[[int], None]
) -> float:
    """Mean loss in nats per learned token over `rows`."""
    scored = teacher_forced(model, tokenizer, rows, config, report)
    return float(scored.loss.sum() / scored.tokens.sum())


def teacher_forced(
    model: Any, tokenizer: Any, rows: Sequence[Rendered], config: Hyperparameters, report: Callable[[int], None]
) -> Scored:
    """Loss and token accuracy of each row, given the right tokens before each."""
    method, data, collate = METHODS[config.method], Rows(rows), Padding(tokenizer.pad_token_id)
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    order = sorted(range(len(rows)), key=lambda number: len(rows[number].input_ids))
    columns = np.zeros((3, len(rows)))
    for start in range(0, len(order), SCORING_BATCH):
        chosen = order[start : start + SCORING_BATCH]
        inputs = {key: value.to(device) for key, value in collate([data[number] for number in chosen]).items()}
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            found = method.score(model, inputs)
        columns[:, chosen] = np.stack([found.loss.numpy(), found.tokens.numpy(), found.correct.numpy()])
        report(start + len(chosen))
    if was_training:
        model.train()
    return Scored(columns[0], columns[1], columns[2])


def scorecard(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Rendered],
    *,
    config: Hyperparameters,
    base: Callable[[Any], AbstractContextManager[Any]],
    report: Report,
    samples_path: Path,
    shots: Sequence[Rendered] = (),
) -> dict[str, Any]:
    """Score tuned and base model on at most `eval_max_rows` of `rows`; writes the answers to `samples_path`.

    `base(model)` gives the base model for a while; `shots` are training rows for the few-shot baseline.
    """
    chosen = sample_rows(rows, config.eval_max_rows, config.seed)
    asked = [n for n, row in enumerate(chosen) if row.expected is not None and row.prompt_ids]
    asked = sample_rows(asked, config.generate_max_rows, config.seed)
    as_json = bool(asked) and all(answers.as_object(chosen[n].expected or "") is not None for n in asked)
    limit = _answer_limit(tokenizer, [chosen[n] for n in asked], config)

    def force(current: Any, who: str) -> Scored:
        return teacher_forced(current, tokenizer, chosen, config, lambda n: report(f"scoring {who}", n, len(chosen)))

    def ask(current: Any, who: str, scored: Scored, prompts: list[list[int]]) -> None:
        def progress(done: int) -> None:
            report(f"answering {who}", done, len(asked))

        scored.outputs = generate.answers(current, tokenizer, prompts, max_new_tokens=limit, progress=progress)
        pairs = zip((chosen[n].expected or "" for n in asked), scored.outputs, strict=True)
        scored.scores = [answers.score(expected, output, as_json=as_json) for expected, output in pairs]

    direct = [chosen[n].prompt_ids for n in asked]
    tuned = force(model, "tuned")
    ask(model, "tuned", tuned, direct)
    few_shot: Scored | None = None
    with base(model) as untrained:
        plain = force(untrained, "base")
        ask(untrained, "base", plain, direct)
        prompts = _few_shot_prompts(tokenizer, [chosen[n] for n in asked], shots, config)
        if prompts is not None:
            few_shot = Scored(plain.loss, plain.tokens, plain.correct)
            ask(untrained, "few-shot", few_shot, prompts)
    _write_samples(samples_path, [chosen[n] for n in asked], plain, tuned, few_shot)
    card = _card(plain, tuned, seed=config.seed)
    if few_shot is not None:
        found = _card(few_shot, tuned, seed=config.seed)
        kept = [key for key in found["base_metrics"] if key in _answer_keys(few_shot)]
        card["baselines"] = {
            "few_shot": {
                "examples": min(SHOTS, len(shots)),
                "metrics": {key: found["base_metrics"][key] for key in kept},
                "intervals": {key: found["intervals"][key]["base"] for key in kept},
            }
        }
    how = (
        "all held-out rows"
        if len(chosen) == len(rows)
        else f"{len(chosen)} of {len(rows)} held-out rows, drawn by seed"
    )
    return {
        **card,
        "rows_scored": len(chosen),
        "rows_available": len(rows),
        "rows_generated": len(asked),
        "rows_chosen": how,
        "verdict": verdict(card["intervals"], card["base_metrics"], card["metrics"]),
    }


def _answer_limit(tokenizer: Any, rows: Sequence[Rendered], config: Hyperparameters) -> int:
    """Long enough for the longest expected answer and a quarter more; whoever rambles on is cut there."""
    longest = max((len(tokenizer(row.expected)["input_ids"]) for row in rows), default=1)
    return max(1, min(config.max_new_tokens, longest + longest // 4 + 4))


def _few_shot_prompts(
    tokenizer: Any, rows: Sequence[Rendered], shots: Sequence[Rendered], config: Hyperparameters
) -> list[list[int]] | None:
    """Each prompt behind the same few training examples; None where there are none or the longest does not fit."""
    usable = [shot for shot in shots if shot.prompt is not None and shot.expected is not None][:SHOTS]
    if not usable or not rows or any(row.prompt is None for row in rows):
        return None
    renderer = Renderer(tokenizer, max_length=config.max_length)
    lead = [turn for shot in usable for turn in (("user", shot.prompt or ""), ("assistant", shot.expected or ""))]
    prompts = [renderer.prompt_of([*lead, ("user", row.prompt or "")]) for row in rows]
    room = getattr(tokenizer, "model_max_length", 10**9)
    return prompts if max(map(len, prompts)) + config.max_new_tokens <= min(room, 4096) else None


def _answer_keys(scored: Scored) -> list[str]:
    return list(scored.scores[0]) if scored.scores else []


def _card(base: Scored, tuned: Scored, *, seed: int) -> dict[str, Any]:
    """Metrics of both and 95 % intervals of each and of the difference (tuned minus base)."""
    metrics: dict[str, dict[str, float]] = {"base": {}, "tuned": {}}
    intervals: dict[str, dict[str, list[float]]] = {}
    dice = np.random.default_rng(seed)

    def add(key: str, of_base: tuple[np.ndarray, float], of_tuned: tuple[np.ndarray, float]) -> None:
        metrics["base"][key], metrics["tuned"][key] = of_base[1], of_tuned[1]
        intervals[key] = {
            "base": _interval(of_base[0]),
            "tuned": _interval(of_tuned[0]),
            "difference": _interval(of_tuned[0] - of_base[0]),
        }

    picks = dice.integers(0, len(base.loss), size=(RESAMPLES, len(base.loss)))
    everything = np.arange(len(base.loss))[None, :]
    for key, ratio in _RATIOS.items():
        add(key, *((ratio(one, picks), float(ratio(one, everything)[0])) for one in (base, tuned)))
    keys = _answer_keys(tuned) if base.scores else []
    if keys:
        picks = dice.integers(0, len(base.scores), size=(RESAMPLES, len(base.scores)))
        for key in keys:
            columns = [np.array([row[key] for row in one.scores]) for one in (base, tuned)]
            add(key, *((column[picks].mean(axis=1), float(column.mean())) for column in columns))
    return {"metrics": metrics["tuned"], "base_metrics": metrics["base"], "intervals": intervals}


def _mean_loss(scored: Scored, picks: np.ndarray) -> np.ndarray:
    mean: np.ndarray = scored.loss[picks].sum(axis=1) / scored.tokens[picks].sum(axis=1)
    return mean


_RATIOS: dict[str, Callable[[Scored, np.ndarray], np.ndarray]] = {
    "loss": _mean_loss,
    "perplexity": lambda scored, picks: np.exp(np.minimum(_mean_loss(scored, picks), 700.0)),
    "token_accuracy": lambda scored, picks: scored.correct[picks].sum(axis=1) / scored.tokens[picks].sum(axis=1),
}


def _interval(values: np.ndarray) -> list[float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return [float(low), float(high)]


def verdict(intervals: dict[str, dict[str, list[float]]], base: dict[str, float], tuned: dict[str, float]) -> str:
    """One sentence on the held-out loss; never `better` or `worse` where the interval of the difference holds zero."""
    low, high = intervals["loss"]["difference"]
    change = f"held-out loss {base['loss']:.3f} → {tuned['loss']:.3f} (difference {low:+.3f} to {high:+.3f}, 95 %)"
    if high < 0:
        return f"The tuned model is better than its base on the held-out rows: {change}."
    if low > 0:
        return f"The tuned model is worse than its base on the held-out rows: {change}."
    return f"No difference was shown between the tuned model and its base: {change}."


def _write_samples(path: Path, rows: Sequence[Rendered], base: Scored, tuned: Scored, few_shot: Scored | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for number, row in enumerate(rows):
            sample: dict[str, Any] = {
                "row": row.line,
                "prompt": row.prompt,
                "expected": row.expected,
                "base_output": base.outputs[number],
                "tuned_output": tuned.outputs[number],
                "scores": {"base": base.scores[number], "tuned": tuned.scores[number]},
            }
            if few_shot is not None:
                sample["few_shot_output"] = few_shot.outputs[number]
                sample["scores"]["few_shot"] = few_shot.scores[number]
            file.write(json.dumps(sample, ensure_ascii=False) + "\n")
