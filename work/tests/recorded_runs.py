"""Recorded runs with all that belongs to them: curves, events, checkpoints, attempts, logs."""

from __future__ import annotations

from typing import Any

import httpx2

import recorded
from recorded import Json, Recorded


def curve(steps: list[int], values: list[float]) -> Json:
    return {"step": steps, "value": values, "time": [recorded.stamp(20) for _ in steps]}


def curves(points: int = 12) -> Json:
    steps = [*range(1, points + 1)]
    every = [step for step in steps if step % 4 == 0]
    return {
        "train_loss": curve(steps, [2.0 / step for step in steps]),
        "val_loss": curve(every, [2.2 / step for step in every]),
    }


def event(number: int, kind: str, **payload: Any) -> Json:
    return {
        "id": number, "run_id": "r-e1", "attempt": 1, "seq": number, "type": kind, "time": recorded.stamp(20),
        "payload": payload,
    }  # fmt: skip


EVENTS = [
    event(1, "started", device="cpu", precision="float32", resumed_from_step=None),
    event(2, "prepared", train_examples=216, eval_examples=24),
    event(3, "evaluated", step=4, val_loss=0.55, best=True),
    event(4, "checkpointed", step=4),
]


def checkpoint(step: int, **changes: Any) -> Json:
    return {
        "name": f"step-{step}", "step": step, "val_loss": 2.2 / step, "best": False, "size_bytes": 20_000_000,
        "created_at": recorded.stamp(20), **changes,
    }  # fmt: skip


def equip(api: Recorded, identity: str = "e1", *, points: int = 12, events: list[Json] | None = None) -> None:
    """Give an experiment curves, events, two checkpoints, an attempt and a log; it knows of its newest event."""
    told = EVENTS if events is None else events
    api.rows["experiments"][identity]["last_event_id"] = told[-1]["id"] if told else 0

    def since(request: httpx2.Request) -> list[Json]:
        after = int(request.url.params.get("since") or 0)
        types = request.url.params.get("types")
        return [one for one in told if one["id"] > after and (types is None or one["type"] in types.split(","))]

    where = f"/experiments/{identity}"
    api.on("GET", f"{where}/metrics", curves(points) if points else {})
    api.on("GET", f"{where}/events", since)
    api.on("GET", f"{where}/checkpoints", [checkpoint(8), checkpoint(4, best=True)])
    api.on("GET", f"{where}/runs", [recorded.run()])
    api.on("GET", f"{where}/logs", {"text": "loading\nstep 1\nstep 2", "size_bytes": 2048})


def furnish(api: Recorded, *experiments: Json) -> Recorded:
    """A base model, data, and these experiments, each with curves."""
    api.add("models", recorded.model(), recorded.model("m2", "Tickets to JSON", model_type="fine_tuned"))
    api.add("datasets", recorded.dataset(), recorded.dataset("d2", "Held out", dataset_type="evaluation"))
    api.add("experiments", *experiments)
    for experiment in experiments:
        equip(api, experiment["id"])
    return api
