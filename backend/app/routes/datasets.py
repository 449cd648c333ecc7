"""`/datasets`: upload, look into, download, change, delete."""

from __future__ import annotations

import asyncio
from pathlib import PurePath
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from app.config import Settings
from app.database import Database
from app.errors import DatasetRejected, FieldError, Invalid, NotFound
from app.models import Dataset
from app.models.columns import new_id
from app.routes.deps import AppSettings, Db, PagedAnswer, PageQuery, ReadSession
from app.routes.files import BYTES, send_file
from app.routes.problems import declared
from app.routes.upload import Upload, drain, receive, too_large
from app.schemas.common import NAME_PATTERN, TEXT_PATTERN
from app.schemas.dataset import DatasetAnswer, DatasetChanges, DatasetDetail, NewSplit, RowAnswer, UploadForm
from app.services import dataset as service
from app.services import removal, splitting, storage
from slm.data.formats import BrokenSyntax, format_of
from slm.data.inspection import read_rows
from slm.spec import FileFormat

router = APIRouter(prefix="/datasets", tags=["Datasets"])
DatasetId = Annotated[str, Path(max_length=64, examples=["01a20b4e-acbc-7f03-9d20-ccef5efd5345"])]

_UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "name", "dataset_type"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "A .csv, .json or .jsonl file."},
                        "name": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": NAME_PATTERN},
                        "description": {"type": "string", "maxLength": 20_000, "pattern": TEXT_PATTERN},
                        "dataset_type": {"type": "string", "enum": ["training", "evaluation"]},
                        "mapping": {"type": "string", "description": UploadForm.model_fields["mapping"].description
                                    or "JSON object: role → column."},
                        "encoding": {"type": "string", "description": "Of the file, where it is not UTF-8."},
                    },
                }
            }
        },
    }
}  # fmt: skip


@router.post(
    "/upload",
    status_code=201,
    response_model=DatasetDetail,
    responses=declared(400, 413, 507),
    openapi_extra=_UPLOAD_BODY,
    summary="Upload a dataset file",
)
async def upload(request: Request, settings: AppSettings, db: Db) -> DatasetDetail:
    """Takes a CSV, JSON or JSONL file while it arrives, looks into all of it, and keeps it unchanged.

    A file whose syntax is broken is refused whole, naming the first broken line. Records that parse but cannot be
    used stay in the file and are listed as `faults`.
    """
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > settings.max_upload_bytes + 1_000_000:
        await drain(request)
        raise too_large(settings.max_upload_bytes)
    identity = new_id()
    with storage.Incoming(settings.upload_dir, identity) as incoming:
        received = await receive(request, incoming, max_bytes=settings.max_upload_bytes)
        dataset = await asyncio.to_thread(_finish, incoming, received, identity, settings, db)
    return DatasetDetail.model_validate(dataset)


def _finish(incoming: storage.Incoming, received: Upload, identity: str, settings: Settings, db: Database) -> Dataset:
    """Look into the file, publish it, write the row; a failure on the way leaves neither."""
    form = received.form
    dataset_type = service.checked_type(form.dataset_type)
    try:
        file_format = format_of(received.file_name)
    except ValueError as error:
        raise DatasetRejected(str(error), code="unsupported_format", errors=(FieldError("file", str(error)),)) from None
    sha256 = incoming.complete()
    found = service.inspect(incoming.path, file_format=file_format.value, mapping=form.mapping, encoding=form.encoding)
    dataset = Dataset(
        id=identity,
        name=form.name,
        description=form.description,
        dataset_type=dataset_type,
        file_name=received.file_name[:255],
        stored_name=f"{identity}_{storage.safe_name(received.file_name)}",
        file_format=file_format.value,
        encoding=form.encoding or None,
        size_bytes=incoming.size,
        sha256=sha256,
    )
    service.fill(dataset, found)
    incoming.publish(dataset.stored_name)
    try:
        return db.write(lambda session: service.add(session, dataset))
    except BaseException:
        storage.remove(settings.upload_dir / dataset.stored_name)
        raise


@router.get("", response_model=list[DatasetAnswer], responses=declared(400), summary="List datasets")
def list_datasets(
    session: ReadSession,
    page: PageQuery,
    paged: PagedAnswer,
    dataset_type: Annotated[Literal["training", "evaluation"] | None, Query(description="What it is for.")] = None,
    q: Annotated[str | None, Query(max_length=200, description="Words that the name holds.")] = None,
) -> Any:
    """Newest first; all of them, or a page where `limit` is given."""
    if q is not None and "\0" in q:
        raise Invalid("q: must not hold NUL characters.", errors=(FieldError("q", "must not hold NUL characters"),))
    return paged(service.listing(session, page, dataset_type=dataset_type, words=q), page)


@router.get("/{dataset_id}", response_model=DatasetDetail, responses=declared(404), summary="A dataset in detail")
def get_dataset(dataset_id: DatasetId, session: ReadSession) -> Any:
    """What is in the file: kind, columns, statistics, and the faults by line."""
    return service.get(session, dataset_id)


@router.patch(
    "/{dataset_id}",
    response_model=DatasetDetail,
    responses=declared(404),
    summary="Change name, description or mapping",
)
def change_dataset(dataset_id: DatasetId, body: DatasetChanges, db: Db, settings: AppSettings) -> Any:
    """Only what is given changes. A new mapping looks into the file again."""
    changes = body.model_dump(exclude_unset=True)
    inspection = None
    if "mapping" in changes:
        with db.read() as session:
            dataset = service.get(session, dataset_id)
        inspection = service.inspect(
            settings.upload_dir / dataset.stored_name,
            file_format=dataset.file_format,
            mapping=changes["mapping"],
            encoding=dataset.encoding,
        )
    return db.write(lambda session: service.update(session, dataset_id, changes=changes, inspection=inspection))


@router.delete("/{dataset_id}", status_code=204, responses=declared(404, 409), summary="Delete a dataset and its file")
def delete_dataset(dataset_id: DatasetId, db: Db, settings: AppSettings) -> None:
    """Refused with 409 while an experiment or an evaluation refers to it."""
    removal.clear(db, settings, db.write(lambda session: service.delete(session, dataset_id)))


@router.get(
    "/{dataset_id}/download",
    response_class=Response,
    responses={**BYTES, **declared(404, 416)},
    summary="Download the file as it was uploaded",
)
def download_dataset(dataset_id: DatasetId, request: Request, session: ReadSession, settings: AppSettings) -> Response:
    """The very bytes that were uploaded; `ETag` is their SHA-256, ranges resume a broken download."""
    dataset = service.get(session, dataset_id)
    path = settings.upload_dir / dataset.stored_name
    if not path.is_file():
        raise NotFound("The dataset's file is no longer in the upload folder.", code="file_missing")
    return send_file(request, path, name=dataset.file_name, sha256=dataset.sha256)


@router.post(
    "/{dataset_id}/split",
    status_code=201,
    response_model=list[DatasetDetail],
    responses=declared(404, 507),
    summary="Split a dataset in two",
)
def split_dataset(dataset_id: DatasetId, body: NewSplit, db: Db, settings: AppSettings) -> Any:
    """Two new datasets: the rest (for training) and the fraction (for evaluation). The source stays as it is.

    Rows are drawn by lot and copied byte for byte. Rows with the same prompt or text stay on one side, so that the
    evaluation asks nothing that training has seen.
    """
    folder = settings.upload_dir
    return splitting.split(db, folder, dataset_id, fraction=body.fraction, seed=body.seed, stratify=body.stratify)


@router.get(
    "/{dataset_id}/rows", response_model=list[RowAnswer], responses=declared(404), summary="Rows beside their examples"
)
def rows(
    dataset_id: DatasetId,
    settings: AppSettings,
    db: Db,
    offset: Annotated[int, Query(ge=0, le=2**53)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Any:
    """Raw rows as they stand in the file, each with the canonical example it becomes, or why it becomes none."""
    with db.read() as session:
        dataset: Dataset = _detached(session, dataset_id)
    path = settings.upload_dir / dataset.stored_name
    try:
        return read_rows(
            path,
            FileFormat(dataset.file_format),
            offset=offset,
            limit=limit,
            kind=dataset.kind,
            mapping=dataset.mapping,
            encoding=dataset.encoding,
        )
    except (BrokenSyntax, FileNotFoundError):
        name = PurePath(dataset.file_name).name
        raise NotFound(f"The file {name} was removed or changed in the upload folder.", code="file_missing") from None


def _detached(session: Session, dataset_id: str) -> Dataset:
    return service.get(session, dataset_id)
