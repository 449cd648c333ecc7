"""Every refusal of the platform, each with its own status and stable code; one place (routes.problems) renders them.

    PlatformError
    ├── NotFound          404
    ├── Conflict          409
    │   ├── InvalidTransition
    │   └── StillReferenced
    ├── Invalid           422
    │   ├── DatasetRejected
    │   └── SpecRejected
    ├── BadRequest        400
    ├── TooLarge          413
    ├── Unauthorized      401
    ├── Forbidden         403
    ├── Unavailable       503
    └── StorageFull       507

A message is a sentence for a person: what happened, where, and what to do.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FieldError:
    """One offending field: where (`training_config.epochs`, `line 7`) and what is wrong with it."""

    field: str
    message: str


class PlatformError(Exception):
    status = 500
    code = "internal_error"
    title = "Internal error"

    def __init__(self, message: str, *, code: str | None = None, errors: tuple[FieldError, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.errors = errors


class NotFound(PlatformError):
    status, code, title = 404, "not_found", "Not found"


class Conflict(PlatformError):
    status, code, title = 409, "conflict", "Conflict"


class InvalidTransition(Conflict):
    code = "invalid_transition"


class StillReferenced(Conflict):
    code = "still_referenced"


class Invalid(PlatformError):
    status, code, title = 422, "invalid", "Unprocessable content"


class DatasetRejected(Invalid):
    code = "dataset_rejected"


class SpecRejected(Invalid):
    code = "spec_rejected"


class BadRequest(PlatformError):
    status, code, title = 400, "bad_request", "Bad request"


class TooLarge(PlatformError):
    status, code, title = 413, "too_large", "Content too large"


class Unauthorized(PlatformError):
    status, code, title = 401, "unauthorized", "Unauthorized"


class Forbidden(PlatformError):
    status, code, title = 403, "forbidden", "Forbidden"


class Unavailable(PlatformError):
    status, code, title = 503, "unavailable", "Service unavailable"


class StorageFull(PlatformError):
    status, code, title = 507, "storage_full", "Insufficient storage"


class DatabaseGone(PlatformError):
    """The database file was deleted or replaced under the running service: it must stop, not write into the void."""

    status, code, title = 503, "database_gone", "Service unavailable"
