"""Artifacts: files that runs left, each known by its digest. A row names a file below `data_dir`, never elsewhere."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from sqlalchemy.orm import Session

from app.errors import NotFound
from app.models import Artifact


def get(session: Session, artifact_id: str) -> Artifact:
    artifact = session.get(Artifact, artifact_id)
    if artifact is None:
        raise NotFound("Artifact not found")
    return artifact


def file_name(artifact: Artifact) -> str:
    return PurePosixPath(artifact.path).name


def file(artifact: Artifact, data_dir: Path) -> Path:
    """Where its bytes are. Raises `NotFound` (file_missing) where they are gone from the data folder."""
    root = data_dir.resolve()
    path = (root / artifact.path).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        message = f"The file {file_name(artifact)} is no longer in the data folder; make it again."
        raise NotFound(message, code="file_missing")
    return path
