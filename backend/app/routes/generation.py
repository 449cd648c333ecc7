"""`/models/{id}/chat` and `/predictions`: talk to a model, whole or word for word; run it over a dataset.

No thread waits for a chat, however many talk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from app.config import Settings
from app.database import Database
from app.errors import PlatformError, Unavailable
from app.routes.deps import AppSettings, Db
from app.routes.problems import declared, problem
from app.schemas.generation import ChatAnswer, NewChat, NewPrediction, TokenEvent
from app.schemas.run import RunAnswer
from app.services import generation as service
from app.services import prediction as predictions
from app.services.generation import Accepted, Answered, Heard, Question, Words

router = APIRouter(prefix="/models", tags=["Models"])
ModelId = Annotated[str, Path(max_length=64, examples=["01a20b4e-acbc-7f03-9d20-ccef5efd5345"])]
PING_SECONDS = 15.0
_LOOK_SECONDS = 1.0
_HUNG_UP = 499
"""For the log alone: whoever asked has gone, nobody reads this answer."""
_STREAM = {
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
    "description": "The answer; with `stream: true` as events `token` (`{side, text}`), then `done` (this answer) or "
    "`error` (a problem)",
}


@router.post(
    "/{model_id}/chat",
    response_model=ChatAnswer,
    responses={200: _STREAM, **declared(404, 409, 503)},
    summary="Talk to a model",
)
async def chat(model_id: ModelId, body: NewChat, db: Db, settings: AppSettings, request: Request) -> Response:
    """Answers a conversation or a prompt; with `compare` the base answers beside the fine-tuned model. The model is
    loaded on demand and unloaded when idle. Requests are answered in order; where too many wait, 503 says when to come
    back. Whoever hangs up stops the answer."""
    question = await asyncio.to_thread(_question, db, settings, model_id, body)
    heard = _heard(request, service.talk(request.app.state.servers, question))
    async for event in heard:
        if isinstance(event, Accepted):  # until then a refusal is raised, before any byte is sent
            break
    else:
        return Response(status_code=_HUNG_UP)
    if body.stream:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(_events(request, heard), media_type="text/event-stream", headers=headers)
    async with aclosing(heard):
        async for event in heard:
            if isinstance(event, Answered):
                return JSONResponse(ChatAnswer(**event.document).model_dump(mode="json"))
    return Response(status_code=_HUNG_UP)


@router.post(
    "/{model_id}/predictions",
    status_code=202,
    response_model=RunAnswer,
    responses=declared(404, 409),
    summary="Run a model over a dataset",
)
def predict(
    model_id: ModelId, body: NewPrediction, db: Db, settings: AppSettings, request: Request, response: Response
) -> Any:
    """Starts a run; watch it at `/runs/{id}`. Once completed, its `result` names the artifact to download: JSON lines,
    each with a record's own fields, its `line`, and its `prediction` (a classifier's with `scores`) or `fault`."""
    wanted = predictions.Wanted(model_id=model_id, **body.model_dump())
    with db.read() as session:
        run = predictions.prepare(session, settings, wanted)
    made = db.write(lambda session: predictions.insert(session, run, wanted))
    request.app.state.supervisor.wake()
    response.headers["Location"] = f"/runs/{made.id}"
    return made


def _question(db: Database, settings: Settings, model_id: str, body: NewChat) -> Question:
    sampling = body.model_dump(include={"max_new_tokens", "temperature", "top_p", "seed"})
    with db.read() as session:
        return service.prepare(
            session,
            settings,
            model_id,
            messages=tuple(turn.model_dump() for turn in body.messages),
            prompt=body.prompt if "prompt" in body.model_fields_set else None,
            compare=body.compare,
            sampling={**sampling, "stop": tuple(body.stop)},
        )


async def _heard(request: Request, talk: AsyncGenerator[Heard, None]) -> AsyncGenerator[Heard | None, None]:
    """Each event; None after each `PING_SECONDS` of silence; ends in mid-answer where whoever asked has gone."""
    gone = asyncio.create_task(_gone(request))
    following: asyncio.Task[Heard] | None = None
    try:
        while True:
            following = asyncio.ensure_future(anext(talk))
            quiet = 0.0
            while not following.done():
                await asyncio.wait({following, gone}, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if gone.done():
                    return
                if request.app.state.stopping.is_set():
                    raise Unavailable("The service is shutting down; ask again in a moment.")
                quiet += _LOOK_SECONDS
                if quiet >= PING_SECONDS and not following.done():
                    quiet = 0.0
                    yield None
            try:
                event = following.result()
            except StopAsyncIteration:
                return
            yield event
    finally:
        gone.cancel()
        if following is not None:
            following.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration, PlatformError):
                await following
        await talk.aclose()


async def _gone(request: Request) -> None:
    """Returns once whoever asked has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _events(request: Request, heard: AsyncGenerator[Heard | None, None]) -> AsyncIterator[str]:
    """The answer as server-sent events; what goes wrong now can only be told in the stream."""
    try:
        async with aclosing(heard):
            async for event in heard:
                if event is None:
                    yield ": alive\n\n"
                elif isinstance(event, Words):
                    yield _sse("token", TokenEvent(side=event.side, text=event.text).model_dump_json())
                elif isinstance(event, Answered):
                    yield _sse("done", ChatAnswer(**event.document).model_dump_json())
    except PlatformError as error:
        document = problem(request, error.status, error.message, code=error.code, errors=error.errors)
        yield _sse("error", bytes(document.body).decode())


def _sse(event: str, data: str) -> str:
    return f"event: {event}\ndata: {data}\n\n"
