"""A stored file as an answer: its SHA-256 as a strong ETag, conditions and ranges (RFC 9110 §13, §14)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import FileResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.routes.problems import problem
from app.services import storage

_ONE_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})")
_TAG = re.compile(r'\*|(?:W/)?("[^"]*")')
BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "All bytes"},
    206: {"content": {"application/octet-stream": {}}, "description": "The range that was asked for"},
    304: {"description": "What the caller holds is still the very same"},
}
"""What `send_file` answers besides problems, for an operation's `responses=`."""


class _WholeFile(FileResponse):
    """Sends all bytes whatever the Range header says."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name != b"range"]
        await super().__call__({**scope, "headers": headers}, receive, send)


def send_file(request: Request, path: Path, *, name: str, sha256: str) -> Response:
    """The file at `path`, which must be there, offered under a safe form of `name`.

    A header that asks for several ranges or cannot be read, and an If-Range with anything but the tag, are answered
    with all bytes, as RFC 9110 allows; a range behind the end with 416.
    """
    tag = f'"{sha256}"'
    headers = {"X-Content-Type-Options": "nosniff", "ETag": tag, "Cache-Control": "private, no-cache"}
    if _holds(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    size = path.stat().st_size
    wanted = _ONE_RANGE.fullmatch(request.headers.get("range", "").strip().lower())
    first, last = wanted.groups() if wanted else ("", "")
    ranged = bool(first or last) and not (first and last and int(first) > int(last))
    ranged = ranged and request.headers.get("if-range") in (None, tag)
    if ranged and (int(first) >= size if first else int(last) == 0 or size == 0):
        detail = f"The file has {size} bytes; the range that was asked for holds none of them."
        unfit = {"Content-Range": f"bytes */{size}"}
        return problem(request, 416, detail, code="range_not_satisfiable", headers=unfit)
    kind = FileResponse if ranged else _WholeFile
    return kind(path, media_type="application/octet-stream", filename=storage.safe_name(name), headers=headers)


def _holds(condition: str | None, tag: str) -> bool:
    """Whether an If-None-Match names the tag; weak and strong forms count alike there (RFC 9110 §13.1.2)."""
    if condition is None:
        return False
    return any(found.group() == "*" or found.group(1) == tag for found in _TAG.finditer(condition))
