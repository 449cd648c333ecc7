"""From a request to a frozen experiment: references checked, every default resolved, the executor decided once."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from app.config import Settings
from app.errors import Conflict, FieldError, SpecRejected
from app.models import Dataset, Experiment, Model, Run
from app.models.columns import new_id
from app.services import dataset as datasets
from app.services import gate, hardware, references, training
from app.services import model as models
from app.services import plan as plans
from app.services.gate import rejected
from app.services.plan import Trials
from app.services.references import base_kind
from slm.plan import Estimate
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


@dataclass(frozen=True)
class Decision:
    """A request with everything resolved that does not depend on tokens."""

    config: Hyperparameters
    reasons: Mapping[str, str]
    """Of each default that was taken."""
    executor: str
    why: str
    estimate: Estimate
    warnings: list[str]

    @property
    def simulated(self) -> bool:
        return self.executor == "simulation"


def decide(session: Session, request: Request, settings: Settings) -> Decision:
    """Resolve and judge a request, for creation and plan alike; reads rows and looks at the disk, writes nothing.

    Raises `SpecRejected` or `Conflict` with the reason why it cannot be had.
    """
    config, reasons = _resolve(request)
    executor, why = _decide_executor(session, request, config, settings)
    estimated = plans.estimate(
        session, config, base=request.base, train=request.train, evaluate=request.evaluate, settings=settings
    )
    if executor == "simulation":
        failure_rate(request, settings)
        return Decision(config, reasons, executor, why, estimated, [])
    decision = Decision(config, reasons, executor, why, estimated, [])
    machine = hardware.machine()
    gate.refuse(asked(request, decision), machine)
    free = hardware.free_disk(settings.data_dir)
    warnings = gate.warnings(asked(request, decision), machine, free_disk=free)
    return replace(decision, warnings=warnings)


def asked(request: Request, decision: Decision) -> gate.Asked:
    """The request as the gate looks at it."""
    return gate.Asked(
        base=request.base,
        trained_by=references.method_of(request.base),
        train=request.train,
        evaluate=request.evaluate,
        config=decision.config,
        estimate=decision.estimate,
    )


def prepare(
    session: Session, request: Request, settings: Settings, *, trials: Trials | None = None
) -> tuple[Experiment, Run]:
    """The rows of a new experiment; `trials` may have measured it already. Raises as `decide` does."""
    decision = decide(session, request, settings)
    config, simulated = decision.config, decision.simulated
    if simulated and request.training_config.get("seed") is None:
        config = config.model_copy(update={"seed": random.randrange(2**31)})
    run_id, identity = new_id(), new_id()
    if simulated:
        spec: SimulationSpec | TrainSpec = _simulation_spec(request, config, settings, identity, run_id)
    else:
        spec = train_spec(session, request, config, settings, identity, run_id)
    estimated = decision.estimate
    measured = trials.of(plans.identity(request.base, request.train, request.evaluate, config)) if trials else None
    if measured is not None and not simulated:
        estimated = plans.measured(estimated, measured)
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
        requested_executor=request.executor,
        executor=decision.executor,
        executor_reason=decision.why,
        simulated=simulated,
        method=config.method.value,
        adapter=config.adapter.value,
        seed=config.seed,
        warnings=decision.warnings,
        plan=plans.figures(estimated),
        run_id=run_id,
    )
    run = training.first_attempt(spec, executor=decision.executor)
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
    """The executor and why: `auto` trains where what it starts from is here, else simulates and says how to get it."""
    if request.executor == "simulation":
        return "simulation", "Simulation was asked for: its numbers are made up."
    start, missing = references.ground(session, request.base, config, settings)
    if start is not None:
        scratch = "what begins from scratch needs no weights"
        here = scratch if start.model_type is not None else "the base model's weights are on this machine"
        return "local", f"Trains on this machine: {'asked for' if request.executor == 'local' else here}."
    if request.executor == "local":
        raise Conflict(f"executor: cannot train for real: {missing}", code="weights_missing")
    return "simulation", f"Simulated, its numbers are made up: {missing}"


def train_spec(
    session: Session, request: Request, config: Hyperparameters, settings: Settings, identity: str, run_id: str
) -> TrainSpec:
    start, missing = references.ground(session, request.base, config, settings)
    if start is None:
        raise Conflict(f"executor: cannot train for real: {missing}", code="weights_missing")
    return TrainSpec(
        run_id=run_id,
        experiment_id=identity,
        attempt=1,
        model=start,
        train=references.dataset_reference(request.train, settings),
        eval=references.dataset_reference(request.evaluate, settings) if request.evaluate else None,
        config=config,
        threads=settings.threads,
    )


def _simulation_spec(
    request: Request, config: Hyperparameters, settings: Settings, identity: str, run_id: str
) -> SimulationSpec:
    return SimulationSpec(
        run_id=run_id,
        experiment_id=identity,
        attempt=1,
        config=config,
        rows=request.train.row_count,
        parameters_count=request.base.parameters_count,
        delay_seconds=settings.training_simulation_delay,
        duration_seconds=settings.training_simulation_duration,
        failure_rate=failure_rate(request, settings),
        seed=config.seed,
    )


def failure_rate(request: Request, settings: Settings) -> float:
    """How probably the simulation fails. Raises `SpecRejected` for what is no probability."""
    rate = request.training_config.get("simulated_failure_rate")
    rate = settings.training_simulation_failure_rate if rate is None else rate
    if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate <= 1:
        raise rejected("training_config.simulated_failure_rate", "must be a number from 0 to 1.")
    return float(rate)
