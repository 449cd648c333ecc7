"""The two ASGI layers in front of the pages: who may ask, and the way through for large files.

`Door` refuses foreign host names (DNS rebinding). `PassThrough` takes uploads and downloads below `/api` to the service
while they arrive, so that a file of any size costs no memory here, and the service's key never leaves this process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from slm_client import Relay, ServiceUnreachable
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from visitor import forwarded_for, known_host, proxied, same_origin

PREFIX = "/api"
_IDENTITY = r"[A-Za-z0-9_\-]{1,64}"
_WAYS = (
    ("POST", re.compile(r"/datasets/upload")),
    ("GET", re.compile(rf"/datasets/{_IDENTITY}/download")),
    ("GET", re.compile(rf"/artifacts/{_IDENTITY}/download")),
)
_SENT_ON = ("content-type", "content-length", "range", "if-range", "if-none-match")
_SENT_BACK = frozenset({
    "accept-ranges", "content-disposition", "content-length", "content-range", "content-type", "etag", "last-modified",
    "retry-after", "x-content-type-options",
})  # fmt: skip


class Door:
    """Answers 421 to whoever addresses the workbench by a name that is not its own."""

    def __init__(self, app: ASGIApp, *, allowed_hosts: Sequence[str]) -> None:
        self._app = app
        self._allowed = allowed_hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"} or known_host(_header(scope, b"host"), self._allowed):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            detail = "The workbench does not go by this name; see ALLOWED_HOSTS in its settings."
            await _problem(421, "unknown_host", detail)(scope, receive, send)


class PassThrough:
    """Takes what `_WAYS` lists to the service; everything else below `/api` is not found."""

    def __init__(self, app: ASGIApp, *, connect: Callable[[], Relay]) -> None:
        self._app = app
        self._connect = connect
        self._relay: Relay | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if scope["type"] != "http" or not (path == PREFIX or path.startswith(f"{PREFIX}/")):
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        target = path.removeprefix(PREFIX)
        refusal = _refusal(request, target)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        if self._relay is None:
            self._relay = self._connect()
        try:
            await _pass_on(self._relay, request, target, send)
        except ServiceUnreachable as error:
            await _problem(502, "service_unreachable", str(error))(scope, receive, send)
        except ClientDisconnect:
            return


async def _pass_on(relay: Relay, request: Request, target: str, send: Send) -> None:
    headers = {name: request.headers[name] for name in _SENT_ON if name in request.headers}
    peer = request.client.host if request.client else None
    client = forwarded_for(peer, proxied(request.headers.items()))
    if client:
        headers["X-Forwarded-For"] = client
    content = request.stream() if request.method == "POST" else None
    async with relay.send(request.method, target, headers=headers, content=content) as answer:
        kept = {name: value for name, value in answer.headers.items() if name.lower() in _SENT_BACK}
        response = StreamingResponse(answer.blocks, status_code=answer.status, headers=kept)
        await response(request.scope, request.receive, send)


def _refusal(request: Request, target: str) -> Response | None:
    ways = [method for method, path in _WAYS if path.fullmatch(target)]
    if not ways:
        return _problem(404, "not_found", "Only uploads and downloads pass here; the service itself has the rest.")
    if request.method not in ways:
        return _problem(405, "method_not_allowed", f"This is for {ways[0]} alone.", allow=ways[0])
    origin = request.headers.get("origin")
    foreign = origin is not None and not same_origin(origin, request.headers.get("host", ""))
    if foreign or request.headers.get("sec-fetch-site") in {"cross-site", "same-site"}:
        return _problem(403, "foreign_origin", "The page that sent this request is not the workbench's.")
    return None


def _problem(status: int, code: str, detail: str, *, allow: str | None = None) -> Response:
    document = {"type": "about:blank", "status": status, "code": code, "detail": detail}
    headers = {"Allow": allow} if allow else None
    return JSONResponse(document, status, headers, media_type="application/problem+json")


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")
