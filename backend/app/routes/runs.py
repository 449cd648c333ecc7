"""`/runs` and the event streams: watch any long work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from app.database import Database
from app.routes.deps import Db, ReadSession
from app.routes.problems import declared
from app.schemas.run import CancelBody, EventAnswer, RunAnswer
from app.services import experiment as experiments
from app.services import training

router = APIRouter(tags=["Runs"])
RunId = Annotated[str, Path(max_length=64, examples=["01a20b4e-acbc-7f03-9d20-ccef5efd5345"])]
POLL_SECONDS = 0.5
PING_SECONDS = 15.0
_ENDED = frozenset({"completed", "failed", "cancelled"})


@router.get("/runs/{run_id}", response_model=RunAnswer, responses=declared(404), summary="A run")
def get_run(run_id: RunId, session: ReadSession) -> Any:
    """One attempt at long work: a training, a simulation, a pull."""
    return training.get_run(session, run_id)


@router.post("/runs/{run_id}/cancel", response_model=RunAnswer, responses=declared(404, 409), summary="Stop a run")
def cancel_run(run_id: RunId, db: Db, request: Request, body: CancelBody | None = None) -> Any:
    save = body.save if body is not None else True
    run = db.write(lambda session: training.request_cancel(session, run_id, save=save))
    request.app.state.supervisor.wake()
    return run


@router.get(
    "/experiments/{experiment_id}/events",
    response_model=list[EventAnswer],
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Events, as JSON or as a stream"},
        **declared(404),
    },
    tags=["Experiments"],
    summary="What its runs reported",
)
async def events(
    experiment_id: Annotated[str, Path(max_length=64)],
    request: Request,
    db: Db,
    since: Annotated[int, Query(ge=0, le=2**53, description="Only events after this number.")] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    types: Annotated[
        str | None,
        Query(
            max_length=200, pattern=r"^[a-z_, ]*$", description="Comma-separated; all where left out, and in streams."
        ),
    ] = None,
    last_event_id: Annotated[str | None, Header(description="Resumes a broken stream.")] = None,
) -> Response:
    """JSON by default. With `Accept: text/event-stream` a live stream: `id` is the durable number, `event` the type;
    it ends after the experiment has, and `Last-Event-ID` resumes it without loss or repetition."""
    if last_event_id is not None and last_event_id.isdigit():
        since = max(since, min(int(last_event_id), 2**53))
    first = await asyncio.to_thread(_read, db, experiment_id, since, limit, _names(types))
    if "text/event-stream" in request.headers.get("accept", ""):
        stream = _stream(request, db, experiment_id, since)
        return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})
    return JSONResponse([EventAnswer(**event).model_dump(mode="json") for event in first[0]])


def _names(types: str | None) -> list[str]:
    return [name.strip() for name in types.split(",") if name.strip()] if types else []


def _read(
    db: Database, experiment_id: str, since: int, limit: int, types: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], bool]:
    with db.read() as session:
        ended = experiments.get(session, experiment_id).status in _ENDED
        return experiments.events(session, experiment_id, since=since, limit=limit, types=types), ended


async def _stream(request: Request, db: Database, experiment_id: str, since: int) -> AsyncIterator[str]:
    quiet = 0.0
    while not await request.is_disconnected() and not request.app.state.stopping.is_set():
        found, ended = await asyncio.to_thread(_read, db, experiment_id, since, 1000)
        for event in found:
            since = event["id"]
            yield f"id: {since}\nevent: {event['type']}\ndata: {EventAnswer(**event).model_dump_json()}\n\n"
        if found:
            quiet = 0.0
        elif ended:
            return
        else:
            quiet += POLL_SECONDS
            if quiet >= PING_SECONDS:
                quiet = 0.0
                yield ": alive\n\n"
            await asyncio.sleep(POLL_SECONDS)
