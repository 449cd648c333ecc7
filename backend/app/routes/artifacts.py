"""`/artifacts`: the files that runs left behind."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from app.routes.deps import AppSettings, ReadSession
from app.routes.files import BYTES, send_file
from app.routes.problems import declared
from app.services import artifact as service

router = APIRouter(prefix="/artifacts", tags=["Artifacts"])
ArtifactId = Annotated[str, Path(max_length=64, examples=["01a20b4e-acbc-7f03-9d20-ccef5efd5345"])]


@router.get(
    "/{artifact_id}/download",
    response_class=Response,
    responses={**BYTES, **declared(404, 416)},
    summary="Download an artifact",
)
def download_artifact(
    artifact_id: ArtifactId, request: Request, session: ReadSession, settings: AppSettings
) -> Response:
    """The bytes of an export, of predictions, of samples. `ETag` is the SHA-256; ranges resume a broken download."""
    artifact = service.get(session, artifact_id)
    path = service.file(artifact, settings.data_dir)
    return send_file(request, path, name=service.file_name(artifact), sha256=artifact.sha256)
