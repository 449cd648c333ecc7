"""Running a model over a whole dataset: what fits which model, and the run that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from app.config import Settings
from app.errors import Conflict, FieldError, Invalid
from app.models import Dataset, Model, Run
from app.models.columns import new_id
from app.services import dataset as datasets
from app.services import model as models
from app.services import training
from app.services.references import base_kind, dataset_reference, method_of, missing_weights, model_reference
from slm.data.questions import question_columns
from slm.spec import ENCODER, DatasetKind, DatasetRef, Method, PredictSpec

_READ = frozenset({DatasetKind.TEXT, DatasetKind.CLASSIFICATION})
"""What a classifier reads; a model that writes answers every kind."""


@dataclass(frozen=True)
class Wanted:
    model_id: str
    dataset_id: str
    mapping: Mapping[str, str] | None
    max_new_tokens: int


def prepare(session: Session, settings: Settings, wanted: Wanted) -> Run:
    """The run, not yet written. Raises `NotFound`, `Conflict` for the model, `Invalid` for the data."""
    model = models.get(session, wanted.model_id)
    dataset = datasets.get(session, wanted.dataset_id)
    method = _method(model)
    missing = missing_weights(session, model, settings)
    if missing is not None:
        raise Conflict(f"'{model.name}' cannot predict: {missing}", code="weights_missing")
    identity = new_id()
    spec = PredictSpec(
        run_id=identity,
        attempt=1,
        model=model_reference(session, model, settings),
        method=method,
        dataset=_asked(dataset, method, wanted.mapping, settings),
        max_new_tokens=wanted.max_new_tokens,
        threads=settings.threads,
    )
    return training.alone(spec, model_id=model.id)


def insert(session: Session, run: Run, wanted: Wanted) -> Run:
    """Write the run; model and dataset are looked at again, since time has passed."""
    models.get(session, wanted.model_id)
    datasets.get(session, wanted.dataset_id)
    session.add(run)
    session.flush()
    return run


def _method(model: Model) -> Method:
    """By which method the model predicts. Raises `Conflict` for one that does not."""
    method = method_of(model)
    if method is Method.MASK or (method is None and base_kind(model) == ENCODER):
        raise Conflict(
            f"'{model.name}' is an encoder that was not trained for a task: it has nothing to predict. Train it by "
            "method classify first.",
            code="nothing_to_predict",
        )
    return method or Method.SFT


def _asked(dataset: Dataset, method: Method, mapping: Mapping[str, str] | None, settings: Settings) -> DatasetRef:
    """The dataset as it is asked. Raises `Invalid` where no column, or not the right one, is asked."""
    reference = dataset_reference(dataset, settings)
    if mapping is not None or reference.kind is None:
        found = question_columns(mapping, [str(column) for column in dataset.columns or []])
        if isinstance(found, str):
            raise _unfit("mapping" if mapping is not None else "dataset_id", f"'{dataset.name}': {found}")
        reference = reference.model_copy(update={"kind": found[0], "mapping": found[1]})
    if method is Method.CLASSIFY and reference.kind not in _READ:
        kind = reference.kind.value if reference.kind else "unknown"
        raise _unfit(
            "dataset_id",
            f"'{dataset.name}' holds {kind} data; a classifier reads texts. Name their column with mapping "
            '{"text": "column"}.',
        )
    return reference


def _unfit(field: str, message: str) -> Invalid:
    return Invalid(message, errors=(FieldError(field, message),))
