"""The life of a run in rows: transitions, what a run reports, how an attempt ends and whether another follows.

`transition` is the only writer of a run's state and an experiment's status. Every write by a supervisor carries the
run's `fence`; one that lost its lease is refused (`StaleOwner`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from app.errors import Conflict, InvalidTransition, NotFound
from app.models import Event, Experiment, Run
from app.models.columns import new_id, utcnow
from app.models.run import ACTIVE
from slm.errors import REASONS
from slm.events import BEAT
from slm.spec import EvaluateSpec, ExportSpec, PredictSpec, PullSpec, SimulationSpec, TrainSpec

_LEGAL = {
    "queued": {"starting", "cancelled", "failed"},
    "starting": {"running", "completed", "failed", "cancelled", "interrupted"},
    "running": {"completed", "failed", "cancelled", "interrupted"},
}
_ENDED = frozenset({"completed", "failed", "cancelled", "interrupted"})
_PROGRESS = ("phase", "step", "total_steps", "epoch", "eta_seconds", "tokens_per_second", "loss", "done", "total")


class StaleOwner(Conflict):
    """A supervisor that lost the run tried to write to it."""

    code = "stale_owner"


def transition(session: Session, run: Run, state: str) -> None:
    """Move a run on by compare-and-set, and its experiment's status with it. Raises `InvalidTransition`."""
    before = run.state
    if state not in _LEGAL.get(before, set()):
        raise InvalidTransition(f"A run that is {before} cannot become {state}.")
    changes: dict[str, Any] = {"state": state}
    if state == "running":
        changes["started_at"] = utcnow()
    if state in _ENDED:
        changes |= {"finished_at": utcnow(), "owner": None}
    statement = update(Run).where(Run.id == run.id, Run.state == before).values(**changes).returning(Run.id)
    if session.execute(statement.execution_options(synchronize_session=False)).first() is None:
        raise InvalidTransition(f"The run is no longer {before}; look at it again.")
    session.refresh(run)
    experiment = session.get(Experiment, run.experiment_id) if run.experiment_id else None
    if experiment is not None and experiment.run_id == run.id:
        _follow(experiment, run)
        session.flush()


def _follow(experiment: Experiment, run: Run) -> None:
    """The experiment's status derives from its latest run."""
    experiment.status = {
        "queued": "created" if run.attempt == 1 else "running",
        "starting": "created" if run.attempt == 1 else "running",
        "running": "running",
        "interrupted": "running",
    }.get(run.state, run.state)
    if run.state == "running" and experiment.started_at is None:
        experiment.started_at = run.started_at
    experiment.finished_at = run.finished_at if experiment.status in {"completed", "failed", "cancelled"} else None
    experiment.error = run.error if run.state == "failed" else None


def get_run(session: Session, run_id: str) -> Run:
    run = session.get(Run, run_id)
    if run is None:
        raise NotFound("Run not found")
    return run


def owned(session: Session, run_id: str, fence: int) -> Run:
    """The run, locked for this transaction, if the caller still owns it. Raises `StaleOwner`."""
    run = session.scalars(select(Run).where(Run.id == run_id).with_for_update()).first()
    if run is None or run.fence != fence or run.state not in ACTIVE:
        raise StaleOwner("The run was taken over by another supervisor, or has ended.")
    return run


def record(session: Session, *, run_id: str, fence: int, events: Iterable[Mapping[str, Any]], offset: int) -> Run:
    """Take in what the run's log says up to `offset`: idempotent on (run, seq). Terminal events come separately."""
    run = owned(session, run_id, fence)
    progress = dict(run.progress or {})
    rows = []
    for event in events:
        if event.get("type") == BEAT:
            progress |= _progress_of(event)
        elif int(event["seq"]) > run.last_seq:
            if event.get("attempt") == run.attempt:
                rows.append(event)
                progress |= _progress_of(event)
                _apply(session, run, event)
            run.last_seq = int(event["seq"])
    _insert(session, run, rows)
    run.progress = _with_percent(progress)
    run.log_offset = max(run.log_offset, offset)
    session.flush()
    return run


def _apply(session: Session, run: Run, event: Mapping[str, Any]) -> None:
    kind = event["type"]
    if kind == "started":
        run.resumed_from_step = event.get("resumed_from_step")
        if run.state == "starting":
            session.flush()
            transition(session, run, "running")
    elif kind == "checkpointed":
        run.checkpoint_step = int(event["step"])


def _progress_of(event: Mapping[str, Any]) -> dict[str, Any]:
    if event.get("type") == "phase":
        return {"phase": event.get("phase"), "done": None, "total": None}
    if event.get("type") in (BEAT, "step", "prepared"):
        return {key: event[key] for key in _PROGRESS if key in event}
    return {}


def _with_percent(progress: dict[str, Any]) -> dict[str, Any]:
    step, total = progress.get("step"), progress.get("total_steps")
    if isinstance(step, int) and isinstance(total, int) and total > 0:
        progress["percent"] = round(100 * min(step / total, 1), 1)
    elif progress.get("total"):
        progress["percent"] = round(100 * min((progress.get("done") or 0) / progress["total"], 1), 1)
    return progress


def _insert(session: Session, run: Run, events: list[Mapping[str, Any]]) -> None:
    """Append event rows with the experiment's own gapless numbers (a run's own where there is no experiment)."""
    if not events:
        return
    experiment = session.get(Experiment, run.experiment_id) if run.experiment_id else None
    if experiment is not None:
        first = experiment.event_count + 1
        experiment.event_count += len(events)
    else:
        first = (session.scalar(select(func.max(Event.number)).where(Event.run_id == run.id)) or 0) + 1
    session.execute(
        insert(Event),
        [
            {
                "run_id": run.id,
                "experiment_id": run.experiment_id,
                "number": first + position,
                "seq": int(event["seq"]),
                "attempt": int(event["attempt"]),
                "type": str(event["type"])[:32],
                "step": event.get("step"),
                "time": datetime.fromisoformat(str(event["time"])),
                "payload": {k: v for k, v in event.items() if k not in {"seq", "attempt", "type", "time"}},
            }
            for position, event in enumerate(events)
        ],
    )


def conclude(session: Session, run: Run, event: Mapping[str, Any], offset: int) -> None:
    """Write the run's last event. The caller moves the state in the same transaction."""
    if int(event["seq"]) > run.last_seq:
        _insert(session, run, [event])
        run.last_seq = int(event["seq"])
    run.log_offset = max(run.log_offset, offset)
    session.flush()


def cancelled(session: Session, run: Run) -> None:
    transition(session, run, "cancelled")


def failed(session: Session, run: Run, failure: Mapping[str, Any], *, attempts_without_progress: int) -> Run | None:
    """End an attempt that did not finish. Returns the next attempt, queued, where another may help.

    Another follows when the reason is retryable and fewer than `attempts_without_progress` attempts in a row ended
    without a new checkpoint. Only trainings are tried again.
    """
    again = run.task == "train" and bool(failure.get("retryable"))
    if again and _barren_attempts(session, run) >= attempts_without_progress:
        again = False
        failure = {
            **failure,
            "message": f"{failure['message']} Given up after {run.attempt} attempts: "
            f"{attempts_without_progress} in a row brought no new checkpoint.",
        }
    run.error = {key: failure[key] for key in ("code", "message", "hint", "fault", "retryable")}
    session.flush()
    if not again:
        transition(session, run, "failed")
        return None
    transition(session, run, "interrupted")
    return queue_attempt(session, run)


def reason(code: str, message: str) -> dict[str, Any]:
    """A failure that the platform noticed itself, in the form that a run would have reported."""
    entry = REASONS[code]
    return {
        "code": code,
        "message": message,
        "hint": entry.hint,
        "fault": entry.fault,
        "retryable": entry.retryable,
    }


def _barren_attempts(session: Session, run: Run) -> int:
    """How many of the newest attempts in a row, this one included, completed no checkpoint beyond earlier ones."""
    steps = session.execute(
        select(Run.checkpoint_step).where(Run.experiment_id == run.experiment_id).order_by(Run.attempt)
    ).scalars()
    best, barren = -1, 0
    for step in steps:
        if step is not None and step > best:
            best, barren = step, 0
        else:
            barren += 1
    return barren


def alone(spec: PullSpec | EvaluateSpec | PredictSpec | ExportSpec, *, model_id: str) -> Run:
    """A run on a model that belongs to no experiment, in a directory of its own; not in the database yet."""
    return Run(
        id=spec.run_id,
        task=spec.task,
        model_id=model_id,
        executor="local",
        directory=spec.run_id,
        spec=json.loads(spec.model_dump_json()),
        lease_until=utcnow(),
    )


def first_attempt(spec: TrainSpec | SimulationSpec, *, executor: str) -> Run:
    """The first run of an experiment, whose attempts share one directory; not in the database yet."""
    return Run(
        id=spec.run_id,
        task=spec.task,
        experiment_id=spec.experiment_id,
        attempt=spec.attempt,
        executor=executor,
        directory=spec.experiment_id,
        spec=json.loads(spec.model_dump_json()),
        lease_until=utcnow(),
    )


def queue_attempt(session: Session, run: Run) -> Run:
    """Queue the attempt after `run`: the same spec and directory, the log read on from where it is."""
    identity = new_id()
    following = Run(
        id=identity,
        task=run.task,
        experiment_id=run.experiment_id,
        model_id=run.model_id,
        attempt=run.attempt + 1,
        executor=run.executor,
        directory=run.directory,
        spec={**run.spec, "run_id": identity, "attempt": run.attempt + 1},
        lease_until=utcnow(),
        last_seq=run.last_seq,
        log_offset=run.log_offset,
    )
    session.add(following)
    session.flush()
    experiment = session.get(Experiment, run.experiment_id)
    if experiment is not None:
        experiment.run_id = following.id
        _follow(experiment, following)
        session.flush()
    return following


def request_cancel(session: Session, run_id: str, *, save: bool) -> Run:
    """Record that somebody wants the run to stop; one that waits in the queue ends at once. Raises `Conflict`."""
    run = get_run(session, run_id)
    if run.state not in ACTIVE:
        raise Conflict(f"The run is {run.state} already; there is nothing to cancel.", code="already_ended")
    if run.state == "queued":
        transition(session, run, "cancelled")
    elif run.cancel_requested_at is None:
        run.cancel_requested_at = utcnow()
        run.cancel_save = save
        session.flush()
    return run


def latest_run(session: Session, experiment_id: str) -> Run | None:
    query = select(Run).where(Run.experiment_id == experiment_id).order_by(Run.attempt.desc()).limit(1)
    return session.scalars(query).first()


def resume(session: Session, experiment_id: str) -> Run:
    """Queue another attempt of an experiment that failed or was cancelled. Raises `Conflict` for any other."""
    experiment = session.get(Experiment, experiment_id)
    if experiment is None:
        raise NotFound("Experiment not found")
    run = latest_run(session, experiment_id)
    if run is None or run.state not in {"failed", "cancelled"}:
        raise Conflict(f"The experiment is {experiment.status}; only failed and cancelled ones can be resumed.")
    if run.task == "simulate":
        raise Conflict("A simulated run has nothing to resume from; create it again.", code="simulated")
    return queue_attempt(session, run)


def queue_position(session: Session, run: Run) -> int | None:
    """1 for the next to start; null for a run that does not wait."""
    if run.state != "queued" or run.task == "simulate":
        return None
    ahead = select(func.count()).where(Run.state == "queued", Run.task == run.task, Run.id < run.id)
    return (session.scalar(ahead) or 0) + 1
