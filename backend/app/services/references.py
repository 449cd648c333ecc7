"""Rows as a run knows them: where a dataset's file and a model's weights lie, and why they may not be there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.config import Settings
from app.errors import FieldError, SpecRejected
from app.models import Dataset, Model
from app.services import model as models
from slm.spec import CAUSAL, DatasetRef, Hyperparameters, Method, ModelRef


def base_kind(model: Model) -> str:
    """`causal` or `encoder`; what is not known yet counts as causal, as most are."""
    return str((model.details or {}).get("task", CAUSAL))


def method_of(model: Model) -> Method | None:
    """How a fine-tuned model was trained last; None for a base."""
    config = (model.details or {}).get("training_config")
    named = config.get("method") if isinstance(config, dict) else None
    return Method(named) if named is not None else None


def chain(session: Session, model: Model) -> list[Model]:
    """The model and what its weights build on: adapters newest first, then the whole weights under them."""
    found = [model]
    while found[-1].weights_format == "adapter" and found[-1].base_model_id is not None:
        found.append(models.get(session, found[-1].base_model_id))
    return found


def missing_weights(session: Session, model: Model, settings: Settings) -> str | None:
    """Why nothing real can be done with the model, or None."""
    for part in chain(session, model):
        if part.simulated:
            return f"'{part.name}' came from a simulation and has no weights."
        if not models.weights_present(part, settings):
            if part.model_type == "base":
                return (
                    f"the weights of '{part.name}' are not on this machine; "
                    f"get them with POST /models/{part.id}/pull (slm pull)."
                )
            return f"the files of '{part.name}' are gone from the data folder."
    return None


def architecture(model: Model) -> str | None:
    """A base's architecture as transformers calls it, known before its weights are here of those that are seeded."""
    details: Mapping[str, Any] = model.details or {}
    found = (details.get("weights_detail") or {}).get("model_type") or details.get("family")
    return str(found) if found and model.model_type == "base" else None


def ground(session: Session, model: Model, config: Hyperparameters, settings: Settings) -> tuple[ModelRef | None, str]:
    """What a training starts from, or None and why it cannot.

    From scratch nothing is taken from the model but its architecture; where that is known its weights are not needed.
    """
    missing = missing_weights(session, model, settings)
    kind = architecture(model) if config.from_scratch else None
    if missing is not None and kind is None:
        return None, missing
    return model_reference(session, model, settings).model_copy(update={"model_type": kind}), ""


def model_reference(session: Session, model: Model, settings: Settings) -> ModelRef:
    """Whole weights, then the adapters to be merged into them, oldest first. Raises `SpecRejected` for none."""
    paths = [str(_existing(models.weights_path(part, settings))) for part in chain(session, model)]
    return ModelRef(
        model_id=model.id,
        name=model.name,
        path=paths[-1],
        adapters=tuple(reversed(paths[:-1])),
        method=method_of(model),
    )


def _existing(path: Path | None) -> Path:
    if path is None:
        message = "the model has no weights."
        raise SpecRejected(f"base_model_id: {message}", errors=(FieldError("base_model_id", message),))
    return path


def dataset_reference(dataset: Dataset, settings: Settings) -> DatasetRef:
    return DatasetRef.model_validate(
        {
            "dataset_id": dataset.id,
            "name": dataset.name,
            "path": str(settings.upload_dir.resolve() / dataset.stored_name),
            "file_format": dataset.file_format,
            "sha256": dataset.sha256,
            "row_count": dataset.row_count,
            "kind": dataset.kind,
            "mapping": dataset.mapping,
            "encoding": dataset.encoding,
        }
    )
