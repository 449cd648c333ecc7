"""Every refusal as one RFC 9457 document with a sentence in `detail`; nothing else renders errors."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.errors import FieldError, PlatformError
from app.schemas.common import FieldProblem, Problem

MEDIA_TYPE = "application/problem+json"
_log = logging.getLogger("app.http")

_TITLES = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    409: "Conflict",
    413: "Content too large",
    416: "Range not satisfiable",
    422: "Unprocessable content",
    500: "Internal error",
    503: "Service unavailable",
    507: "Insufficient storage",
}


def declared(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of an operation for its `responses=`; 401 and 422 can come from anywhere."""
    return {
        status: {
            "description": _TITLES[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({*statuses, 401, 422})
    }


def problem(
    request: Request,
    status: int,
    detail: str,
    *,
    code: str,
    errors: tuple[FieldError, ...] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    """The document as a response."""
    body = Problem(
        title=_TITLES.get(status, HTTPStatus(status).phrase),
        status=status,
        detail=detail,
        instance=request.url.path,
        code=code,
        errors=[FieldProblem(field=entry.field, message=entry.message) for entry in errors] or None,
    )
    return JSONResponse(body.model_dump(exclude_none=True), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def install(app: FastAPI) -> None:
    """Register the handlers for refusals, validation, unknown routes and defects."""
    app.add_exception_handler(PlatformError, _platform_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _defect)


def _platform_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PlatformError)
    headers = {"Retry-After": "5"} if error.status == 503 else None
    if error.status == 401:
        headers = {"WWW-Authenticate": "Bearer"}
    return problem(request, error.status, error.message, code=error.code, errors=error.errors, headers=headers)


def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = tuple(_field_error(item) for item in error.errors())
    first = errors[0] if errors else FieldError("body", "is not valid")
    detail = first.message if first.field == "body" else f"{first.field}: {first.message}"
    if len(errors) > 1:
        detail += f" ({len(errors) - 1} more in errors)"
    return problem(request, 422, detail, code="validation_failed", errors=errors)


def _field_error(item: dict[str, Any]) -> FieldError:
    """One sentence per field; the input itself is never echoed (it may hold secrets, NaN or half of Unicode)."""
    parts = [str(part) for part in item["loc"]]
    if len(parts) > 1 and parts[0] in {"body", "query", "path", "header"}:
        parts = parts[1:]
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "json_invalid":
        return FieldError("body", f"The body is not valid JSON: {item.get('ctx', {}).get('error', message)}.")
    if item["type"] == "missing" and parts == ["body"]:
        return FieldError("body", "A JSON body is required.")
    return FieldError(".".join(parts), message if message.endswith((".", "?")) else f"{message}.")


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status, headers = error.status_code, dict(error.headers or {})
    if status == 404:
        detail, code = f"There is nothing at {request.url.path}; the API is described at /docs.", "unknown_route"
    elif status == 405:
        headers["Allow"] = ", ".join(_allowed_methods(request))
        detail, code = f"{request.method} is not possible here; allowed: {headers['Allow']}.", "method_not_allowed"
    elif status == 400:
        # FastAPI says this of a body that is not even text; broken JSON is a failed validation.
        detail, code, status = "The body is not JSON in UTF-8.", "validation_failed", 422
    else:
        detail, code = str(error.detail), "http_error"
    return problem(request, status, detail, code=code, headers=headers)


def _allowed_methods(request: Request) -> list[str]:
    """What the path answers to (RFC 9110 §10.2.1)."""
    matching = [route for route in request.app.state.routes if route.path_regex.match(request.url.path)]
    literal = [route for route in matching if route.path == request.url.path]
    return sorted({method for route in literal or matching for method in route.methods or ()})


def _defect(request: Request, error: Exception) -> Response:
    _log.error("defect in %s %s", request.method, request.url.path, exc_info=error)
    detail = "The service made a mistake; it is in the service's log. Nothing was changed by this request."
    return problem(request, 500, detail, code="internal_error")
