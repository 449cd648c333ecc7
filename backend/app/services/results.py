"""What a finished run becomes: its files first, then model, evaluation and status in one transaction."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.models import Artifact, Dataset, Evaluation, Experiment, Model, Run
from app.models.columns import new_id, utcnow
from app.services import export as exports
from app.services import model as models
from app.services import plan as plans
from app.services import reproduce, training
from slm.files import sync_folder
from slm.spec import EvaluateSpec

_CURVE = ("epochs", "train_loss", "val_loss")


def store_artifacts(data_dir: Path, run: Run) -> Path:
    """Move the run's artifacts out of its directory, because a model outlives its experiment. Safe to repeat."""
    source = data_dir / "runs" / run.directory / "artifacts"
    target = data_dir / "artifacts" / run.id
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir() and not target.exists():
        source.rename(target)
        sync_folder(target.parent)
    return target


def complete(session: Session, run: Run, payload: Mapping[str, Any]) -> None:
    """Register what the run made. The caller has stored the files and written the last event."""
    _MAKERS[run.task](session, run, payload)
    session.flush()
    training.transition(session, run, "completed")


def _pulled(session: Session, run: Run, payload: Mapping[str, Any]) -> None:
    if run.model_id is not None and payload.get("model"):
        models.weights_pulled(session, model_id=run.model_id, marker=payload["model"])


def _trained(session: Session, run: Run, payload: Mapping[str, Any]) -> None:
    experiment = session.get(Experiment, run.experiment_id)
    if experiment is not None:
        model = _register(session, experiment, run, payload)
        _evaluate(session, experiment, run, model, payload)
        register_artifacts(session, run, model, payload)
        experiment.resulting_model_id = model.id
        session.flush()
        reproduce.finished(session, experiment, run)


def _scored(session: Session, run: Run, payload: Mapping[str, Any]) -> None:
    """An evaluation that was asked for by itself; it has no curves."""
    model = session.get(Model, run.model_id)
    if model is None:
        return
    card = dict(payload.get("evaluation") or {})
    made = Evaluation(
        id=new_id(),
        run_id=run.id,
        model_id=model.id,
        dataset_id=EvaluateSpec.model_validate(run.spec).dataset.dataset_id,
        metrics=card.pop("metrics", {}),
        loss_curve={key: [] for key in _CURVE},
        training_statistics={},
        details=card,
    )
    session.add(made)
    register_artifacts(session, run, model, payload)
    run.result = {"evaluation_id": made.id}
    run.progress = {**(run.progress or {}), "percent": 100.0}


def _predicted(session: Session, run: Run, payload: Mapping[str, Any]) -> None:
    """The one file of predictions, and what is in it."""
    model = session.get(Model, run.model_id)
    if model is not None:
        register_artifacts(session, run, model, payload)
        session.flush()
        artifact_id = session.scalars(select(Artifact.id).where(Artifact.run_id == run.id)).one()
        run.result = {"artifact_id": artifact_id, **payload["result"]}


def _exported(session: Session, run: Run, payload: Mapping[str, Any]) -> None:
    model = session.get(Model, run.model_id)
    if model is not None:
        register_artifacts(session, run, model, payload)
        session.flush()
        run.result = {"export": exports.completed(session, run, payload)}


_MAKERS: dict[str, Callable[[Session, Run, Mapping[str, Any]], None]] = {
    "train": _trained,
    "simulate": _trained,
    "pull": _pulled,
    "evaluate": _scored,
    "export": _exported,
    "predict": _predicted,
}
"""Task → what becomes of a finished run of it."""


def _register(session: Session, experiment: Experiment, run: Run, payload: Mapping[str, Any]) -> Model:
    made: Mapping[str, Any] = payload.get("model") or {}
    base = session.get(Model, experiment.base_model_id)
    name = experiment.name
    earlier = list(session.scalars(select(Model.version).where(Model.name == name, Model.model_type == "fine_tuned")))
    session.execute(
        update(Model).where(Model.name == name, Model.model_type == "fine_tuned").values(is_latest_version=False)
    )
    relative = str(made.get("path") or "")
    folder = f"artifacts/{run.id}/{relative.removeprefix('artifacts/')}" if relative else None
    details = {key: value for key, value in made.items() if key not in {"path", "format"}}
    details |= {
        "method": experiment.method,
        "training_config": experiment.training_config,
        "dataset_digests": _digests(session, experiment),
    }
    model = Model(
        id=new_id(),
        name=name,
        model_type="fine_tuned",
        version=_next_version(earlier),
        architecture=base.architecture if base else "transformer",
        parameters_count=int(made.get("parameters_count") or (base.parameters_count if base else 0)),
        base_model_id=experiment.base_model_id,
        description=experiment.goal or experiment.description,
        details=details | ({"task": (base.details or {}).get("task", "causal")} if base else {}),
        weights_folder=None if experiment.simulated else folder,
        weights_format=None if experiment.simulated else str(made.get("format")),
        simulated=experiment.simulated,
        experiment_id=experiment.id,
    )
    session.add(model)
    session.flush()
    return model


def _next_version(earlier: list[str]) -> str:
    numbers = [int(found.group()) for version in earlier if (found := re.match(r"\d+", version))]
    return f"{max(numbers, default=0) + 1}.0"


def _digests(session: Session, experiment: Experiment) -> dict[str, str]:
    found = {}
    for role, dataset_id in (("training", experiment.training_dataset_id), ("evaluation", experiment.eval_dataset_id)):
        dataset = session.get(Dataset, dataset_id) if dataset_id else None
        if dataset is not None:
            found[role] = dataset.sha256
    return found


def _evaluate(session: Session, experiment: Experiment, run: Run, model: Model, payload: Mapping[str, Any]) -> None:
    found: Mapping[str, Any] | None = payload.get("evaluation")
    if found is None:
        return
    shown = {"metrics", "loss_curve", "training_statistics"}
    statistics = dict(found.get("training_statistics") or {})
    plan = None if experiment.simulated else experiment.plan
    planned, actual = plans.planned_and_actual(plan, statistics, seconds=_seconds(session, experiment))
    session.add(
        Evaluation(
            experiment_id=experiment.id,
            run_id=run.id,
            model_id=model.id,
            dataset_id=experiment.eval_dataset_id or experiment.training_dataset_id,
            simulated=experiment.simulated,
            metrics=dict(found.get("metrics") or {}),
            loss_curve=dict(found.get("loss_curve") or {key: [] for key in _CURVE}),
            training_statistics=statistics,
            details={key: value for key, value in found.items() if key not in shown}
            | {"planned": planned, "actual": actual},
        )
    )


def _seconds(session: Session, experiment: Experiment) -> float:
    """How long its attempts worked in all, this last one up to now."""
    attempts = session.scalars(select(Run).where(Run.experiment_id == experiment.id, Run.started_at.is_not(None)))
    spans = (((run.finished_at or utcnow()) - run.started_at) for run in attempts if run.started_at is not None)
    return sum(span.total_seconds() for span in spans)


def register_artifacts(session: Session, run: Run, model: Model, payload: Mapping[str, Any]) -> None:
    """One row for each file that the run left, as `store_artifacts` put it."""
    for entry in payload.get("artifacts") or []:
        session.add(
            Artifact(
                run_id=run.id,
                model_id=model.id,
                kind=str(entry["kind"])[:32],
                path=f"artifacts/{run.id}/{str(entry['path']).removeprefix('artifacts/')}",
                size_bytes=int(entry["size_bytes"]),
                sha256=str(entry["sha256"]),
            )
        )
