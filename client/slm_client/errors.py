"""What can go wrong between a program and the service; each with a sentence fit to be shown as it is.

SlmError
├── ServiceUnreachable      nothing answers, or the answer broke off
├── NotTheService           something answers, but not this platform
└── ApiError                the service refused (an RFC 9457 problem)
    ├── BadRequest          400
    ├── Unauthorized        401
    ├── Forbidden           403
    ├── NotFound            404
    ├── Conflict            409
    ├── TooLarge            413
    ├── Invalid             422
    ├── ServiceFault        500
    ├── Unavailable         503
    └── StorageFull         507
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class SlmError(Exception):
    """Anything this client raises about the service."""


class ServiceUnreachable(SlmError):
    """No connection, or none that lasted: the service may not be running, or the address may be wrong."""


class NotTheService(SlmError):
    """What answers at the address does not speak this API (another program, a proxy's page)."""


@dataclass(frozen=True)
class FieldError:
    """One offending field of a request."""

    field: str
    message: str


class ApiError(SlmError):
    """The service refused. `detail` is its sentence, `code` the stable name for programs."""

    def __init__(
        self,
        detail: str,
        *,
        status: int,
        code: str = "",
        errors: Sequence[FieldError] = (),
        retry_after: float | None = None,
        wire: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
        self.errors = tuple(errors)
        self.retry_after = retry_after
        """Seconds after which another try makes sense, where the service says so."""
        self.wire = wire or {}
        """The whole problem document."""


class BadRequest(ApiError):
    """400"""


class Unauthorized(ApiError):
    """401: who calls is not known, or may not call from there."""


class Forbidden(ApiError):
    """403"""


class NotFound(ApiError):
    """404"""


class Conflict(ApiError):
    """409: not in this state, or something still refers to it."""


class TooLarge(ApiError):
    """413"""


class Invalid(ApiError):
    """422: understood, but not acceptable; `errors` names the fields."""


class ServiceFault(ApiError):
    """500: the service's own mistake."""


class Unavailable(ApiError):
    """503: not now; `retry_after` may say when."""


class StorageFull(ApiError):
    """507: the service's disk is full."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    422: Invalid,
    500: ServiceFault,
    503: Unavailable,
    507: StorageFull,
}


def refusal(status: int, body: bytes, *, retry_after: str | None = None) -> ApiError:
    """The exception for an answer of 400 or above, whatever its body is."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        document = {}
    detail = document.get("detail")
    if not isinstance(detail, str) or not detail:
        detail = f"The service answered {status} without saying why."
    return _BY_STATUS.get(status, ApiError)(
        detail,
        status=status,
        code=str(document.get("code") or ""),
        errors=[
            FieldError(str(item.get("field", "")), str(item.get("message", "")))
            for item in document.get("errors") or ()
            if isinstance(item, dict)
        ],
        retry_after=float(retry_after) if retry_after is not None and retry_after.isdigit() else None,
        wire=document,
    )
