"""`/experiments`: create, watch, cancel, resume, delete."""

from __future__ import annotations

import json
from pathlib import Path as FilePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy.orm import Session

from app.errors import FieldError, Invalid
from app.models import Experiment
from app.routes.deps import AppSettings, Db, PagedAnswer, PageQuery, ReadSession
from app.routes.plan import requested
from app.routes.problems import declared
from app.schemas.experiment import ExperimentAnswer, ExperimentDetail, NewExperiment
from app.schemas.run import CancelBody, CheckpointAnswer, Column, LogAnswer, RunAnswer
from app.services import evaluation as evaluations
from app.services import experiment as service
from app.services import launch, removal, training
from app.services import reproduce as reproducing
from app.services.plan import Trials
from slm.events import LOG
from slm.spec import CHECKPOINT_MARKER

router = APIRouter(prefix="/experiments", tags=["Experiments"])
ExperimentId = Annotated[str, Path(max_length=64, examples=["01a20b4e-acbc-7f03-9d20-ccef5efd5345"])]


@router.post(
    "", status_code=201, response_model=ExperimentDetail, responses=declared(404, 409), summary="Create an experiment"
)
def create(body: NewExperiment, db: Db, settings: AppSettings, request: Request) -> Any:
    """Checks what can be seen at once, resolves every default, and answers; the training starts by itself.

    `executor: auto` trains for real where the base model's weights are on this machine, and else simulates: the
    answer says which, and why, and a simulated experiment says so wherever it appears.
    """
    with db.read() as session:
        wanted = requested(session, body, settings, name=body.name)
        trials: Trials = request.app.state.trials
        experiment, run = launch.prepare(session, wanted, settings, trials=trials)
    db.write(lambda session: launch.insert(session, experiment, run))
    request.app.state.supervisor.wake()
    with db.read() as session:
        return _detail(session, service.get(session, experiment.id))


@router.get("", response_model=list[ExperimentAnswer], responses=declared(400), summary="List experiments")
def list_experiments(
    session: ReadSession,
    page: PageQuery,
    paged: PagedAnswer,
    status: Annotated[Literal["created", "running", "completed", "failed", "cancelled"] | None, Query()] = None,
) -> Any:
    """Newest first; all of them, or a page where `limit` is given."""
    rows = paged(service.listing(session, page, status=status), page)
    under_way = service.progress(session, rows)
    return [ExperimentAnswer(**_own(row), progress=under_way.get(row.run_id or "")) for row in rows]


@router.get(
    "/{experiment_id}", response_model=ExperimentDetail, responses=declared(404), summary="An experiment in detail"
)
def get_experiment(experiment_id: ExperimentId, session: ReadSession) -> Any:
    return _detail(session, service.get(session, experiment_id))


@router.post(
    "/{experiment_id}/cancel", response_model=ExperimentDetail, responses=declared(404, 409), summary="Stop its run"
)
def cancel(experiment_id: ExperimentId, db: Db, request: Request, body: CancelBody | None = None) -> Any:
    """Asks the run to stop, keeping a checkpoint if wanted; `status` becomes `cancelled` once it has."""
    save = body.save if body is not None else True
    db.write(lambda session: service.cancel(session, experiment_id, save=save))
    request.app.state.supervisor.wake()
    with db.read() as session:
        return _detail(session, service.get(session, experiment_id))


@router.post(
    "/{experiment_id}/resume",
    status_code=202,
    response_model=ExperimentDetail,
    responses=declared(404, 409),
    summary="Go on from its last checkpoint",
)
def resume(experiment_id: ExperimentId, db: Db, request: Request) -> Any:
    """Queues another run of a failed or cancelled experiment; it begins at the newest complete checkpoint."""
    db.write(lambda session: training.resume(session, experiment_id))
    request.app.state.supervisor.wake()
    with db.read() as session:
        return _detail(session, service.get(session, experiment_id))


@router.post(
    "/{experiment_id}/reproduce",
    status_code=201,
    response_model=ExperimentDetail,
    responses=declared(404, 409),
    summary="Do it again and compare",
)
def reproduce(experiment_id: ExperimentId, db: Db, settings: AppSettings, request: Request) -> Any:
    """A new experiment of the same spec, data digests and seed. Once it ended, its `reproduction` says `identical`, or
    what differs (libraries, machine, curve, weights) and by how much."""
    with db.read() as session:
        experiment, run = reproducing.prepare(session, experiment_id, settings)
    db.write(lambda session: launch.insert(session, experiment, run))
    request.app.state.supervisor.wake()
    with db.read() as session:
        return _detail(session, service.get(session, experiment.id))


@router.delete("/{experiment_id}", status_code=204, responses=declared(404, 409), summary="Delete an experiment")
def delete(experiment_id: ExperimentId, db: Db, settings: AppSettings) -> None:
    """With its runs, events, checkpoints and evaluations; the model it made stays. Refused with 409 while it runs."""
    removal.clear(db, settings, db.write(lambda session: service.delete(session, experiment_id)))


@router.get("/{experiment_id}/runs", response_model=list[RunAnswer], responses=declared(404), summary="Its attempts")
def list_runs(experiment_id: ExperimentId, session: ReadSession) -> Any:
    """Newest first."""
    service.get(session, experiment_id)
    return service.runs(session, experiment_id)


@router.get(
    "/{experiment_id}/checkpoints",
    response_model=list[CheckpointAnswer],
    responses=declared(404),
    summary="Its complete checkpoints",
)
def checkpoints(experiment_id: ExperimentId, session: ReadSession, settings: AppSettings) -> Any:
    """Newest first, as they lie on the disk."""
    service.get(session, experiment_id)
    folder = settings.data_dir.resolve() / "runs" / experiment_id / "checkpoints"
    markers = sorted(folder.glob(f"*/{CHECKPOINT_MARKER}"), reverse=True) if folder.is_dir() else []
    return [_checkpoint(marker) for marker in markers]


@router.get(
    "/{experiment_id}/logs", response_model=LogAnswer, responses=declared(404), summary="The process's own output"
)
def logs(
    experiment_id: ExperimentId,
    session: ReadSession,
    settings: AppSettings,
    tail: Annotated[int, Query(ge=1, le=10_000, description="Lines from the end.")] = 200,
) -> LogAnswer:
    service.get(session, experiment_id)
    path = settings.data_dir.resolve() / "runs" / experiment_id / LOG
    if not path.is_file():
        return LogAnswer(text="", size_bytes=0)
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 200 * tail - 4096))
        text = file.read().decode("utf-8", "replace")
    return LogAnswer(text="\n".join(text.splitlines()[-tail:]), size_bytes=size)


@router.get(
    "/{experiment_id}/metrics",
    response_model=dict[str, Column],
    responses=declared(404),
    summary="Its curves, step by step",
)
def metrics(
    experiment_id: ExperimentId,
    session: ReadSession,
    keys: Annotated[str | None, Query(max_length=200, description="Comma-separated; all where left out.")] = None,
    since: Annotated[int, Query(ge=0, le=2**53, description="Only from events after this number.")] = 0,
    points: Annotated[int | None, Query(ge=2, le=100_000, description="Thin each curve to so many.")] = None,
) -> Any:
    """Columns of step, value and time. Where a run resumed, what it repeated replaces what was reported before."""
    service.get(session, experiment_id)
    wanted = [key.strip() for key in keys.split(",") if key.strip()] if keys else list(evaluations.CURVES)
    for key in wanted:
        if key not in evaluations.CURVES:
            message = f"there is no curve '{key[:40]}'; known are {', '.join(evaluations.CURVES)}."
            raise Invalid(f"keys: {message}", errors=(FieldError("keys", message),))
    return evaluations.curves(session, experiment_id, keys=wanted, since=since, points=points)


def _checkpoint(marker: FilePath) -> dict[str, Any]:
    found = json.loads(marker.read_bytes())
    return {
        "name": marker.parent.name,
        "step": found.get("step", 0),
        "val_loss": found.get("val_loss"),
        "best": bool(found.get("best")),
        "size_bytes": found.get("bytes", 0),
        "created_at": found.get("saved_at"),
    }


def _detail(session: Session, experiment: Experiment) -> ExperimentDetail:
    run = training.latest_run(session, experiment.id)
    return ExperimentDetail(
        **_own(experiment),
        description=experiment.description,
        goal=experiment.goal,
        eval_dataset_id=experiment.eval_dataset_id,
        training_config=experiment.training_config,
        requested_config=experiment.requested_config,
        resulting_model_id=experiment.resulting_model_id,
        executor_reason=experiment.executor_reason,
        requested_executor=experiment.requested_executor,
        seed=experiment.seed,
        run_id=experiment.run_id,
        attempt=run.attempt if run else None,
        queue_position=training.queue_position(session, run) if run else None,
        warnings=list(experiment.warnings or []),
        progress=run.progress if run else None,
        error=experiment.error,
        plan=experiment.plan,
        reproduction=reproducing.reproduction(session, experiment, run),
        cancel_requested=run is not None and run.cancel_requested_at is not None,
        last_event_id=experiment.event_count,
    )


def _own(experiment: Experiment) -> dict[str, Any]:
    """What the row itself has of the answer in the list."""
    return {key: getattr(experiment, key) for key in ExperimentAnswer.model_fields if key != "progress"}
