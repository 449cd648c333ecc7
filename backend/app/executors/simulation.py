"""An imitation of training, carried nowhere: its events are a function of the seed and of the time that has passed.

Its numbers are made up, and every event says so (`simulated: true`). The state is one file with the moment of
submission and the log itself, so a restart of the service goes on where it was.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.executors.base import Handle, SubmitFailed
from slm.errors import RunFailure
from slm.events import EVENTS, TERMINAL, EventLog, RunLock, cancel_requested, iter_events, write_atomic
from slm.spec import Hyperparameters, SimulationSpec, load_spec, steps_per_epoch

STATE = "simulation.json"
STEPS_SHOWN = 200
"""At most so many steps are told, however many the training would have had."""
Scene = tuple[float, str, dict[str, Any]]
"""Seconds after the delay, type of the event, its payload."""


class SimulationExecutor:
    name = "simulation"
    simulated = True
    uses_slot = False

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def unavailable(self) -> str | None:
        return None

    def submit(self, directory: Path, *, attempt: int) -> Handle:
        known = _submitted(directory)
        if known is None or known["attempt"] != attempt:
            if _spec(directory) is None:
                raise SubmitFailed("run.json does not describe a simulation.")
            known = {"attempt": attempt, "submitted": self._clock()}
            write_atomic(directory / STATE, json.dumps(known).encode())
        return known

    def poll(self, directory: Path, handle: Handle) -> bool:
        """Append what is due by now; False once the imitation has ended, or its directory is gone."""
        spec, state = _spec(directory), _submitted(directory)
        if spec is None or state is None or state["attempt"] != spec.attempt:
            return False
        told = _told(directory, spec.attempt)
        if told and told[-1]["type"] in TERMINAL:
            return False
        began = state["submitted"] + spec.delay_seconds
        if cancel_requested(directory) is None and self._clock() < began + script(spec)[len(told)][0]:
            return True
        return self._tell(directory, spec, began)

    def cancel(self, directory: Path, handle: Handle, *, force: bool) -> None:
        """The marker says it; obeyed at once, for there is nothing that would have to come to an end."""
        self.poll(directory, handle)

    def _tell(self, directory: Path, spec: SimulationSpec, began: float) -> bool:
        """Write what is due, under the run's lock: a supervisor that was taken over might still be at it."""
        lock = RunLock(directory)
        if not lock.acquire():
            return True
        log = EventLog(directory, attempt=spec.attempt)
        try:
            told = _told(directory, spec.attempt)
            if told and told[-1]["type"] in TERMINAL:
                return False
            if cancel_requested(directory) is not None:
                step = max((int(event.get("step", 0)) for event in told), default=0)
                log.append("cancelled", step=step, checkpoint=None, simulated=True)
                return False
            for at, kind, payload in script(spec)[len(told) :]:
                if began + at > self._clock():
                    return True
                log.append(kind, payload=payload, time=_iso(began + at), simulated=True)
            return False
        finally:
            log.close()
            lock.release()


def _spec(directory: Path) -> SimulationSpec | None:
    try:
        spec = load_spec(directory)
    except (OSError, ValidationError):
        return None
    return spec if isinstance(spec, SimulationSpec) else None


def _submitted(directory: Path) -> Handle | None:
    try:
        state: Handle = json.loads((directory / STATE).read_bytes())
    except OSError:
        return None
    return state


def _told(directory: Path, attempt: int) -> list[dict[str, Any]]:
    events = iter_events(directory / EVENTS)
    return [event for event in events if event.get("seq") and event.get("attempt") == attempt]


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@lru_cache(maxsize=256)
def script(spec: SimulationSpec) -> tuple[Scene, ...]:
    """Everything that will happen, in order, ending with `finished` or `failed`: the same for the same spec."""
    dice = random.Random(spec.seed)
    fails, fails_at = dice.random() < spec.failure_rate, dice.uniform(0.2, 0.9)
    duration = spec.duration_seconds
    curve: dict[str, list[Any]] = {"epochs": [], "train_loss": [], "val_loss": []}
    scenes = sorted([*_opening(spec), *_learning(spec, dice, curve)], key=lambda scene: scene[0])
    if fails:
        failure = RunFailure("simulated_failure", f"The simulated training failed at {fails_at:.0%}, as it may.")
        early = [scene for scene in scenes if scene[0] <= fails_at * duration]
        return (*early, (fails_at * duration, "failed", failure.as_event()))
    return (*scenes, (duration, "finished", _result(spec, dice, curve)))


def _total_steps(spec: SimulationSpec) -> int:
    steps = math.ceil(steps_per_epoch(spec.rows, spec.config.batch_size) * spec.config.epochs)
    return max(1, min(steps, spec.config.max_steps or steps))


def _opening(spec: SimulationSpec) -> list[Scene]:
    started = {"resumed_from_step": None, "device": "simulated", "precision": "simulated"}
    prepared = {
        "train_examples": spec.rows,
        "steps_per_epoch": steps_per_epoch(spec.rows, spec.config.batch_size),
        "total_steps": _total_steps(spec),
    }
    return [(0.0, "started", started), (0.0, "prepared", prepared)]


def _learning(spec: SimulationSpec, dice: random.Random, curve: dict[str, list[Any]]) -> list[Scene]:
    """Steps and the end of each epoch on a falling, slightly noisy loss; fills in `curve`."""
    total, per_epoch = _total_steps(spec), steps_per_epoch(spec.rows, spec.config.batch_size)
    first, last = dice.uniform(2.2, 3.2), dice.uniform(0.4, 0.9)
    gap = dice.uniform(0.05, 0.15)
    span = spec.duration_seconds * 0.98

    def loss(done: float) -> float:
        return round(last + (first - last) * math.exp(-3.5 * done) + dice.gauss(0, 0.015), 4)

    scenes: list[Scene] = []
    for step in sorted({math.ceil(total * share / STEPS_SHOWN) for share in range(1, STEPS_SHOWN + 1)}):
        done = step / total
        payload = {
            "step": step,
            "total_steps": total,
            "epoch": round(step / per_epoch, 4),
            "loss": loss(done),
            "learning_rate": learning_rate(spec.config, done),
            "elapsed_seconds": round(span * done, 3),
            "eta_seconds": round(spec.duration_seconds - span * done, 3),
        }
        scenes.append((span * done, "step", payload))
    for epoch in range(1, math.ceil(total / per_epoch) + 1):
        step = min(epoch * per_epoch, total)
        train, held_out = loss(step / total), round(loss(step / total) + gap, 4)
        best = held_out < min(curve["val_loss"], default=math.inf)
        for key, value in zip(curve, (epoch, train, held_out), strict=True):
            curve[key].append(value)
        payload = {"step": step, "epoch": round(step / per_epoch, 4), "val_loss": held_out, "best": best}
        scenes.append((span * step / total, "evaluated", payload))
    return scenes


def learning_rate(config: Hyperparameters, done: float) -> float:
    """Of the configured schedule when the share `done` of all steps is over."""
    kind, warmup = config.lr_scheduler_type, config.warmup_ratio
    if kind == "constant":
        return config.learning_rate
    if done < warmup:
        return config.learning_rate * done / warmup
    left = (1 - done) / (1 - warmup) if warmup < 1 else 0.0
    share = {"cosine": 0.5 * (1 - math.cos(math.pi * left)), "linear": left}.get(kind, 1.0)
    return config.learning_rate * share


def _result(spec: SimulationSpec, dice: random.Random, curve: dict[str, list[Any]]) -> dict[str, Any]:
    held_out = curve["val_loss"][-1]
    accuracy = round(dice.uniform(0.78, 0.95), 4)
    metrics = {
        "accuracy": accuracy,
        "f1": round(accuracy - dice.uniform(0.0, 0.04), 4),
        "loss": held_out,
        "perplexity": round(math.exp(held_out), 4),
    }
    statistics = {
        "total_epochs": len(curve["epochs"]),
        "total_steps": _total_steps(spec),
        "final_train_loss": curve["train_loss"][-1],
        "final_val_loss": held_out,
        "training_time_seconds": spec.duration_seconds,
        "simulated": True,
    }
    return {
        "artifacts": [],
        "evaluation": {"metrics": metrics, "loss_curve": curve, "training_statistics": statistics},
        "model": {"format": None, "parameters_count": spec.parameters_count},
    }
