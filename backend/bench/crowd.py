"""A full house for benchmarks: many datasets and experiments, and one run with a long curve, written as rows.

    python bench/crowd.py [--rows 1000] [--points 100000]

Fills the database of the settings in the environment and prints the ids of what is worth opening, as JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from datetime import datetime, timedelta

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from app.config import Settings
from app.database import Database
from app.models import Dataset, Event, Experiment, Model, Run
from app.models.columns import new_id, utcnow

CONFIG = {"learning_rate": 2e-4, "epochs": 3.0, "batch_size": 8, "max_length": 256, "seed": 42, "lora_r": 16}
SHORT = 60
"""Steps of an ordinary run."""
STATUSES = ("completed", "completed", "completed", "failed", "cancelled")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--points", type=int, default=100_000)
    chosen = parser.parse_args()
    database = Database(Settings().database_url)
    ids = database.write(
        lambda session: fill(
            session,
            session.scalars(select(Model.id).order_by(Model.created_at)).first() or "",
            datasets=chosen.rows,
            experiments=chosen.rows,
            longest=chosen.points,
        )
    )
    database.close()
    json.dump(ids, sys.stdout)
    return 0


def fill(session: Session, base: str, *, datasets: int, experiments: int, longest: int) -> dict[str, str]:
    """Insert so many rows; the newest experiment is completed and has `longest` steps. Ids of what pages open."""
    now = utcnow()
    data = [_dataset(number, now) for number in range(datasets)]
    session.execute(insert(Dataset), data)
    rows = [_experiment(number, now, base, data[number % len(data)]["id"]) for number in range(experiments)]
    session.execute(insert(Experiment), rows)
    runs = [_run(row) for row in rows]
    session.execute(insert(Run), runs)
    for row, run in zip(rows, runs, strict=True):
        steps = longest if row is rows[0] else SHORT
        _curve(session, str(row["id"]), str(run["id"]), steps, now)
    return {"dataset": str(data[0]["id"]), "longest": str(rows[0]["id"]), "other": str(rows[1]["id"])}


def _dataset(number: int, now: datetime) -> dict[str, object]:
    identity = new_id()
    return {
        "id": identity,
        "name": f"Questions of week {number}",
        "dataset_type": "training",
        "row_count": 240,
        "file_name": "questions.jsonl",
        "stored_name": f"{identity}_questions.jsonl",
        "file_format": "jsonl",
        "size_bytes": 70_000,
        "sha256": f"{number:064x}",
        "columns": ["prompt", "completion"],
        "kind": "prompt_completion",
        "kind_reason": "",
        "faults": {"count": 0, "first": []},
        "statistics": {},
        "created_at": now - timedelta(minutes=number),
    }


def _experiment(number: int, now: datetime, base: str, dataset: object) -> dict[str, object]:
    status = STATUSES[number % len(STATUSES)]
    begun = now - timedelta(minutes=3 * number + 5)
    failure = {
        "code": "out_of_memory", "message": "The memory did not suffice.", "hint": "Lower max_length.",
        "fault": "system", "retryable": True,
    }  # fmt: skip
    return {
        "id": new_id(),
        "name": f"Answers, try {number}",
        "status": status,
        "base_model_id": base,
        "training_dataset_id": dataset,
        "training_config": {**CONFIG, "learning_rate": 1e-4 * (1 + number % 7)},
        "requested_config": {},
        "executor": "local",
        "executor_reason": "Trains on this machine.",
        "simulated": False,
        "method": "sft",
        "adapter": "lora",
        "seed": 42,
        "warnings": [],
        "error": failure if status == "failed" else None,
        "event_count": 0,
        "run_id": new_id(),
        "created_at": begun,
        "started_at": begun,
        "finished_at": begun + timedelta(minutes=2),
    }


def _run(experiment: dict[str, object]) -> dict[str, object]:
    return {
        "id": experiment["run_id"],
        "task": "train",
        "experiment_id": experiment["id"],
        "attempt": 1,
        "state": experiment["status"],
        "executor": "local",
        "directory": experiment["id"],
        "spec": {},
        "lease_until": experiment["created_at"],
        "created_at": experiment["created_at"],
    }


def _curve(session: Session, experiment: str, run: str, steps: int, now: datetime) -> None:
    chance = random.Random(steps)
    written: list[dict[str, object]] = []

    def say(kind: str, step: int | None, **payload: object) -> None:
        number = len(written) + 1
        written.append({
            "run_id": run, "experiment_id": experiment, "number": number, "seq": number, "attempt": 1, "type": kind,
            "step": step, "time": now - timedelta(seconds=steps - (step or 0)), "payload": {"step": step, **payload},
        })  # fmt: skip

    say("started", None, device="cpu", resumed_from_step=None)
    every = max(1, steps // 20)
    for step in range(1, steps + 1):
        loss = 0.4 + 2 * math.exp(-6 * step / steps) + chance.gauss(0, 0.05)
        say(
            "step", step, total_steps=steps, epoch=round(3 * step / steps, 4), loss=loss, learning_rate=1e-4,
            grad_norm=1.0, tokens=660 * step, tokens_per_second=210.5, eta_seconds=float(steps - step),
            elapsed_seconds=3.1 * step,
        )  # fmt: skip
        if step % every == 0:
            say("evaluated", step, epoch=round(3 * step / steps, 4), val_loss=loss + 0.1, best=True)
            say("checkpointed", step, path=f"checkpoints/{step}")
    say("finished", steps, artifacts=[])
    for start in range(0, len(written), 5000):
        session.execute(insert(Event), written[start : start + 5000])
    session.get_one(Experiment, experiment).event_count = len(written)


if __name__ == "__main__":
    sys.exit(main())
