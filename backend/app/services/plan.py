"""What a training will take: what the formulas say of a request, and what was measured of it.

A plan is an answer, never a row: at creation the figures are copied into the experiment, so that planned and actual can
stand side by side once it has ended. What was measured of the very same request a while ago replaces the formulas.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from app.config import Settings
from app.models import Dataset, Model
from app.services import hardware
from app.services import model as models
from app.services.references import chain
from slm import plan
from slm.plan import Data, Estimate
from slm.shape import Shape
from slm.spec import WEIGHTS_MARKER, DatasetKind, Hyperparameters

FIGURES = ("steps", "tokens", "memory_bytes", "seconds", "cpu_seconds", "checkpoint_bytes")
CHAT_TEMPLATES = ("chat_template.jinja", "chat_template.json")
"""Files beside the weights that hold one; older folders have it in `tokenizer_config.json`."""
_KEPT = 100


def shape_of(session: Session, model: Model, settings: Settings) -> Shape:
    """From what lies beside the weights; where there are none, from the size alone."""
    folder = models.weights_path(chain(session, model)[-1], settings)
    return shape_in(folder, model.parameters_count) if folder else Shape.of(model.parameters_count or 0, None)


def shape_in(folder: Path, counted: int | None) -> Shape:
    """From `config.json`, which says a few numbers, and the marker that a pull leaves."""
    config, marker = (_document(folder / name) for name in ("config.json", WEIGHTS_MARKER))
    found = (marker or {}).get("parameters_count")
    templated = any((folder / name).is_file() for name in CHAT_TEMPLATES)
    templated = templated or bool((_document(folder / "tokenizer_config.json") or {}).get("chat_template"))
    return Shape.of(counted or (found if isinstance(found, int) else 0), config, templated=templated)


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
        **_conversation(train, statistics),
    )


def _conversation(train: Dataset, statistics: Mapping[str, Any]) -> dict[str, Any]:
    """How many messages a row has, and whether the first of them is the system's."""
    if train.kind == DatasetKind.TEXT:
        return {"plain": True}
    counts = {int(turns): int(rows) for turns, rows in (statistics.get("turns") or {}).items()}
    if not counts:
        own = "system" in (train.mapping or {})
        return {"turns": 2 + own, "own_system": own}
    rows = sum(counts.values())
    # Questions and answers alternate and an answer ends: an odd message is the system's.
    odd = sum(count for turns, count in counts.items() if turns % 2)
    return {"turns": sum(turns * count for turns, count in counts.items()) / rows, "own_system": 2 * odd > rows}


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
        cores=settings.threads or machine.usable_cores,
        gpu=bool(machine.gpus),
        wide=machine.cpu_avx512,
    )


def figures(estimated: Estimate) -> dict[str, Any]:
    """Each with its basis, and the least and the most that it may come out at."""
    found: dict[str, Any] = {name: _figure(estimated, name) for name in FIGURES}
    return found | {"train_examples": estimated.train_examples, "eval_examples": estimated.eval_examples}


def measured(formula: Estimate, found: Mapping[str, Any]) -> Estimate:
    """The same estimate, what a trial found in the place of the formulas'."""
    names = (*FIGURES, "train_examples", "eval_examples")
    return replace(formula, basis="measured", **{name: found[name] for name in names if found.get(name) is not None})


def _figure(estimated: Estimate, name: str) -> dict[str, Any] | None:
    value = getattr(estimated, name)
    if value is None:
        return None
    low, high = plan.between(estimated, name)
    if isinstance(value, int):
        return {"value": value, "low": math.floor(low), "high": math.ceil(high), "basis": estimated.basis}
    return {"value": round(value, 3), "low": round(low, 3), "high": round(high, 3), "basis": estimated.basis}


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
