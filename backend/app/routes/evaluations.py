"""`/evaluations`: what runs proved."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from app.models import Evaluation
from app.routes.deps import AppSettings, PagedAnswer, PageQuery, ReadSession
from app.routes.problems import declared
from app.schemas.evaluation import EvaluationAnswer, EvaluationDetail, SampleAnswer
from app.services import evaluation as service

router = APIRouter(prefix="/evaluations", tags=["Evaluations"])
EvaluationId = Annotated[str, Path(max_length=64, examples=["01a20b4e-acbc-7f03-9d20-ccef5efd5345"])]


@router.get("", response_model=list[EvaluationAnswer], responses=declared(400), summary="List evaluations")
def list_evaluations(
    session: ReadSession,
    page: PageQuery,
    paged: PagedAnswer,
    experiment_id: Annotated[str | None, Query(max_length=64)] = None,
    model_id: Annotated[str | None, Query(max_length=64)] = None,
    dataset_id: Annotated[str | None, Query(max_length=64)] = None,
) -> Any:
    """Newest first."""
    rows = service.listing(session, page, experiment_id=experiment_id, model_id=model_id, dataset_id=dataset_id)
    return [_summary(row) for row in paged(rows, page)]


@router.get(
    "/{evaluation_id}", response_model=EvaluationDetail, responses=declared(404), summary="An evaluation in detail"
)
def get_evaluation(evaluation_id: EvaluationId, session: ReadSession) -> Any:
    """Metrics of base and tuned model on the same rows, with 95 % intervals; loss by epoch; how the training went."""
    row = service.get(session, evaluation_id)
    details = row.details or {}
    return {
        **_summary(row),
        "model_id": row.model_id,
        "dataset_id": row.dataset_id,
        "metrics": row.metrics,
        "base_metrics": details.get("base_metrics") or {},
        "baselines": details.get("baselines") or {},
        "intervals": details.get("intervals") or {},
        "rows_scored": details.get("rows_scored"),
        "rows_available": details.get("rows_available"),
        "rows_generated": details.get("rows_generated"),
        "verdict": details.get("verdict"),
        "planned": details.get("planned"),
        "actual": details.get("actual"),
        "loss_curve": row.loss_curve,
        "training_statistics": row.training_statistics,
    }


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
    """What was expected, and what base and tuned model answered; empty where nothing was generated."""
    row = service.get(session, evaluation_id)
    path = service.samples_file(session, row, settings.data_dir.resolve())
    return service.read_samples(path, offset=offset, limit=limit)


def _summary(row: Evaluation) -> dict[str, Any]:
    return {
        "id": row.id,
        "experiment_id": row.experiment_id or "",
        "created_at": row.created_at,
        "simulated": row.simulated,
    }
