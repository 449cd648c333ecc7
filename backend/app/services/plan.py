"""What a training will take: what the formulas say of a request, and what was measured of it.

A plan is an answer, never a row: at creation the figures are copied into the experiment, so that planned and actual can
stand side by side once it has ended. What was measured of the very same request a while ago replaces the formulas.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.config import Settings
from app.models import Dataset, Model
from app.services import hardware
from app.services import model as models
from app.services.references import chain
from slm import plan
from slm.plan import Data, Estimate, Shape
from slm.spec import WEIGHTS_MARKER, Hyperparameters

FIGURES = ("steps", "tokens", "memory_bytes", "seconds", "cpu_seconds", "checkpoint_bytes")
_KEPT = 100


def shape_of(session: Session, model: Model, settings: Settings) -> Shape:
    """From the `config.json` beside the weights, which says a few numbers; where there is none, from the size alone."""
    folder = models.weights_path(chain(session, model)[-1], settings)
    config, marker = (_document(folder / name) if folder else None for name in ("config.json", WEIGHTS_MARKER))
    counted = (marker or {}).get("parameters_count")
    return Shape.of(model.parameters_count or (counted if isinstance(counted, int) else 0), config)


def _document(path: Path) -> dict[str, Any] | None:
    """A small JSON object beside the weights, or None where there is none that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def data_of(train: Dataset, evaluate: Dataset | None) -> Data:
    """From what the inspection counted."""
    statistics = train.statistics or {}
    held_out = None if evaluate is None else int((evaluate.statistics or {}).get("examples") or evaluate.row_count)
    return Data(
        rows=int(statistics.get("examples") or train.row_count),
        characters=int(statistics.get("characters") or 0),
        longest=int(statistics.get("longest_characters") or 0),
        learned_characters=int(statistics.get("learned_characters") or 0),
        held_out=held_out,
    )


def estimate(
    session: Session,
    config: Hyperparameters,
    *,
    base: Model,
    train: Dataset,
    evaluate: Dataset | None,
    settings: Settings,
) -> Estimate:
    machine = hardware.machine()
    return plan.estimate(
        config,
        shape=shape_of(session, base, settings),
        data=data_of(train, evaluate),
        cores=settings.threads or machine.physical_cores,
        gpu=bool(machine.gpus),
    )


def by_formula(estimated: Estimate) -> dict[str, Any]:
    """The figures, each with its basis."""
    figures: dict[str, Any] = {name: _figure(getattr(estimated, name), estimated.basis) for name in FIGURES}
    return figures | {"train_examples": estimated.train_examples, "eval_examples": estimated.eval_examples}


def by_measure(formula: Mapping[str, Any], measured: Mapping[str, Any]) -> dict[str, Any]:
    """The same figures, those that a trial found in the place of the formulas'."""
    found = {name: _figure(measured[name], "measured") for name in FIGURES if measured.get(name) is not None}
    counts = {name: measured[name] for name in ("train_examples", "eval_examples") if name in measured}
    return {**formula, **found, **counts}


def _figure(value: float | None, basis: str) -> dict[str, Any] | None:
    if value is None:
        return None
    return {"value": round(value, 3) if isinstance(value, float) else value, "basis": basis}


def identity(base: Model, train: Dataset, evaluate: Dataset | None, config: Hyperparameters) -> str:
    """Names a request: the same model, rows and hyperparameters."""
    parts = [base.id, train.sha256, train.mapping, evaluate.sha256 if evaluate else None, config.model_dump_json()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Trials:
    """What was measured lately, by request. Thread-safe; forgotten when the service ends."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, name: str, measured: dict[str, Any]) -> None:
        with self._lock:
            self._found[name] = measured
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)

    def of(self, name: str) -> dict[str, Any] | None:
        with self._lock:
            return self._found.get(name)


def planned_and_actual(
    plan_of: Mapping[str, Any] | None, statistics: Mapping[str, Any], *, seconds: float | None
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The same figures of before and after, for an evaluation; `seconds` is how long the runs took."""
    if plan_of is None:
        return None, None
    wanted = ("steps", "tokens", "seconds", "memory_bytes", "cpu_seconds")
    planned = {name: (plan_of.get(name) or {}).get("value") for name in wanted}
    actual = {
        "steps": statistics.get("total_steps"),
        "tokens": statistics.get("tokens_seen"),
        "seconds": round(seconds, 1) if seconds is not None else None,
        "memory_bytes": statistics.get("peak_memory_bytes"),
        "cpu_seconds": statistics.get("cpu_seconds"),
    }
    return planned, actual
