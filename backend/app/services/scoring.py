"""Evaluations of their own: any model on any data that suit its method, as a run; and their removal.

What rows show is refused before anything is queued. References are resolved to files outside of a write, and looked at
again when the run is inserted, since time has passed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.config import Settings
from app.errors import Conflict, FieldError, SpecRejected
from app.models import Artifact, Dataset, Model, Run, Tombstone
from app.models.columns import new_id
from app.services import dataset as datasets
from app.services import evaluation as evaluations
from app.services import gate, removal, training
from app.services import model as models
from app.services.references import base_kind, dataset_reference, missing_weights, model_reference
from slm.spec import METHOD_FACTS, DatasetKind, DatasetRef, EvaluateSpec, Method, Scoring, default_method

_OF_SCORING = ("samples", "evaluation")
"""Kinds of artifact that belong to an evaluation, not to a model."""


def prepare(session: Session, *, model_id: str, dataset_id: str, settings: Settings) -> Run:
    """A run that would score the model on the dataset; reads rows and looks at the disk, writes nothing.

    Raises `NotFound`, `Conflict` where weights are not here (with the remedy), `SpecRejected` where the data do not
    suit the model's method.
    """
    model = models.get(session, model_id)
    dataset = datasets.get(session, dataset_id)
    before = _before_training(session, model)
    for part in (model, before):
        if part is not None:
            _require_weights(session, part, settings)
    method = _method(model, dataset)
    identity = new_id()
    spec = EvaluateSpec(
        run_id=identity,
        attempt=1,
        model=model_reference(session, model, settings),
        method=method,
        base=model_reference(session, before, settings) if before is not None else None,
        dataset=dataset_reference(dataset, settings),
        train=_learned(session, model, settings),
        scoring=_as_in_training(model),
        threads=settings.threads,
    )
    return training.alone(spec, model_id=model.id)


def insert(session: Session, run: Run) -> Run:
    """Queue it. Raises `NotFound` where model or dataset has gone meanwhile."""
    models.get(session, str(run.model_id))
    datasets.get(session, EvaluateSpec.model_validate(run.spec).dataset.dataset_id)
    session.add(run)
    session.flush()
    return run


def delete(session: Session, evaluation_id: str) -> list[Tombstone]:
    """Remove an evaluation with its samples; one of its own also with its run. What is returned names their files."""
    evaluation = evaluations.get(session, evaluation_id)
    paths = []
    if evaluation.run_id is not None:
        query = select(Artifact).where(Artifact.run_id == evaluation.run_id, Artifact.kind.in_(_OF_SCORING))
        for artifact in session.scalars(query):
            paths.append(artifact.path)
            session.delete(artifact)
        run = session.get(Run, evaluation.run_id)
        if run is not None and run.task == "evaluate":
            paths = [f"artifacts/{run.id}", f"runs/{run.directory}"]
            session.delete(run)
    session.delete(evaluation)
    return removal.bury(session, data=paths)


def _before_training(session: Session, model: Model) -> Model | None:
    """What a fine-tuned model was made of; None for a base, and for one that learned from nothing (own tokens)."""
    if model.model_type == "base" or model.base_model_id is None or _training_config(model).get("from_scratch"):
        return None
    return models.get(session, model.base_model_id, missing="Base model not found")


def _require_weights(session: Session, model: Model, settings: Settings) -> None:
    if model.simulated:
        message = f"'{model.name}' came from a simulation and has no weights; only a model that was trained has them."
        raise Conflict(message, code="simulated")
    missing = missing_weights(session, model, settings)
    if missing is not None:
        raise Conflict(f"The model cannot be scored: {missing}", code="weights_missing")


def _method(model: Model, dataset: Dataset) -> Method:
    """The yardstick: that of the model's own training, or for a base what the data suggest. Raises `SpecRejected`."""
    config = _training_config(model)
    if "method" in config:
        method = Method(config["method"])
    else:
        if dataset.kind is None:
            raise gate.rejected("dataset_id", f"'{dataset.name}' cannot be interpreted yet. {dataset.kind_reason}")
        method, _ = default_method(DatasetKind(dataset.kind), base_kind(model))
        _require_base(model, dataset, method)
    gate.require_data(dataset, method, field="dataset_id")
    return method


def _require_base(model: Model, dataset: Dataset, method: Method) -> None:
    """What an untrained base cannot be asked."""
    if method is Method.CLASSIFY:
        message = f"'{model.name}' is a base and knows no labels yet; train it on such data first."
    elif base_kind(model) not in METHOD_FACTS[method].bases:
        message = f"'{model.name}' is an encoder and cannot continue the {dataset.kind} data of '{dataset.name}'."
    else:
        return
    raise SpecRejected(f"model_id: {message}", errors=(FieldError("model_id", message),))


def _training_config(model: Model) -> Mapping[str, Any]:
    found = (model.details or {}).get("training_config")
    return found if isinstance(found, dict) else {}


def _as_in_training(model: Model) -> Scoring:
    """As many rows and as long answers as in the model's own training."""
    config = _training_config(model)
    return Scoring(**{name: config[name] for name in Scoring.model_fields if config.get(name) is not None})


def _learned(session: Session, model: Model, settings: Settings) -> DatasetRef | None:
    """The data that the model was trained on, by their digest; None for a base, and where they are gone."""
    digests = (model.details or {}).get("dataset_digests")
    digest = digests.get("training") if isinstance(digests, dict) else None
    if not digest:
        return None
    dataset = session.scalars(select(Dataset).where(Dataset.sha256 == digest).order_by(Dataset.created_at)).first()
    return dataset_reference(dataset, settings) if dataset is not None else None
