"""Take in a multipart upload while it arrives: parts in any order, the file written once, nothing kept in memory."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from app.errors import BadRequest, FieldError, Invalid, PlatformError, TooLarge
from app.schemas.dataset import UploadForm
from app.services.storage import Incoming

_FIELD_BYTES = 64 * 1024
_DRAIN_BYTES = 64 * 1024 * 1024
_KNOWN = frozenset({"name", "description", "dataset_type", "mapping", "encoding"})


@dataclass
class Upload:
    """What arrived: the file's name, its bytes (in `Incoming`), and the fields."""

    file_name: str
    form: UploadForm


@dataclass
class _Parts:
    """Collects the parser's callbacks; the parser calls them synchronously, in order."""

    incoming: Incoming
    max_bytes: int
    fields: dict[str, bytes] = field(default_factory=dict)
    file_name: str | None = None
    pending: list[bytes] = field(default_factory=list)
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _header: bytes = b""
    _value: bytes = b""
    _part: str = ""
    _is_file: bool = False

    def on_part_begin(self) -> None:
        self._headers, self._header, self._value = {}, b"", b""

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def on_header_end(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def on_headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = self._part == "file"
        if self._is_file:
            if self.file_name is not None:
                raise Invalid("file: send one file at a time.", errors=(FieldError("file", "is there twice"),))
            self.file_name = options.get(b"filename", b"").decode("utf-8", "replace")
        elif self._part not in _KNOWN:
            shown = self._part[:40]
            raise Invalid(
                f"Unknown field '{shown}'; an upload has file, {', '.join(sorted(_KNOWN))}.",
                errors=(FieldError(shown, "is not known"),),
            )
        else:
            self.fields[self._part] = b""

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            if self.incoming.size + sum(map(len, self.pending)) + end - start > self.max_bytes:
                raise too_large(self.max_bytes)
            self.pending.append(data[start:end])
            return
        self.fields[self._part] += data[start:end]
        if len(self.fields[self._part]) > _FIELD_BYTES:
            raise TooLarge(f"The field '{self._part}' is longer than 64 KiB.")


def too_large(limit: int) -> TooLarge:
    return TooLarge(f"The file is larger than the {limit:,} bytes that this service accepts (MAX_UPLOAD_BYTES).")


async def receive(request: Request, incoming: Incoming, *, max_bytes: int) -> Upload:
    """Stream the request into `incoming`. Raises a `PlatformError` with a sentence for anything that is wrong."""
    _, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if not boundary:
        raise BadRequest("Send the file as multipart/form-data with the fields file, name and dataset_type.")
    parts = _Parts(incoming, max_bytes)
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": parts.on_part_begin,
            "on_header_field": parts.on_header_field,
            "on_header_value": parts.on_header_value,
            "on_header_end": parts.on_header_end,
            "on_headers_finished": parts.on_headers_finished,
            "on_part_data": parts.on_part_data,
        },
    )
    try:
        async for chunk in request.stream():
            if chunk:
                parser.write(chunk)
                if parts.pending:
                    block = b"".join(parts.pending)
                    parts.pending.clear()
                    await asyncio.to_thread(incoming.write, block)
        parser.finalize()
    except FormParserError as error:
        raise BadRequest(f"The multipart body is broken: {error}.") from None
    except ClientDisconnect:
        raise BadRequest("The upload broke off before its end; nothing was kept.") from None
    except PlatformError:
        await drain(request)
        raise
    return _checked(parts)


async def drain(request: Request) -> None:
    """Read on a little, so that a client that is still sending sees the answer instead of a reset connection."""
    left = _DRAIN_BYTES
    try:
        async for chunk in request.stream():
            left -= len(chunk)
            if left < 0:
                return
    except (ClientDisconnect, RuntimeError):
        return


def _checked(parts: _Parts) -> Upload:
    if parts.file_name is None:
        raise Invalid("file: is required.", errors=(FieldError("file", "is required"),))
    if not parts.file_name.strip():
        raise Invalid("file: has no name; the name's ending says what it is (.csv, .json, .jsonl).")
    values: dict[str, object] = {}
    for key, raw in parts.fields.items():
        try:
            text = raw.decode("utf-8")
            values[key] = json.loads(text) if key == "mapping" and text.strip() else text
        except ValueError:
            kind = "a JSON object" if key == "mapping" else "UTF-8 text"
            raise Invalid(f"{key}: must be {kind}.", errors=(FieldError(key, f"must be {kind}"),)) from None
    values = {key: value for key, value in values.items() if value != "" or key not in {"mapping", "encoding"}}
    try:
        form = UploadForm.model_validate(values)
    except ValidationError as error:
        errors = tuple(
            FieldError(".".join(str(part) for part in item["loc"]) or "form", _sentence(item["type"], item["msg"]))
            for item in error.errors()
        )
        raise Invalid(f"{errors[0].field}: {errors[0].message}.", errors=errors) from None
    return Upload(Path(parts.file_name).name if "\0" not in parts.file_name else "file", form)


def _sentence(kind: str, message: str) -> str:
    return "is required" if kind == "missing" else message.removeprefix("Value error, ").rstrip(".")
