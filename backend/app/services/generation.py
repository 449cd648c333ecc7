"""Talking to a model: what may be asked of which model, and the answers of one or two sides as they come.

The base of a fine-tuned model is heard beside it from the same loaded weights, in one batch; where all weights were
trained there are two sets of weights, which answer side by side. Nothing here touches a tensor: `slm.serve` does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.config import Settings
from app.errors import Conflict, FieldError, Invalid, PlatformError, Unavailable
from app.models import Model, Run
from app.services import model as models
from app.services.references import base_kind, method_of, missing_weights, model_reference
from app.services.servers import Servers
from slm.serve_client import ServingFailed, ServingProcess, Wish
from slm.spec import ENCODER, Method, ModelRef

TUNED, BASE = "tuned", "base"
_NO_WRITERS = {
    Method.CLASSIFY: "names labels instead of writing",
    Method.MASK: "fills gaps instead of writing",
}


@dataclass(frozen=True)
class Side:
    """One voice: `name` is `tuned` for the model that was asked, `base` for what it was made from."""

    name: str
    model_id: str
    adapter: str | None


@dataclass(frozen=True)
class Part:
    """One set of loaded weights, and the sides that are heard through it."""

    weights: ModelRef
    sides: tuple[Side, ...]


@dataclass(frozen=True)
class Question:
    parts: tuple[Part, ...]
    wish: Wish


@dataclass(frozen=True)
class Accepted:
    """Nothing stands against the answer any more; it begins."""


@dataclass(frozen=True)
class Words:
    side: str
    text: str


@dataclass(frozen=True)
class Answered:
    """The whole answer, as the wire shows it."""

    document: dict[str, Any]


Heard = Accepted | Words | Answered


def prepare(
    session: Session,
    settings: Settings,
    model_id: str,
    *,
    messages: tuple[dict[str, str], ...],
    prompt: str | None,
    compare: bool,
    sampling: Mapping[str, Any],
) -> Question:
    """Raises `NotFound`, `Conflict` where the model cannot answer, `Invalid` where nothing is asked."""
    model = models.get(session, model_id)
    _require_writer(session, model, settings)
    if prompt is None and messages[-1]["role"] != "user":
        message = "the last message must be the user's: that is what is answered."
        raise Invalid(f"messages: {message}", errors=(FieldError("messages", message),))
    parts = [_part(session, model, settings, TUNED)]
    if compare and model.base_model_id is not None:
        base = models.get(session, model.base_model_id)
        if parts[0].sides[0].adapter is not None:
            beside = Side(BASE, base.id, None)
            parts[0] = replace(parts[0], sides=(*parts[0].sides, beside))
        else:
            _require_writer(session, base, settings)
            parts.append(_part(session, base, settings, BASE))
    method = method_of(model)
    manner = "text" if method is Method.PRETRAIN else "either" if method is None else "question"
    return Question(tuple(parts), Wish(sides=(), messages=messages, prompt=prompt, manner=manner, **sampling))


def training_runs(session: Session) -> bool:
    """Whether a training runs on this machine now."""
    running = Run.state.in_(("starting", "running"))
    query = select(Run.id).where(Run.task == "train", Run.executor == "local", running).limit(1)
    return session.scalars(query).first() is not None


def _require_writer(session: Session, model: Model, settings: Settings) -> None:
    method = method_of(model)
    if base_kind(model) == ENCODER or method in _NO_WRITERS:
        what = _NO_WRITERS.get(method, "is an encoder, which writes no text") if method else "is an encoder"
        raise Conflict(
            f"'{model.name}' {what}; it cannot chat. POST /models/{model.id}/predictions (slm predict) runs a "
            "classifier over a dataset.",
            code="not_a_writer",
        )
    missing = missing_weights(session, model, settings)
    if missing is not None:
        raise Conflict(f"'{model.name}' cannot answer: {missing}", code="weights_missing")


def _part(session: Session, model: Model, settings: Settings, side: str) -> Part:
    """The model's whole weights with all adapters but the last merged in, and that last one beside them."""
    reference = model_reference(session, model, settings)
    if model.weights_format != "adapter" or model.base_model_id is None:
        return Part(reference, (Side(side, model.id, None),))
    base = models.get(session, model.base_model_id)
    weights = ModelRef(model_id=base.id, name=base.name, path=reference.path, adapters=reference.adapters[:-1])
    return Part(weights, (Side(side, model.id, reference.adapters[-1]),))


async def talk(servers: Servers, question: Question) -> AsyncGenerator[Heard, None]:
    """`Accepted`, then words as they come, then the whole answer. Leaving it stops the answer.

    Raises `PlatformError`; before `Accepted` for whatever can be known by then.
    """
    with servers.in_line():
        async with AsyncExitStack() as stack:
            processes = [await stack.enter_async_context(servers.use(part.weights)) for part in question.parts]
            lines: asyncio.Queue[tuple[int, dict[str, Any]]] = asyncio.Queue()
            pumps = [
                asyncio.create_task(_pump(index, process, _wish_of(part, question.wish), lines))
                for index, (process, part) in enumerate(zip(processes, question.parts, strict=True))
            ]
            try:
                async with aclosing(_listen(servers, question, processes, lines)) as heard:
                    async for event in heard:
                        yield event
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)


def _wish_of(part: Part, wish: Wish) -> Wish:
    return replace(wish, sides=tuple(side.adapter for side in part.sides))


async def _pump(
    index: int, process: ServingProcess, wish: Wish, lines: asyncio.Queue[tuple[int, dict[str, Any]]]
) -> None:
    try:
        async with aclosing(process.ask(wish)) as answers:
            async for line in answers:
                lines.put_nowait((index, line))
    except ServingFailed as error:
        lines.put_nowait((index, {"event": "died", "message": str(error)}))


async def _listen(
    servers: Servers,
    question: Question,
    processes: list[ServingProcess],
    lines: asyncio.Queue[tuple[int, dict[str, Any]]],
) -> AsyncGenerator[Heard, None]:
    waiting, open_parts = len(processes), len(processes)
    early: list[Heard] = []
    documents: dict[str, dict[str, Any]] = {}
    while open_parts:
        index, line = await lines.get()
        sides = question.parts[index].sides
        if line["event"] == "accepted":
            waiting -= 1
            if waiting == 0:
                yield Accepted()
                for event in early:
                    yield event
        elif line["event"] == "words":
            words = Words(sides[line["side"]].name, line["text"])
            if waiting:
                early.append(words)
            else:
                yield words
        elif line["event"] == "done":
            open_parts -= 1
            documents |= {side.name: _document(side, line, at) for at, side in enumerate(sides)}
        else:
            if line["event"] != "refused":
                await servers.discard(processes[index])
            raise _refusal(line)
    yield Answered({**documents[TUNED], "base": documents.get(BASE)})


def _document(side: Side, line: Mapping[str, Any], at: int) -> dict[str, Any]:
    found = line["sides"][at]
    seconds = float(found["seconds"])
    return {
        "model_id": side.model_id,
        "text": found["text"],
        "finish_reason": found["finish_reason"],
        "usage": {"prompt_tokens": line["prompt_tokens"], "completion_tokens": found["tokens"]},
        "seconds": round(seconds, 3),
        "tokens_per_second": round(found["tokens"] / seconds, 2) if seconds > 0 else None,
    }


def _refusal(line: Mapping[str, Any]) -> PlatformError:
    """What a serving process could not do, as the platform says it."""
    if line["event"] == "refused":
        return Invalid(line["message"], code=line["code"])
    if line["event"] == "failed" and line["fault"] == "user":
        return Conflict(f"{line['message']} {line['hint']}", code=line["code"])
    return Unavailable(line["message"], code=line.get("code", "serving_died"))
