"""`POST /datasets/{id}/preview`: what would be learned, token by token. The tokens are made in a process of its own."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from app.database import Database
from app.routes.datasets import DatasetId
from app.routes.deps import AppSettings, Db
from app.routes.problems import declared
from app.schemas.preview import NewPreview, PreviewAnswer
from app.services import preview as service
from app.services.asks import Asks
from slm.spec import PreviewSpec

router = APIRouter(prefix="/datasets", tags=["Datasets"])


@router.post(
    "/{dataset_id}/preview",
    response_model=PreviewAnswer,
    responses=declared(404, 409, 503),
    summary="Show what would be learned",
)
async def preview(dataset_id: DatasetId, body: NewPreview, request: Request, db: Db, settings: AppSettings) -> Response:
    """Each row as the model would read it: every token, whether it is learned, what `max_length` cuts away, and why a
    row is left out. Made by the code that training uses, with the base model's own tokenizer and template."""
    asks: Asks = request.app.state.asks
    spec = await asyncio.to_thread(_prepare, db, settings, dataset_id, body)
    answer = await asks.ask(spec, seconds=service.SECONDS, gone=request.is_disconnected)
    return Response(answer, media_type="application/json")


def _prepare(db: Database, settings: AppSettings, dataset_id: str, body: NewPreview) -> PreviewSpec:
    with db.read() as session:
        return service.prepare(session, settings, dataset_id=dataset_id, **body.model_dump())
