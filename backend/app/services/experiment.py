"""Experiments as readers and owners see them: lists, attempts, events, deletion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.errors import Conflict, NotFound
from app.models import Event, Experiment, Run, Tombstone
from app.models.run import ACTIVE
from app.services import removal, training
from app.services.listing import Page, newest_first

_AT_ONCE = 500
"""Ids in one query: databases limit how many parameters a statement has."""


def get(session: Session, experiment_id: str) -> Experiment:
    experiment = session.get(Experiment, experiment_id)
    if experiment is None:
        raise NotFound("Experiment not found")
    return experiment


def listing(session: Session, page: Page, *, status: str | None) -> Sequence[Experiment]:
    query = select(Experiment)
    if status is not None:
        query = query.where(Experiment.status == status)
    return newest_first(session, query, Experiment, page)


def progress(session: Session, experiments: Iterable[Experiment]) -> dict[str, dict[str, Any]]:
    """Of those that wait or run: run id → how far it is."""
    wanted = [row.run_id for row in experiments if row.status in {"created", "running"}]
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        query = select(Run.id, Run.progress).where(Run.id.in_(wanted[start : start + _AT_ONCE]))
        found |= {identity: known for identity, known in session.execute(query) if known}
    return found


def runs(session: Session, experiment_id: str) -> Sequence[Run]:
    query = select(Run).where(Run.experiment_id == experiment_id).order_by(Run.attempt.desc())
    return session.scalars(query).all()


def cancel(session: Session, experiment_id: str, *, save: bool) -> None:
    """Ask its latest run to stop. Raises `Conflict` where it has ended already."""
    experiment = get(session, experiment_id)
    run = training.latest_run(session, experiment_id)
    if run is None or run.state not in ACTIVE:
        raise Conflict(f"The experiment is {experiment.status}; there is nothing to cancel.", code="already_ended")
    training.request_cancel(session, run.id, save=save)


def delete(session: Session, experiment_id: str) -> list[Tombstone]:
    """Remove the rows; what is returned names its run directory. Raises `Conflict` while a run is active."""
    experiment = get(session, experiment_id)
    run = training.latest_run(session, experiment_id)
    if run is not None and run.state in ACTIVE:
        raise Conflict("The experiment is under way; cancel it first.", code="still_running")
    session.delete(experiment)
    return removal.bury(session, data=[f"runs/{experiment_id}"])


def events(
    session: Session, experiment_id: str, *, since: int, limit: int = 1000, types: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Events after number `since`, in order, in wire form; of `types` only, where any are named."""
    query = select(Event).where(Event.experiment_id == experiment_id, Event.number > since)
    if types:
        query = query.where(Event.type.in_(types))
    query = query.order_by(Event.number).limit(limit)
    return [
        {
            "id": row.number,
            "run_id": row.run_id,
            "attempt": row.attempt,
            "seq": row.seq,
            "type": row.type,
            "time": row.time,
            "payload": row.payload,
        }
        for row in session.scalars(query)
    ]
