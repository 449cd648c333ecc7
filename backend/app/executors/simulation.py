"""An imitation of training, carried nowhere: its events are a function of the seed and of the time that has passed.

Its numbers are made up, and every event says so (`simulated: true`). The state is one file with the moment of
submission, so a restart of the service goes on where it was.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app.executors.base import Handle
from slm.errors import RunFailure
from slm.events import EVENTS, EventLog, cancel_requested, iter_events, terminal_event, write_atomic
from slm.spec import SimulationSpec, load_spec, steps_per_epoch

_MAX_STEPS_SHOWN = 200


class SimulationExecutor:
    name = "simulation"
    simulated = True
    uses_slot = False

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def unavailable(self) -> str | None:
        return None

    def submit(self, directory: Path, *, attempt: int) -> Handle:
        state = directory / "simulation.json"
        if not state.exists():
            write_atomic(state, json.dumps({"submitted": self._clock()}).encode())
        handle: Handle = json.loads(state.read_bytes())
        return handle

    def poll(self, directory: Path, handle: Handle) -> bool:
        """Append what is due by now; False once the imitation has ended."""
        spec = load_spec(directory)
        if not isinstance(spec, SimulationSpec):
            return False
        if terminal_event(directory / EVENTS, attempt=spec.attempt) is not None:
            return False
        elapsed = self._clock() - float(handle["submitted"]) - spec.delay_seconds
        log = EventLog(directory, attempt=spec.attempt)
        try:
            if cancel_requested(directory) is not None:
                log.append("cancelled", step=0, checkpoint=None, simulated=True)
                return False
            told = sum(1 for event in iter_events(directory / EVENTS) if event.get("seq"))
            due = [event for at, event in script(spec) if at <= elapsed]
            for event in due[told:]:
                log.append(event.pop("type"), **event, simulated=True)
            return terminal_event(directory / EVENTS, attempt=spec.attempt) is None
        finally:
            log.close()

    def cancel(self, directory: Path, handle: Handle, *, force: bool) -> None:
        self.poll(directory, handle)


def script(spec: SimulationSpec) -> list[tuple[float, dict[str, Any]]]:
    """Everything that will happen, as (seconds after the delay, event): the same for the same seed."""
    dice = random.Random(spec.seed)
    config = spec.config
    per_epoch = steps_per_epoch(spec.rows, config.batch_size)
    total = max(1, min(round(per_epoch * config.epochs), config.max_steps or 10**9))
    fails = dice.random() < spec.failure_rate
    fails_at = dice.uniform(0.2, 0.9)
    start, floor = dice.uniform(2.2, 3.2), dice.uniform(0.4, 0.9)
    epochs = max(1, math.ceil(total / per_epoch))

    def loss(done: float) -> float:
        return round(floor + (start - floor) * math.exp(-3.5 * done) + dice.gauss(0, 0.02), 4)

    duration = spec.duration_seconds
    events: list[tuple[float, dict[str, Any]]] = [
        (0.0, {"type": "started", "resumed_from_step": None, "device": "simulated", "precision": "simulated"}),
        (0.0, {"type": "phase", "phase": "training", "total_steps": total}),
    ]
    shown = sorted({max(1, round(total * k / _MAX_STEPS_SHOWN)) for k in range(1, _MAX_STEPS_SHOWN + 1)})
    curve: dict[str, list[Any]] = {"epochs": [], "train_loss": [], "val_loss": []}
    for step in shown:
        done = step / total
        eta = round(duration * (1 - done), 1)
        value = loss(done)
        told = {"step": step, "total_steps": total, "epoch": round(step / per_epoch, 3), "loss": value}
        told |= {"learning_rate": config.learning_rate, "eta_seconds": eta}
        events.append((duration * done * 0.98, {"type": "step", **told}))
    for epoch in range(1, epochs + 1):
        done = min(epoch / epochs, 1)
        train, held_out = loss(done), round(loss(done) + 0.08, 4)
        curve["epochs"].append(epoch)
        curve["train_loss"].append(train)
        curve["val_loss"].append(held_out)
        step = min(epoch * per_epoch, total)
        evaluated = {"type": "evaluated", "step": step, "epoch": epoch, "val_loss": held_out, "best": True}
        events.append((duration * done * 0.985, evaluated))
    events.sort(key=lambda entry: entry[0])
    if fails:
        failure = RunFailure("simulated_failure", f"The simulated training failed at {fails_at:.0%}, as it may.")
        events = [entry for entry in events if entry[0] <= fails_at * duration]
        return [*events, (fails_at * duration, {"type": "failed", **failure.as_event()})]
    return [*events, (duration, _finish(spec, curve, dice, total))]


def _finish(spec: SimulationSpec, curve: dict[str, list[Any]], dice: random.Random, steps: int) -> dict[str, Any]:
    held_out = curve["val_loss"][-1]
    accuracy = round(dice.uniform(0.78, 0.95), 4)
    return {
        "type": "finished",
        "artifacts": [],
        "evaluation": {
            "metrics": {
                "accuracy": accuracy,
                "f1": round(accuracy - dice.uniform(0.0, 0.04), 4),
                "loss": held_out,
                "perplexity": round(math.exp(held_out), 4),
            },
            "loss_curve": curve,
            "training_statistics": {
                "total_epochs": len(curve["epochs"]),
                "total_steps": steps,
                "final_train_loss": curve["train_loss"][-1],
                "final_val_loss": held_out,
                "training_time_seconds": spec.duration_seconds,
                "simulated": True,
            },
        },
        "model": {"format": None, "parameters_count": spec.parameters_count},
    }
