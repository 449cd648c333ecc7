"""Datasets: what a file holds is found out in a child process, then it becomes a row; nothing is half made."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app.config import BACKEND
from app.errors import DatasetRejected, FieldError, Invalid, NotFound, StillReferenced, StorageFull
from app.models import Dataset, Evaluation, Experiment, Run, Tombstone
from app.models.run import ACTIVE
from app.services import removal
from app.services.listing import Page, containing, newest_first

DATASET_TYPES = ("training", "evaluation")
READERS = ("evaluate", "predict")
"""Tasks that read a dataset without an experiment that would answer for it."""
INSPECTION_SECONDS = 3600.0


def inspect(path: Path, *, file_format: str, mapping: Mapping[str, str] | None, encoding: str | None) -> dict[str, Any]:
    """What the file holds (`slm.data.inspection.Inspection` as a dict). Raises `DatasetRejected` with the reason."""
    arguments = [str(path.resolve()), "--format", file_format]
    if mapping:
        arguments += ["--mapping", json.dumps(dict(mapping))]
    if encoding:
        arguments += ["--encoding", encoding]
    inspection: dict[str, Any] = ask_child("slm.data.inspection", arguments)["inspection"]
    return inspection


def ask_child(module: str, arguments: Sequence[str]) -> dict[str, Any]:
    """What `python -m MODULE` answers about a file. Raises `DatasetRejected` with the reason, or `StorageFull`.

    A child process reads it, so that the service stays responsive and small whatever the file.
    """
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(command, cwd=BACKEND, capture_output=True, timeout=INSPECTION_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise DatasetRejected("The file could not be read within an hour; split it into smaller files.") from None
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise DatasetRejected(
            "The file could not be read: the process that looked into it ended early, perhaps for lack of memory."
        ) from None
    if answer["ok"]:
        return answer
    error = answer["error"]
    if error["code"] == "storage_full":
        raise StorageFull("The disk of the upload folder is full; free some space and try again.")
    where = f"line {error['line']}" if error.get("line") else _FIELDS.get(error["code"], "file")
    raise DatasetRejected(error["message"], code=error["code"], errors=(FieldError(where, error["message"]),))


_FIELDS = {"mapping": "mapping", "split": "split"}
"""What of the request an error of this code is about, where it is not the file."""


def add(session: Session, dataset: Dataset) -> Dataset:
    session.add(dataset)
    session.flush()
    return dataset


def fill(dataset: Dataset, inspection: Mapping[str, Any]) -> None:
    """Copy what was found out into the row."""
    dataset.row_count = inspection["row_count"]
    dataset.columns = inspection["columns"]
    dataset.kind = inspection["kind"]
    dataset.kind_reason = inspection["kind_reason"]
    dataset.mapping = inspection["mapping"]
    dataset.faults = inspection["faults"]
    dataset.statistics = inspection["statistics"]


def listing(session: Session, page: Page, *, dataset_type: str | None, words: str | None) -> Sequence[Dataset]:
    query = select(Dataset)
    if dataset_type is not None:
        query = query.where(Dataset.dataset_type == dataset_type)
    if words:
        query = query.where(containing(Dataset.name, words))
    return newest_first(session, query, Dataset, page)


def get(session: Session, dataset_id: str, *, missing: str = "Dataset not found") -> Dataset:
    dataset = session.get(Dataset, dataset_id)
    if dataset is None:
        raise NotFound(missing)
    return dataset


def update(
    session: Session, dataset_id: str, *, changes: Mapping[str, Any], inspection: Mapping[str, Any] | None
) -> Dataset:
    """Change name and description; with a new mapping, also what the file is now understood to hold."""
    dataset = get(session, dataset_id)
    for key in ("name", "description"):
        if key in changes:
            setattr(dataset, key, changes[key])
    if inspection is not None:
        fill(dataset, inspection)
    session.flush()
    return dataset


def delete(session: Session, dataset_id: str) -> list[Tombstone]:
    """Remove the row; what is returned names its file. Raises `StillReferenced` naming what refers to it."""
    dataset = get(session, dataset_id)
    using = select(Experiment.name).where(
        or_(Experiment.training_dataset_id == dataset_id, Experiment.eval_dataset_id == dataset_id)
    )
    names = list(session.scalars(using.limit(3)))
    evaluations = session.scalar(select(func.count()).where(Evaluation.dataset_id == dataset_id)) or 0
    if names:
        shown = ", ".join(f"'{name}'" for name in names)
        raise StillReferenced(f"The dataset is used by the experiment {shown}; delete what uses it first.")
    if evaluations:
        raise StillReferenced(f"The dataset is used by {evaluations} evaluations; delete them first.")
    reading = select(Run.spec).where(Run.task.in_(READERS), Run.state.in_(ACTIVE))
    if any(_read_by(spec) == dataset_id for spec in session.scalars(reading)):
        raise StillReferenced("The dataset is being read by an evaluation or a prediction; cancel that first.")
    session.delete(dataset)
    return removal.bury(session, uploads=[dataset.stored_name])


def _read_by(spec: Mapping[str, Any]) -> str | None:
    """The dataset that a run of the tasks in `READERS` reads."""
    reference = spec.get("dataset")
    return reference.get("dataset_id") if isinstance(reference, dict) else None


def checked_type(value: str) -> str:
    """`training` or `evaluation`, whatever the case. Raises `Invalid`."""
    lower = value.strip().lower()
    if lower not in DATASET_TYPES:
        message = f"dataset_type must be 'training' or 'evaluation', not '{value[:40]}'."
        raise Invalid(message, errors=(FieldError("dataset_type", message),))
    return lower
