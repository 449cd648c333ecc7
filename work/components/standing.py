"""How an experiment stands: what the Run page and the table of runs say of it. Pure functions."""

from __future__ import annotations

from datetime import UTC, datetime

from slm_client import ExperimentDetail, Progress

from components import words
from components.history import History


def percent(status: str, progress: Progress | None) -> float | None:
    """For a table's bar: 100 where it completed, None where it is not known or no longer matters."""
    if status == "completed":
        return 100.0
    return progress.percent if progress is not None and status in {"created", "running"} else None


def elapsed(started: datetime | None, finished: datetime | None, now: datetime | None = None) -> float | None:
    """Seconds from its start to its end, or to now."""
    if started is None:
        return None
    return max(((finished or now or datetime.now(UTC)) - started).total_seconds(), 0.0)


def facts(experiment: ExperimentDetail, history: History, now: datetime | None = None) -> dict[str, str | None]:
    """What is known by now, name and value; None for what does not apply."""
    told = experiment.progress or Progress()
    seconds = elapsed(experiment.started_at, experiment.finished_at, now)
    running = experiment.status == "running"
    best = min(history.val_loss.values, default=None)
    stepped = told.step is not None and told.total_steps
    return {
        "Step": f"{told.step:,} of {told.total_steps:,}" if stepped else None,
        "Done": words.percent(told.percent / 100) if running and stepped and told.percent is not None else None,
        "Epoch": words.number(told.epoch, 3) if told.epoch is not None else None,
        "Took" if experiment.ended else "Elapsed": None if seconds is None else words.duration(seconds),
        "Left": words.duration(told.eta_seconds) if running and told.eta_seconds is not None else None,
        "Speed": f"{told.tokens_per_second:,.0f} tokens/s" if told.tokens_per_second else None,
        "Training loss": None if history.train_loss.last is None else words.number(history.train_loss.last),
        "Validation loss": None if history.val_loss.last is None else words.number(history.val_loss.last),
        "Best validation loss": None if best is None or best == history.val_loss.last else words.number(best),
        "Attempt": str(experiment.attempt) if (experiment.attempt or 1) > 1 else None,
    }
