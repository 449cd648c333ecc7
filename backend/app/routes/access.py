"""Who may call: without a key only this machine. Peer, forwarded client and Host must all be loopback.

A pure ASGI layer outside everything else, so that no route can forget it. Host is checked against DNS rebinding and
Origin against foreign web pages that write through a visitor's browser.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from app.config import Settings
from app.routes.problems import problem

_LOOPBACK_NAMES = frozenset({"localhost", "testserver", "testclient"})
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class Access:
    """Refuses callers from elsewhere with 401, foreign hosts and origins with 403."""

    def __init__(self, app: ASGIApp, *, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        refusal = self._refusal(request)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, code, detail = refusal
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
        await problem(request, status, detail, code=code, headers=headers)(scope, receive, send)

    def _refusal(self, request: Request) -> tuple[int, str, str] | None:
        host = _host_name(request.headers.get("host", ""))
        if not self._settings.allow_remote:
            peer = request.client.host if request.client else None
            strangers = [peer] if peer is not None and not _is_loopback(peer) else []
            strangers += [client for client in _forwarded(request) if not _is_loopback(client)]
            if strangers or not self._known_host(host):
                detail = (
                    "Only callers on the service's own machine may use it. "
                    "Set ALLOW_REMOTE=true there to open it to others."
                )
                return 401, "remote_caller", detail
        if request.method not in _READS and not self._known_origin(request, host):
            detail = "The page that sent this request is not one that may change things here; see CORS_ORIGINS."
            return 403, "foreign_origin", detail
        return None

    def _known_host(self, host: str) -> bool:
        return _is_loopback(host) or host in {name.lower() for name in self._settings.allowed_hosts}

    def _known_origin(self, request: Request, host: str) -> bool:
        origin = request.headers.get("origin")
        if origin is None or origin.rstrip("/") in self._settings.cors_origins:
            return True
        parts = urlsplit(origin)
        return parts.scheme in {"http", "https"} and parts.netloc.lower() == request.headers.get("host", "").lower()


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _is_loopback(name: str) -> bool:
    if name.lower() in _LOOPBACK_NAMES or name.lower().endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]").split("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


def _forwarded(request: Request) -> Iterable[str]:
    """Every client that a proxy says it speaks for (X-Forwarded-For, X-Real-IP, RFC 7239 Forwarded)."""
    for header in ("x-forwarded-for", "x-real-ip"):
        for value in request.headers.getlist(header):
            yield from (part.strip() for part in value.split(",") if part.strip())
    for value in request.headers.getlist("forwarded"):
        for pair in value.replace(",", ";").split(";"):
            key, _, client = pair.strip().partition("=")
            if key.lower() == "for":
                client = client.strip('"')
                yield _host_name(client) or client
