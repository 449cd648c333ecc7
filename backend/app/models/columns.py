"""Column types shared by all rows: ids, instants and JSON, the same on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Annotated, Any

from sqlalchemy import DateTime, ForeignKey, String, TypeDecorator
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import mapped_column
from sqlalchemy.types import JSON


class Instant(TypeDecorator[datetime]):
    """An aware datetime in UTC with microseconds; SQLite stores it as text that sorts by time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant needs a time zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def utcnow() -> datetime:
    return datetime.now(UTC)


class _Clock:
    """Quarters of a microsecond since 1970, never the same twice in this process."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> int:
        with self._lock:
            self._last = max((time.time_ns() << 12) // 1_000_000, self._last + 1)
            return self._last


_clock = _Clock()


def new_id() -> str:
    """A UUIDv7 (RFC 9562 §6.2, method 3): sorts by when it was made, also within a millisecond."""
    milliseconds, fraction = divmod(_clock(), 1 << 12)
    tail = int.from_bytes(os.urandom(8)) & ~(0x3 << 62) | (0x2 << 62)
    return str(uuid.UUID(int=(milliseconds << 80) | (0x7 << 76) | (fraction << 64) | tail))


Document = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")

Id = Annotated[str, mapped_column(String(36), primary_key=True, default=new_id)]
Name = Annotated[str, mapped_column(String(200))]
CreatedAt = Annotated[datetime, mapped_column(Instant, default=utcnow)]
OptionalInstant = Annotated[datetime | None, mapped_column(Instant)]
JsonObject = Annotated[dict[str, Any] | None, mapped_column(Document)]
JsonList = Annotated[list[Any] | None, mapped_column(Document)]


def reference(target: str, *, ondelete: str = "RESTRICT") -> ForeignKey:
    """A foreign key to `target`. What is referred to cannot be deleted, unless the owner takes it along (CASCADE)."""
    return ForeignKey(target, ondelete=ondelete)
