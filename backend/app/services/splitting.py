"""Two datasets out of one: a child process writes both files, then both become rows in one transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path, PurePath
from typing import Any

from sqlalchemy.orm import Session

from app.database import Database
from app.errors import NotFound
from app.models import Dataset
from app.models.columns import new_id
from app.services import dataset as datasets
from app.services import storage

_NAME_LENGTH = 200


def split(
    db: Database, folder: Path, dataset_id: str, *, fraction: float, seed: int, stratify: bool
) -> tuple[Dataset, Dataset]:
    """The rest, for training, and the fraction, for evaluation; a failure or crash on the way leaves neither.

    Raises `NotFound`, `DatasetRejected` (422) with a sentence where the rows cannot be split as asked, `StorageFull`.
    """
    with db.read() as session:
        source = datasets.get(session, dataset_id)
        session.expunge(source)
    path = folder / source.stored_name
    if not path.is_file():
        raise NotFound("The dataset's file is no longer in the upload folder.", code="file_missing")
    rest_id, part_id = new_id(), new_id()
    with storage.Place(folder, rest_id) as rest, storage.Place(folder, part_id) as part:
        arguments = [str(path.resolve()), "--format", source.file_format, "--mapping", json.dumps(source.mapping or {})]
        arguments += ["--fraction", repr(fraction), "--seed", str(seed), *(["--stratify"] if stratify else [])]
        arguments += ["--kind", source.kind] if source.kind else []
        arguments += ["--encoding", source.encoding] if source.encoding else []
        arguments += ["--rest", str(rest.path.resolve()), "--part", str(part.path.resolve())]
        answer = datasets.ask_child("slm.data.split", arguments)
        drawn = {"fraction": fraction, "seed": seed, "stratify": stratify}
        made = (
            _described(source, rest_id, answer["rest"], "rest", drawn),
            _described(source, part_id, answer["part"], "fraction", drawn),
        )
        with ExitStack() as undo:
            for place, dataset in zip((rest, part), made, strict=True):
                undo.callback(storage.remove, folder / dataset.stored_name)
                place.publish(dataset.stored_name)
            db.write(lambda session: _add(session, made))
            undo.pop_all()
        return made


def _add(session: Session, made: tuple[Dataset, Dataset]) -> None:
    for dataset in made:
        datasets.add(session, dataset)


def _described(
    source: Dataset, identity: str, written: Mapping[str, Any], part: str, drawn: Mapping[str, Any]
) -> Dataset:
    name = PurePath(source.file_name)
    file_name = f"{name.stem[:200]}.{part}{name.suffix[:16]}"
    suffix = " (rest)" if part == "rest" else f" ({drawn['fraction'] * 100:g} %)"
    dataset = Dataset(
        id=identity,
        name=source.name[: _NAME_LENGTH - len(suffix)] + suffix,
        description=source.description,
        dataset_type="training" if part == "rest" else "evaluation",
        file_name=file_name,
        stored_name=f"{identity}_{storage.safe_name(file_name)}",
        file_format=source.file_format,
        encoding=None,
        size_bytes=written["size_bytes"],
        sha256=written["sha256"],
        origin={"dataset_id": source.id, "name": source.name, "sha256": source.sha256, "part": part, **drawn},
    )
    datasets.fill(dataset, written["inspection"])
    if dataset.kind == source.kind:
        dataset.kind_reason = source.kind_reason
    return dataset
