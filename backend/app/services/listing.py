"""One page of a list, newest first, by keyset: the cost of a page does not grow with the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Select, and_, or_
from sqlalchemy.orm import Session

T = TypeVar("T")


@dataclass(frozen=True)
class Page:
    """`after` is (created_at, id) of the last row seen; `limit` None means every row."""

    limit: int | None = None
    after: tuple[datetime, str] | None = None


def newest_first(session: Session, query: Select[T], row: Any, page: Page) -> Sequence[T]:
    """The rows of `query` for the page, and one more where there are more."""
    if page.after is not None:
        created_at, identity = page.after
        query = query.where(
            or_(row.created_at < created_at, and_(row.created_at == created_at, row.id < identity)),
        )
    query = query.order_by(row.created_at.desc(), row.id.desc())
    if page.limit is not None:
        query = query.limit(page.limit + 1)
    return session.scalars(query).all()


def containing(column: Any, words: str) -> Any:
    """Rows whose text holds every word, whatever the case; `%` and `_` are taken literally."""
    return and_(*(column.icontains(word, autoescape=True) for word in words.split()[:20]))
