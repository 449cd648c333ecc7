"""The same experiment again, and whether it comes out the same: curve, weights and metrics, to the last bit.

What is repeated is the frozen spec of the first run, its digests and its seed; only the places of files are looked up
anew. The verdict is written when the repetition has ended, so that it outlives the experiment that was repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.config import Settings
from app.errors import Conflict
from app.models import Dataset, Evaluation, Event, Experiment, Model, Run
from app.models.columns import new_id
from app.services import evaluation as evaluations
from app.services import experiment as experiments
from app.services import model as models
from app.services import training
from app.services.references import dataset_reference, ground
from slm.spec import SimulationSpec, TrainSpec, parse_spec

_MACHINE = ("device", "precision", "micro_batch", "accumulation", "threads")
_ENDED = ("completed", "failed", "cancelled")


def prepare(session: Session, experiment_id: str, settings: Settings) -> tuple[Experiment, Run]:
    """The rows of a repetition; reads rows and looks at the disk, writes nothing.

    Raises `NotFound`, or `Conflict` where it did not complete, or data or weights are gone.
    """
    first = experiments.get(session, experiment_id)
    if first.status != "completed":
        message = f"The experiment is {first.status}; only a completed one has a result to compare with."
        raise Conflict(message, code="not_completed")
    run = training.latest_run(session, experiment_id)
    if run is None:
        raise Conflict("Nothing is known of the run any more.", code="not_completed")
    identity, run_id = new_id(), new_id()
    spec = parse_spec(run.spec)
    if isinstance(spec, TrainSpec):
        spec = _found_again(session, first, spec, settings)
    if not isinstance(spec, TrainSpec | SimulationSpec):
        raise Conflict("Only trainings can be repeated.", code="not_a_training")
    spec = spec.model_copy(update={"run_id": run_id, "experiment_id": identity, "attempt": 1})
    same = ("description", "goal", "base_model_id", "training_dataset_id", "eval_dataset_id", "training_config",
            "requested_config", "requested_executor", "executor", "simulated", "method", "adapter", "seed", "warnings",
            "plan")  # fmt: skip
    again = Experiment(
        id=identity,
        name=f"{first.name[:180]} (again)",
        executor_reason=f"Repeats '{first.name}' with the same spec, data and seed.",
        run_id=run_id,
        reproduces_id=first.id,
        **{name: getattr(first, name) for name in same},
    )
    repeated = training.first_attempt(spec, executor=first.executor)
    return again, repeated


def _found_again(session: Session, first: Experiment, spec: TrainSpec, settings: Settings) -> TrainSpec:
    """The spec with files where they are now. Raises `Conflict` where they are gone; the run checks their digests."""
    base = models.get(session, first.base_model_id, missing="Base model not found")
    start, missing = ground(session, base, spec.config, settings)
    if start is None:
        raise Conflict(f"It cannot be repeated: {missing}", code="weights_missing")
    places: dict[str, Any] = {"model": start}
    for role, reference in (("train", spec.train), ("eval", spec.eval)):
        if reference is None:
            continue
        dataset = session.get(Dataset, reference.dataset_id)
        found = dataset_reference(dataset, settings) if dataset is not None else None
        if found is None or not (settings.upload_dir / str(dataset and dataset.stored_name)).is_file():
            message = f"It cannot be repeated: the file of dataset '{reference.name}' is gone; upload it again."
            raise Conflict(message, code="data_missing")
        if found.sha256 != reference.sha256:
            message = f"It cannot be repeated: dataset '{reference.name}' holds other data now."
            raise Conflict(message, code="data_changed")
        places[role] = reference.model_copy(update={"path": found.path})
    return spec.model_copy(update=places)


def finished(session: Session, experiment: Experiment, run: Run) -> None:
    """Write the verdict into the run's result. Called where a run of the experiment completes."""
    if experiment.reproduces_id is not None:
        run.result = {**(run.result or {}), "reproduction": _compare(session, experiment)}


def reproduction(session: Session, experiment: Experiment, run: Run | None) -> dict[str, Any] | None:
    """What the experiment repeats and whether it came out the same; None where it repeats nothing."""
    if experiment.reproduces_id is None:
        return None
    found: dict[str, Any] | None = ((run.result if run is not None else None) or {}).get("reproduction")
    if found is not None:
        return found
    answer: dict[str, Any] = {"of": experiment.reproduces_id, "identical": None, "differences": []}
    if experiment.status in _ENDED:
        why = (experiment.error or {}).get("message", "")
        answer |= {"identical": False, "differences": [f"The repetition is {experiment.status}. {why}".strip()]}
    return answer


def _compare(session: Session, again: Experiment) -> dict[str, Any]:
    """identical: curve, final weights and metrics; differences also tell of another machine or other libraries."""
    first = session.get(Experiment, again.reproduces_id)
    if first is None:
        gone = "The experiment that it repeats was deleted meanwhile; there is nothing to compare with."
        return {"of": again.reproduces_id, "identical": None, "differences": [gone]}
    results = [
        *_curve(session, first, again, "train_loss"),
        *_curve(session, first, again, "val_loss"),
        *_metrics(session, first, again),
        *_weights(session, first, again),
    ]
    circumstances = list(_circumstances(_started(session, first), _started(session, again)))
    return {"of": first.id, "identical": not results, "differences": circumstances + results}


def _started(session: Session, experiment: Experiment) -> Mapping[str, Any]:
    """How the newest attempt computed, as it said itself."""
    query = select(Event.payload).where(Event.experiment_id == experiment.id, Event.type == "started")
    return session.scalars(query.order_by(Event.number.desc()).limit(1)).first() or {}


def _circumstances(first: Mapping[str, Any], again: Mapping[str, Any]) -> Iterator[str]:
    versions = (first.get("versions") or {}, again.get("versions") or {})
    for name in sorted({*versions[0], *versions[1]}):
        if versions[0].get(name) != versions[1].get(name):
            yield f"{name}: version {versions[0].get(name)} then, {versions[1].get(name)} now."
    for name in _MACHINE:
        if first.get(name) != again.get(name):
            yield f"{name}: {first.get(name)} then, {again.get(name)} now."


def _curve(session: Session, first: Experiment, again: Experiment, key: str) -> Iterator[str]:
    """The first step that differs and by how much, the greatest difference, and the last values."""
    columns = [
        evaluations.curves(session, experiment.id, keys=[key], since=0, points=None)[key]
        for experiment in (first, again)
    ]
    then, now = (dict(zip(column["step"], column["value"], strict=True)) for column in columns)
    if list(then) != list(now):
        yield f"{key}: {len(then)} points then, {len(now)} now."
    apart = [(step, then[step], now[step]) for step in then if step in now and then[step] != now[step]]
    if apart:
        step, before, after = apart[0]
        most = max(apart, key=lambda found: abs(found[1] - found[2]))
        yield (
            f"{key}: differs from step {step} on ({before:.6g} then, {after:.6g} now), "
            f"at most by {abs(most[1] - most[2]):.3g} at step {most[0]}."
        )
        last = max(set(then) & set(now))
        if then[last] != now[last]:
            yield f"Final {key}: {then[last]:.6g} then, {now[last]:.6g} now ({now[last] - then[last]:+.3g})."


def _metrics(session: Session, first: Experiment, again: Experiment) -> Iterator[str]:
    then, now = (_evaluation(session, experiment) for experiment in (first, again))
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            yield f"{name}: {_figure(then.get(name))} then, {_figure(now.get(name))} now."


def _evaluation(session: Session, experiment: Experiment) -> Mapping[str, Any]:
    query = select(Evaluation.metrics).where(Evaluation.experiment_id == experiment.id)
    return session.scalars(query.order_by(Evaluation.created_at).limit(1)).first() or {}


def _weights(session: Session, first: Experiment, again: Experiment) -> Iterator[str]:
    then, now = (_digest(session, experiment) for experiment in (first, again))
    if then is None and not first.simulated:
        yield "The model of the first experiment is gone, so that the weights cannot be compared."
    elif then != now:
        yield f"Final weights differ: SHA-256 {str(then)[:12]}… then, {str(now)[:12]}… now."


def _digest(session: Session, experiment: Experiment) -> str | None:
    query = select(Model).where(Model.experiment_id == experiment.id).order_by(Model.created_at.desc()).limit(1)
    model = session.scalars(query).first()
    found = (model.details or {}).get("sha256") if model is not None else None
    return str(found) if found else None


def _figure(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, int | float) else "nothing"
