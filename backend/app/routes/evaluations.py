"""`/evaluations`: what runs proved, and scoring any model on any data."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from app.models import Evaluation
from app.routes.deps import AppSettings, Db, PagedAnswer, PageQuery, ReadSession
from app.routes.problems import declared
from app.schemas.evaluation import EvaluationAnswer, EvaluationDetail, NewEvaluation, SampleAnswer
from app.schemas.run import RunAnswer
from app.services import evaluation as service
from app.services import removal, scoring

router = APIRouter(prefix="/evaluations", tags=["Evaluations"])
EvaluationId = Annotated[str, Path(max_length=64, examples=["01a20b4e-acbc-7f03-9d20-ccef5efd5345"])]
_PLAIN = (
    "rows_scored", "rows_available", "rows_generated", "rows_chosen", "verdict", "overlap", "method", "per_class",
    "confusion", "metric_notes", "planned", "actual",
)  # fmt: skip
"""Parts of a scorecard that are shown as the run reported them, null where it did not."""


@router.get("", response_model=list[EvaluationAnswer], responses=declared(400), summary="List evaluations")
def list_evaluations(
    session: ReadSession,
    page: PageQuery,
    paged: PagedAnswer,
    experiment_id: Annotated[str | None, Query(max_length=64)] = None,
    model_id: Annotated[str | None, Query(max_length=64)] = None,
    dataset_id: Annotated[str | None, Query(max_length=64)] = None,
) -> Any:
    """Newest first: those that belong to experiments. Asked by model or dataset, also those made by themselves."""
    rows = service.listing(session, page, experiment_id=experiment_id, model_id=model_id, dataset_id=dataset_id)
    shown = paged(rows, page)
    experiments = service.experiments_of(session, shown)
    return [_summary(row, experiments) for row in shown]


@router.post(
    "",
    status_code=202,
    response_model=RunAnswer,
    responses=declared(404, 409),
    summary="Score a model on a dataset",
)
def evaluate(body: NewEvaluation, db: Db, settings: AppSettings, request: Request, response: Response) -> Any:
    """Starts a run; watch it at `/runs/{id}`, cancel it there. Its `result` names the evaluation once it is completed.
    A fine-tuned model is scored beside what it was before its training, on the same rows; a base by itself."""
    with db.read() as session:
        prepared = scoring.prepare(session, model_id=body.model_id, dataset_id=body.dataset_id, settings=settings)
    run = db.write(lambda session: scoring.insert(session, prepared))
    request.app.state.supervisor.wake()
    response.headers["Location"] = f"/runs/{run.id}"
    return run


@router.get(
    "/{evaluation_id}", response_model=EvaluationDetail, responses=declared(404), summary="An evaluation in detail"
)
def get_evaluation(evaluation_id: EvaluationId, session: ReadSession) -> Any:
    """Metrics of base and tuned model on the same rows, with 95 % intervals; simple baselines; overlap with the
    training rows; the verdict; loss by epoch and how the training went, where there was one."""
    row = service.get(session, evaluation_id)
    details = row.details or {}
    return {
        **_summary(row, service.experiments_of(session, [row])),
        "model_id": row.model_id,
        "dataset_id": row.dataset_id,
        "run_id": row.run_id,
        "metrics": row.metrics,
        "base_metrics": details.get("base_metrics") or {},
        "baselines": details.get("baselines") or {},
        "intervals": details.get("intervals") or {},
        "loss_curve": row.loss_curve,
        "training_statistics": row.training_statistics,
        **{name: details.get(name) for name in _PLAIN},
    }


@router.delete("/{evaluation_id}", status_code=204, responses=declared(404), summary="Delete an evaluation")
def delete_evaluation(evaluation_id: EvaluationId, db: Db, settings: AppSettings) -> None:
    """With its samples; the model that it was about stays."""
    removal.clear(db, settings, db.write(lambda session: scoring.delete(session, evaluation_id)))


@router.get(
    "/{evaluation_id}/samples", response_model=list[SampleAnswer], responses=declared(404), summary="Row by row"
)
def samples(
    evaluation_id: EvaluationId,
    session: ReadSession,
    settings: AppSettings,
    offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Any:
    """What was asked and expected, what base and tuned model said to it, and how that scored. Of an evaluation by
    answers, the answered rows; of any other, all that were scored."""
    row = service.get(session, evaluation_id)
    path = service.samples_file(session, row, settings.data_dir.resolve())
    return service.read_samples(path, offset=offset, limit=limit)


def _summary(row: Evaluation, experiments: dict[str, str]) -> dict[str, Any]:
    return {
        "id": row.id,
        "experiment_id": experiments[row.id],
        "created_at": row.created_at,
        "simulated": row.simulated,
    }
