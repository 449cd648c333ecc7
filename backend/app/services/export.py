"""Exports: what may leave in which form, the run that makes it, what it made, and its removal.

What rows and the weights' own configuration show is refused at once, with what to do instead; the rest is found out by
`slm.export`, which loads every export again before it counts as made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.config import Settings
from app.errors import Conflict, NotFound
from app.models import Artifact, Dataset, Model, Run, Tombstone
from app.models.columns import new_id
from app.models.run import ACTIVE
from app.services import card, gate, removal, training
from app.services import model as models
from app.services.references import chain, dataset_reference, method_of, missing_weights, model_reference
from slm.spec import DatasetRef, ExportSpec, HeldOut, Method, ModelRef

_NO_WRITERS = (Method.CLASSIFY, Method.MASK)


def prepare(session: Session, *, model_id: str, format_: str, settings: Settings) -> Run:
    """A run that would export the model; reads rows and looks at the disk, writes nothing.

    Raises `NotFound`, `Conflict` where weights are not here (with the remedy), `SpecRejected` where the model has no
    such form.
    """
    model = models.get(session, model_id)
    if model.simulated:
        message = f"'{model.name}' came from a simulation and has no weights; train it for real to export it."
        raise Conflict(message, code="simulated")
    missing = missing_weights(session, model, settings)
    if missing is not None:
        raise Conflict(f"The model cannot be exported: {missing}", code="weights_missing")
    reference = model_reference(session, model, settings)
    _require_form(session, model, reference, format_, settings)
    probe, held_out = _probe(session, model, settings)
    identity = new_id()
    spec = ExportSpec.model_validate(
        {
            "run_id": identity,
            "attempt": 1,
            "model": reference,
            "format": format_,
            "file_stem": file_stem(model),
            "card": card.markdown(session, model, format_=format_),
            "probe": probe,
            "held_out": held_out,
            "threads": settings.threads,
        }
    )
    return training.alone(spec, model_id=model.id)


def insert(session: Session, run: Run) -> Run:
    """Queue it. Raises `NotFound` where the model has gone, `Conflict` where the same export is under way."""
    models.get(session, str(run.model_id))
    for other in _runs(session, str(run.model_id)):
        if other.state in ACTIVE and other.spec["format"] == run.spec["format"]:
            message = f"This export is under way already; watch it at /runs/{other.id}."
            raise Conflict(message, code="already_running")
    session.add(run)
    session.flush()
    return run


def listing(session: Session, model_id: str) -> list[dict[str, Any]]:
    """The model's exports in wire form, newest first."""
    models.get(session, model_id)
    return [as_document(session, run) for run in _runs(session, model_id)]


def completed(session: Session, run: Run, payload: Mapping[str, Any]) -> dict[str, Any]:
    """The export as the wire shows it once its files are registered; `payload` is the run's last event."""
    found = as_document(session, run)
    self_test = (payload.get("export") or {}).get("self_test")
    return {**found, "state": "completed", "self_test": self_test, "size_bytes": _size(found["files"])}


def as_document(session: Session, run: Run) -> dict[str, Any]:
    """An export in wire form; its id is that of its run."""
    files = session.scalars(select(Artifact).where(Artifact.run_id == run.id, Artifact.kind == "export"))
    shown = [
        {
            "artifact_id": row.id,
            "name": PurePosixPath(row.path).name,
            "size_bytes": row.size_bytes,
            "sha256": row.sha256,
        }
        for row in sorted(files, key=lambda row: -row.size_bytes)
    ]
    known = (run.result or {}).get("export") or {}
    return {
        "id": run.id,
        "model_id": run.model_id,
        "run_id": run.id,
        "format": run.spec["format"],
        "state": "running" if run.state in ("starting", "interrupted") else run.state,
        "created_at": run.created_at.isoformat().replace("+00:00", "Z"),
        "size_bytes": known.get("size_bytes"),
        "self_test": known.get("self_test"),
        "files": shown,
        "error": run.error,
    }


def delete(session: Session, export_id: str) -> list[Tombstone]:
    """Remove an export's rows; what is returned names its folders. Raises `Conflict` while it is being made."""
    run = session.get(Run, export_id)
    if run is None or run.task != "export":
        raise NotFound("Export not found")
    if run.state in ACTIVE:
        raise Conflict("The export is under way; cancel its run first.", code="still_running")
    for artifact in session.scalars(select(Artifact).where(Artifact.run_id == run.id)):
        session.delete(artifact)
    session.delete(run)
    return removal.bury(session, data=[f"artifacts/{run.id}", f"runs/{run.directory}"])


def file_stem(model: Model) -> str:
    """What the files are called: the model's name in letters that every file system and tool takes, and its version."""
    words = re.sub(r"[^a-z0-9]+", "-", model.name.lower()).strip("-")[:80].strip("-") or "model"
    version = re.sub(r"[^a-z0-9.]+", "-", model.version.lower()).strip("-.")[:16]
    return f"{words}-{version}" if version else words


def _size(files: Sequence[Mapping[str, Any]]) -> int:
    return sum(int(file["size_bytes"]) for file in files)


def _runs(session: Session, model_id: str) -> Sequence[Run]:
    query = select(Run).where(Run.model_id == model_id, Run.task == "export").order_by(Run.id.desc())
    return session.scalars(query).all()


def _require_form(session: Session, model: Model, reference: ModelRef, format_: str, settings: Settings) -> None:
    """Raises `SpecRejected` where the model cannot take that form."""
    if format_ == "adapter" and model.weights_format != "adapter":
        raise gate.rejected("format", f"'{model.name}' has whole weights and no adapter; export it as safetensors.")
    if not format_.startswith("gguf"):
        return
    if method_of(model) in _NO_WRITERS:
        raise gate.rejected("format", f"'{model.name}' does not continue text, as GGUF's programs ask for.")
    root = models.weights_path(chain(session, model)[-1], settings)
    try:
        config = json.loads((root / "config.json").read_bytes()) if root is not None else {}
    except (OSError, ValueError):
        return  # the run says what is wrong with the weights
    names = [str(name) for name in config.get("architectures") or []]
    if config.get("model_type") != "llama" or names not in ([], ["LlamaForCausalLM"]):
        shown = names[0] if names else config.get("model_type")
        message = f"GGUF is written for Llama models only; '{model.name}' is {shown}. Export it as safetensors."
        raise gate.rejected("format", message)


def _probe(session: Session, model: Model, settings: Settings) -> tuple[DatasetRef | None, HeldOut | None]:
    """The rows to compare on: those that the model's training held out, as far as their file is still here."""
    details: Mapping[str, Any] = model.details or {}
    digests: Mapping[str, str] = details.get("dataset_digests") or {}
    config: Mapping[str, Any] = details.get("training_config") or {}
    for role in ("evaluation", "training"):
        query = select(Dataset).where(Dataset.sha256 == digests.get(role, "")).order_by(Dataset.created_at)
        dataset = session.scalars(query).first()
        if dataset is None or dataset.kind is None:
            continue
        fraction = config.get("eval_fraction") or 0
        if role == "evaluation" or not fraction:
            return dataset_reference(dataset, settings), None
        names = ("seed", "max_length", "method", "packing", "from_scratch")
        held_out = HeldOut(fraction=fraction, **{name: config[name] for name in names if name in config})
        return dataset_reference(dataset, settings), held_out
    return None, None
