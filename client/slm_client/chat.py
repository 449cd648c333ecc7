"""Talking to a model: one answer, or its words as they come."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import httpx2

from slm_client.answers import Answer
from slm_client.errors import ServiceUnreachable, refusal
from slm_client.transport import CONNECT_SECONDS, Transport, segment

ANSWER_SECONDS = 900.0
"""A model may have to be loaded, others may be before us, and a long answer takes its time."""


class Sampling(TypedDict, total=False):
    """How words are chosen; what is left out, or None, is the service's default."""

    max_new_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    stop: Sequence[str] | None


@dataclass(frozen=True, kw_only=True)
class SideAnswer(Answer):
    """What one model said. `finish_reason`: `stop` or `length`; `usage`: prompt_tokens, completion_tokens."""

    model_id: str
    text: str
    finish_reason: str = ""
    usage: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    tokens_per_second: float | None = None


@dataclass(frozen=True, kw_only=True)
class ChatAnswer(SideAnswer):
    """A model's answer; `base` is its base's, where both were asked."""

    base: SideAnswer | None = None


@dataclass(frozen=True, kw_only=True)
class ChatEvent:
    """`token`: new words (`text`) of one side (`tuned`, the model that was asked, or `base`); `done`: the answer."""

    kind: str
    side: str = ""
    text: str = ""
    answer: ChatAnswer | None = None


def chat(transport: Transport, model_id: str, body: Mapping[str, Any]) -> ChatAnswer:
    answer = transport.json("POST", _path(model_id), json={**body, "stream": False}, timeout=_patient())
    return ChatAnswer.read(answer)


def chat_stream(transport: Transport, model_id: str, body: Mapping[str, Any]) -> Iterator[ChatEvent]:
    """Closing the iterator hangs up, which stops the answer."""
    asked = {**body, "stream": True}
    headers = {"Accept": "text/event-stream"}
    path = _path(model_id)
    with transport.stream("POST", path, json=asked, headers=headers, timeout=_patient()) as response:
        for message in httpx2.EventSource(response):
            document = json.loads(message.data) if message.data else {}
            if message.event == "token":
                yield ChatEvent(kind="token", side=str(document["side"]), text=str(document["text"]))
            elif message.event == "done":
                yield ChatEvent(kind="done", answer=ChatAnswer.read(document))
                return
            elif message.event == "error":
                raise refusal(int(document.get("status", 500)), message.data.encode())
    raise ServiceUnreachable("The answer broke off; ask again.")


def question(
    prompt: str | None, messages: Sequence[Mapping[str, str]] | None, compare: bool, sampling: Sampling
) -> dict[str, Any]:
    """The request's body; what was not given stays out, so that the service's own defaults hold.

    Raises `TypeError` for a word that is not of `Sampling`.
    """
    if unknown := sampling.keys() - Sampling.__annotations__.keys():
        raise TypeError(f"There is no {', '.join(sorted(unknown))}; sampling is {', '.join(Sampling.__annotations__)}.")
    given: dict[str, Any] = {"prompt": prompt, "messages": messages, "compare": compare, **sampling}
    if messages is not None:
        given["messages"] = [dict(turn) for turn in messages]
    if (stop := sampling.get("stop")) is not None:
        given["stop"] = [*stop]
    return {key: value for key, value in given.items() if value is not None}


def _path(model_id: str) -> str:
    return f"/models/{segment(model_id)}/chat"


def _patient() -> httpx2.Timeout:
    return httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
