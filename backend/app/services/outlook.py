"""A plan as an answer: the resolved request, its figures, its warnings; then what trial and overlap add to it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from app.config import Settings
from app.models.columns import new_id
from app.services import gate, hardware, launch, references
from app.services import plan as plans
from app.services.plan import Trials
from slm.spec import DatasetRef, TrialSpec

TRIAL_SECONDS = 60.0
"""No step of a trial begins after so long."""
TRIAL_LIMIT = 240.0
OVERLAP_SECONDS = 30.0


@dataclass(frozen=True)
class Outlook:
    """What can be said at once, and the questions that a process has to answer."""

    document: dict[str, Any]
    name: str
    """Of the request, for `Trials`."""
    asked: gate.Asked | None
    """Null for a simulation."""
    trial: TrialSpec | None
    datasets: tuple[DatasetRef, DatasetRef] | None
    """Whose overlap is wanted: training and evaluation."""


def prepare(session: Session, request: launch.Request, settings: Settings, trials: Trials) -> Outlook:
    """The plan by formula, or by what a trial of the same request has measured. Raises what a creation would raise."""
    decision = launch.decide(session, request, settings)
    config = decision.config
    name = plans.identity(request.base, request.train, request.evaluate, config)
    document: dict[str, Any] = {
        "executor": decision.executor,
        "executor_reason": decision.why,
        "simulated": decision.simulated,
        "method": config.method.value,
        "adapter": config.adapter.value,
        "training_config": json.loads(config.model_dump_json()),
        "reasons": {key: f"{reason}." for key, reason in decision.reasons.items()},
        **plans.figures(decision.estimate),
        "warnings": decision.warnings,
        "overlap": None,
        "measured": False,
    }
    both = _comparable(request, settings)
    if decision.simulated:
        return Outlook(document, name, None, None, both)
    asked = launch.asked(request, decision)
    train = launch.train_spec(session, request, config, settings, "plan", "plan")
    trial = TrialSpec(run_id=new_id(), train=train, seconds=TRIAL_SECONDS)
    outlook = Outlook(document, name, asked, trial, both)
    known = trials.of(name)
    return outlook if known is None else measured(outlook, known, settings)


def _comparable(request: launch.Request, settings: Settings) -> tuple[DatasetRef, DatasetRef] | None:
    """Both datasets, where their rows are understood."""
    if request.evaluate is None or request.evaluate.kind is None or request.train.kind is None:
        return None
    return (
        references.dataset_reference(request.train, settings),
        references.dataset_reference(request.evaluate, settings),
    )


def measured(outlook: Outlook, found: Mapping[str, Any], settings: Settings) -> Outlook:
    """The plan with what a trial found in the place of the formulas, its warnings too."""
    document = outlook.document | {"measured": True}
    if outlook.asked is not None:
        asked = replace(outlook.asked, estimate=plans.measured(outlook.asked.estimate, found))
        document |= plans.figures(asked.estimate)
        said = gate.warnings(asked, hardware.machine(), free_disk=hardware.free_disk(settings.data_dir))
        document["warnings"] = [*said, *found.get("warnings", [])]
    return replace(outlook, document=document)


def overlap_command(datasets: tuple[DatasetRef, DatasetRef]) -> list[str]:
    return [sys.executable, "-m", "slm.overlap", *(reference.model_dump_json() for reference in datasets)]


def with_overlap(outlook: Outlook, printed: bytes) -> Outlook:
    """The plan with what the two datasets have in common, as `slm.overlap` printed it."""
    document = dict(outlook.document)
    try:
        answer: dict[str, Any] = json.loads(printed)
    except ValueError:
        answer = {"ok": False, "error": "The process that compared the datasets ended early."}
    if not answer["ok"]:
        document["warnings"] = [*document["warnings"], str(answer["error"])]
        return replace(outlook, document=document)
    found = answer["overlap"]
    document["overlap"] = {**found, "metrics_without": None, "rows_without": None}
    count = found["exact"] + found["normalised"] + found["near"]
    same = any("evaluation data are the training data" in sentence for sentence in document["warnings"])
    if count and not same:
        document["warnings"] = [
            *document["warnings"],
            f"{count} of {found['rows']} evaluation rows are, or nearly are, training rows: on those the result shows "
            "memory, not learning.",
        ]
    return replace(outlook, document=document)
