"""`/models/{id}/exports`, `/card` and `/lineage`: a model that leaves, and the papers that go with it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from app.routes.deps import AppSettings, Db, ReadSession
from app.routes.problems import declared
from app.schemas.export import ExportAnswer, LineageAnswer, NewExport
from app.schemas.run import RunAnswer
from app.services import card, lineage, removal
from app.services import export as service
from app.services import model as models

router = APIRouter(tags=["Models"])
ModelId = Annotated[str, Path(max_length=64, examples=["01a20b4e-acbc-7f03-9d20-ccef5efd5345"])]
ExportId = Annotated[str, Path(max_length=64, examples=["01a20b4e-acbc-7f03-9d20-ccef5efd5345"])]


@router.post(
    "/models/{model_id}/exports",
    status_code=202,
    response_model=RunAnswer,
    responses=declared(404, 409),
    summary="Export a model",
)
def export_model(
    model_id: ModelId, body: NewExport, db: Db, settings: AppSettings, request: Request, response: Response
) -> Any:
    """Starts a run that writes the model in that form, loads it again from the disk and compares it with the original;
    what differs fails the run and leaves no file. Its `result` is the export once it is completed."""
    with db.read() as session:
        prepared = service.prepare(session, model_id=model_id, format_=body.format, settings=settings)
    run = db.write(lambda session: service.insert(session, prepared))
    request.app.state.supervisor.wake()
    response.headers["Location"] = f"/runs/{run.id}"
    return run


@router.get(
    "/models/{model_id}/exports",
    response_model=list[ExportAnswer],
    responses=declared(404),
    summary="A model's exports",
)
def list_exports(model_id: ModelId, session: ReadSession) -> Any:
    """Newest first, with what their self-tests found and where their files are."""
    return service.listing(session, model_id)


@router.delete("/exports/{export_id}", status_code=204, responses=declared(404, 409), summary="Delete an export")
def delete_export(export_id: ExportId, db: Db, settings: AppSettings) -> None:
    """With its files. Refused with 409 while it is being made."""
    removal.clear(db, settings, db.write(lambda session: service.delete(session, export_id)))


@router.get(
    "/models/{model_id}/card",
    response_class=Response,
    responses={200: {"content": {"text/markdown": {}}, "description": "The card"}, **declared(404)},
    summary="A model's card",
)
def model_card(model_id: ModelId, session: ReadSession) -> Response:
    """Markdown with Hugging Face front matter: data and digests, every hyperparameter, scorecard with intervals and
    baselines, limits, how to load. Nothing in it names this machine."""
    text = card.markdown(session, models.get(session, model_id))
    return Response(text, media_type="text/markdown; charset=utf-8")


@router.get(
    "/models/{model_id}/lineage",
    response_model=LineageAnswer,
    responses=declared(404),
    summary="Where a model comes from",
)
def model_lineage(model_id: ModelId, session: ReadSession) -> Any:
    """Base, datasets (with digests and what they were split from), experiment, run, evaluations and exports as a graph.
    What was deleted since stays as a node that says so."""
    return lineage.graph(session, model_id)
