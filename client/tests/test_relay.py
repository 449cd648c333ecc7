"""Passing a browser's request on: block by block, with the client's own key, refusals as they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from slm_client import Client, Relay, ServiceUnreachable


class Blocks(httpx2.AsyncBaseTransport):
    """Answers each request with what it was sent, and says in which order things happened."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.headers: httpx2.Headers = httpx2.Headers()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.headers = request.headers
        sent = []
        async for block in request.stream:
            self.order.append(f"sent {block.decode()}")
            sent.append(block)

        async def back() -> AsyncIterator[bytes]:
            for block in sent:
                yield block

        return httpx2.Response(201, content=back(), headers={"X-Told": "yes"})


def test_blocks_go_on_as_they_come() -> None:
    service = Blocks()

    async def content() -> AsyncIterator[bytes]:
        for letter in ("a", "b"):
            service.order.append(f"read {letter}")
            yield letter.encode()

    async def passed() -> tuple[int, str, bytes]:
        relay = Relay("http://service/", api_key="secret", transport=service)
        headers = {"Content-Type": "text/csv", "Authorization": "theirs"}
        async with relay.send("POST", "/datasets/upload", headers=headers, content=content()) as answer:
            body = b"".join([block async for block in answer.blocks])
        await relay.aclose()
        return answer.status, answer.headers["x-told"], body

    assert asyncio.run(passed()) == (201, "yes", b"ab")
    assert service.order == ["read a", "sent a", "read b", "sent b"]
    assert service.headers["authorization"] == "Bearer secret"
    assert service.headers["accept-encoding"] == "identity"


def test_no_answer_is_a_sentence() -> None:
    def refused(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused", request=request)

    async def passed() -> None:
        relay = Relay("http://service", transport=httpx2.MockTransport(refused))
        async with relay.send("GET", "/datasets/1/download", headers={}):
            pass

    with pytest.raises(ServiceUnreachable, match="Nothing answers at http://service"):
        asyncio.run(passed())


def test_an_address_without_scheme_is_refused() -> None:
    with pytest.raises(ServiceUnreachable, match="begins with http"):
        Relay("service:8000")


def test_a_client_can_say_for_whom_it_asks() -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json={"status": "healthy"})

    headers = {"X-Forwarded-For": "192.0.2.7", "Authorization": "theirs"}
    with Client("http://service", api_key="k", transport=httpx2.MockTransport(answer), headers=headers) as client:
        client.health()
    assert seen[0].headers["x-forwarded-for"] == "192.0.2.7"
    assert seen[0].headers["authorization"] == "Bearer k"
