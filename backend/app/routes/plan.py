"""`POST /experiments/plan`: what a creation would do and take, without creating anything."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from sqlalchemy.orm import Session

from app.config import Settings
from app.database import Database
from app.errors import FieldError, Invalid, Unavailable
from app.routes.deps import AppSettings, Db
from app.routes.problems import declared
from app.schemas.common import refuse_unknown
from app.schemas.experiment import Asked, NewPlan
from app.schemas.plan import PlanAnswer
from app.services import launch
from app.services import outlook as service
from app.services.asks import Asks
from app.services.outlook import Outlook
from app.services.plan import Trials

router = APIRouter(prefix="/experiments", tags=["Experiments"])


@router.post(
    "/plan",
    response_model=PlanAnswer,
    responses=declared(404, 409, 503),
    summary="Plan an experiment without creating it",
)
async def plan(
    body: NewPlan,
    request: Request,
    db: Db,
    settings: AppSettings,
    measure: Annotated[
        bool, Query(description="Take a few of its steps and measure them; that takes up to a minute or two.")
    ] = False,
) -> Any:
    """The body of a creation; what a creation refuses is refused here in the same words.

    Every default with its reason; steps, tokens, memory and time, each by formula or, with `measure`, from a few real
    steps on this machine; what a creation would warn of, and the overlap between training and evaluation rows.
    """
    asks: Asks = request.app.state.asks
    trials: Trials = request.app.state.trials
    found = await asyncio.to_thread(_prepare, db, settings, body, trials)
    if measure and found.trial is not None:
        answer = await asks.ask(found.trial, seconds=service.TRIAL_LIMIT, gone=request.is_disconnected)
        taken: dict[str, Any] = json.loads(answer)
        trials.remember(found.name, taken)
        found = service.measured(found, taken, settings)
    return (await _with_overlap(found, asks)).document


async def _with_overlap(found: Outlook, asks: Asks) -> Outlook:
    """A plan is worth having without it, so a comparison that takes too long is told and left out."""
    if found.datasets is None:
        return found
    command = service.overlap_command(found.datasets)
    try:
        printed = await asks.child(command, seconds=service.OVERLAP_SECONDS, what="comparison of the datasets")
    except Unavailable as error:
        printed = json.dumps({"ok": False, "error": error.message}).encode()
    return service.with_overlap(found, printed)


def _prepare(db: Database, settings: Settings, body: NewPlan, trials: Trials) -> Outlook:
    with db.read() as session:
        return service.prepare(session, requested(session, body, settings, name=body.name), settings, trials)


def requested(session: Session, body: Asked, settings: Settings, *, name: str) -> launch.Request:
    """What a body asks for, its references looked up. Raises `Invalid` for an unknown hyperparameter, `NotFound`."""
    try:
        refuse_unknown(dict(body.training_config), known=tuple(launch.CONFIG_KEYS))
    except ValueError as error:
        message = str(error)
        raise Invalid(f"training_config: {message}", errors=(FieldError("training_config", message),)) from None
    base, train, evaluate = launch.refer(
        session,
        base_model_id=body.base_model_id,
        training_dataset_id=body.training_dataset_id,
        eval_dataset_id=body.eval_dataset_id,
    )
    return launch.Request(
        name=name,
        description=body.description,
        goal=body.goal,
        training_config=body.training_config,
        executor=body.executor or settings.default_executor,
        base=base,
        train=train,
        evaluate=evaluate,
    )
