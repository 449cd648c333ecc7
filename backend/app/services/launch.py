"""From a request to a frozen experiment: references checked, every default resolved, the executor decided once."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.config import Settings
from app.errors import Conflict, FieldError, SpecRejected
from app.models import Dataset, Experiment, Model, Run
from app.models.columns import new_id, utcnow
from app.services import dataset as datasets
from app.services import gate, hardware, references
from app.services import model as models
from app.services.gate import rejected
from app.services.references import base_kind
from slm import plan
from slm.spec import (
    DatasetKind,
    Hyperparameters,
    SimulationSpec,
    TrainSpec,
    resolve,
)

_ONLY_SIMULATION = frozenset({"simulated_failure_rate"})
CONFIG_KEYS = frozenset(Hyperparameters.model_fields) | _ONLY_SIMULATION


@dataclass(frozen=True)
class Request:
    """What a client asked for, with the references resolved to rows."""

    name: str
    description: str | None
    goal: str | None
    training_config: Mapping[str, Any]
    executor: str
    base: Model
    train: Dataset
    evaluate: Dataset | None


def refer(
    session: Session, *, base_model_id: str, training_dataset_id: str, eval_dataset_id: str | None
) -> tuple[Model, Dataset, Dataset | None]:
    """The rows that a request refers to. Raises `NotFound` naming the one that is missing."""
    base = models.get(session, base_model_id, missing="Base model not found")
    train = datasets.get(session, training_dataset_id, missing="Training dataset not found")
    evaluate = None
    if eval_dataset_id is not None:
        evaluate = datasets.get(session, eval_dataset_id, missing="Evaluation dataset not found")
    return base, train, evaluate


def prepare(session: Session, request: Request, settings: Settings) -> tuple[Experiment, Run]:
    """Resolve everything; reads rows and looks at the disk, writes nothing. Raises `SpecRejected` with the reason."""
    config, _ = _resolve(request)
    executor, why = _decide_executor(session, request, config, settings)
    simulated = executor == "simulation"
    given_seed = request.training_config.get("seed")
    if simulated and given_seed is None:
        config = config.model_copy(update={"seed": random.randrange(2**31)})
    identity, run_id = new_id(), new_id()
    warnings: list[str] = []
    if simulated:
        spec: SimulationSpec | TrainSpec = _simulation_spec(request, config, settings, identity, run_id)
    else:
        warnings = _warnings(request, config, settings)
        spec = _train_spec(session, request, config, settings, identity, run_id)
    experiment = Experiment(
        id=identity,
        name=request.name,
        description=request.description,
        goal=request.goal,
        base_model_id=request.base.id,
        training_dataset_id=request.train.id,
        eval_dataset_id=request.evaluate.id if request.evaluate else None,
        training_config=json.loads(config.model_dump_json()),
        requested_config=dict(request.training_config),
        executor=executor,
        executor_reason=why,
        simulated=simulated,
        method=config.method.value,
        adapter=config.adapter.value,
        seed=config.seed,
        warnings=warnings,
        run_id=run_id,
    )
    run = Run(
        id=run_id,
        task=spec.task,
        experiment_id=identity,
        attempt=1,
        executor=executor,
        directory=identity,
        spec=json.loads(spec.model_dump_json()),
        lease_until=utcnow(),
    )
    return experiment, run


def insert(session: Session, experiment: Experiment, run: Run) -> Experiment:
    """Write both rows; the references are looked at again, since time has passed."""
    refer(
        session,
        base_model_id=experiment.base_model_id,
        training_dataset_id=experiment.training_dataset_id,
        eval_dataset_id=experiment.eval_dataset_id,
    )
    session.add(experiment)
    session.flush()
    session.add(run)
    session.flush()
    return experiment


def _resolve(request: Request) -> tuple[Hyperparameters, dict[str, str]]:
    asked = {key: value for key, value in request.training_config.items() if key not in _ONLY_SIMULATION}
    kind = DatasetKind(request.train.kind) if request.train.kind else None
    try:
        return resolve(asked, kind=kind, base=base_kind(request.base))
    except ValidationError as error:
        errors = tuple(
            FieldError(f"training_config.{'.'.join(map(str, item['loc']))}", _sentence(item["msg"]))
            for item in error.errors()
        )
        raise SpecRejected(f"{errors[0].field}: {errors[0].message}", errors=errors) from None
    except ValueError as error:
        raise rejected("training_config", _sentence(str(error))) from None


def _sentence(message: str) -> str:
    text = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return text if text.endswith(".") else f"{text}."


def _decide_executor(
    session: Session, request: Request, config: Hyperparameters, settings: Settings
) -> tuple[str, str]:
    """The executor and why: `auto` trains where the weights are here, else simulates and says how to get them."""
    if request.executor == "simulation":
        return "simulation", "Simulation was asked for: its numbers are made up."
    missing = references.missing_weights(session, request.base, settings)
    if missing is None:
        _refuse_unsuitable(request, config)
        asked = "asked for" if request.executor == "local" else "the base model's weights are on this machine"
        return "local", f"Trains on this machine: {asked}."
    if request.executor == "local":
        raise Conflict(f"executor: cannot train for real: {missing}", code="weights_missing")
    return "simulation", f"Simulated, its numbers are made up: {missing}"


def _refuse_unsuitable(request: Request, config: Hyperparameters) -> None:
    """What rows show already: data that the method cannot learn from, a base that cannot learn by it."""
    gate.require_base(request.base, config.method)
    for field, dataset in (("training_dataset_id", request.train), ("eval_dataset_id", request.evaluate)):
        if dataset is not None:
            gate.require_data(dataset, config.method, field=field)


def _warnings(request: Request, config: Hyperparameters, settings: Settings) -> list[str]:
    statistics = request.train.statistics or {}
    rows = int(statistics.get("examples") or request.train.row_count)
    machine = hardware.machine()
    estimated = plan.estimate(
        config,
        parameters=request.base.parameters_count,
        rows=rows,
        characters=int(statistics.get("characters") or 0),
        longest=int(statistics.get("longest_characters") or 0),
        cores=settings.threads or machine.physical_cores,
        gpu=bool(machine.gpus),
    )
    found = plan.warnings(config, estimated, rows=rows)
    faults = int((request.train.faults or {}).get("count") or 0)
    if faults:
        found.append(f"{faults} of {request.train.row_count} training rows cannot be used; see the dataset's faults.")
    if request.evaluate is not None and request.evaluate.sha256 == request.train.sha256:
        found.append("The evaluation data are the training data: the result will show memory, not learning.")
    return found


def _train_spec(
    session: Session, request: Request, config: Hyperparameters, settings: Settings, identity: str, run_id: str
) -> TrainSpec:
    return TrainSpec(
        run_id=run_id,
        experiment_id=identity,
        attempt=1,
        model=references.model_reference(session, request.base, settings),
        train=references.dataset_reference(request.train, settings),
        eval=references.dataset_reference(request.evaluate, settings) if request.evaluate else None,
        config=config,
        threads=settings.threads,
    )


def _simulation_spec(
    request: Request, config: Hyperparameters, settings: Settings, identity: str, run_id: str
) -> SimulationSpec:
    rate = request.training_config.get("simulated_failure_rate")
    rate = settings.training_simulation_failure_rate if rate is None else rate
    if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate <= 1:
        raise rejected("training_config.simulated_failure_rate", "must be a number from 0 to 1.")
    return SimulationSpec(
        run_id=run_id,
        experiment_id=identity,
        attempt=1,
        config=config,
        rows=request.train.row_count,
        parameters_count=request.base.parameters_count,
        delay_seconds=settings.training_simulation_delay,
        duration_seconds=settings.training_simulation_duration,
        failure_rate=float(rate),
        seed=config.seed,
    )
