"""What a method would learn from a dataset: the question, as the run that answers it reads it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from app.config import Settings
from app.errors import Conflict
from app.models.columns import new_id
from app.services import dataset as datasets
from app.services import gate, references
from app.services import model as models
from slm.spec import DatasetKind, PreviewSpec, resolve

SECONDS = 60.0
"""An answer that takes longer is not worth waiting for; warm it takes one or two."""


def prepare(
    session: Session,
    settings: Settings,
    *,
    dataset_id: str,
    base_model_id: str,
    method: str | None,
    max_length: int | None,
    limit: int,
    offset: int,
) -> PreviewSpec:
    """Defaults are resolved as a creation resolves them. Raises `NotFound`, `SpecRejected` or `Conflict`."""
    dataset = datasets.get(session, dataset_id)
    base = models.get(session, base_model_id, missing="Base model not found")
    kind = DatasetKind(dataset.kind) if dataset.kind else None
    asked = {"method": method, "max_length": max_length}
    config, _ = resolve(asked, kind=kind, base=references.base_kind(base))
    gate.require_base(base, config.method, trained_by=references.method_of(base))
    gate.require_data(dataset, config.method, field="dataset_id")
    missing = references.missing_weights(session, base, settings)
    if missing is not None:
        raise Conflict(f"base_model_id: no tokenizer to show tokens with: {missing}", code="weights_missing")
    return PreviewSpec(
        run_id=new_id(),
        model=references.model_reference(session, base, settings),
        method=config.method,
        dataset=references.dataset_reference(dataset, settings),
        max_length=config.max_length,
        limit=limit,
        offset=offset,
    )
