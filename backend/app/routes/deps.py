"""What endpoints ask for: settings, a reading session, the writer, a page of a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Protocol, TypeVar

from fastapi import Depends, Query, Request, Response
from sqlalchemy.orm import Session

from app.config import Settings
from app.database import Database
from app.services.listing import Page


def get_settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


def get_database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def read_session(request: Request) -> Iterator[Session]:
    with get_database(request).read() as session:
        yield session


AppSettings = Annotated[Settings, Depends(get_settings)]
Db = Annotated[Database, Depends(get_database)]
ReadSession = Annotated[Session, Depends(read_session, scope="function")]


class Row(Protocol):
    id: Any
    created_at: Any


R = TypeVar("R", bound=Row)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR = r"^[0-9]{1,16}\.[0-9a-f-]{36}$"
"""Microseconds since 1970 and the id of the last row seen."""


def _page(
    limit: Annotated[int | None, Query(ge=1, le=1000, description="At most so many; all where left out.")] = None,
    cursor: Annotated[
        str | None,
        Query(pattern=_CURSOR, description="Where to go on: taken from the `Link` header of the page before."),
    ] = None,
) -> Page:
    if cursor is None:
        return Page(limit=limit)
    microseconds, _, identity = cursor.partition(".")
    return Page(limit=limit, after=(_EPOCH + timedelta(microseconds=int(microseconds)), identity))


PageQuery = Annotated[Page, Depends(_page)]


@dataclass(frozen=True)
class Paged:
    """Rows cut to the page, with the `Link` header set where there are more."""

    request: Request
    response: Response

    def __call__(self, rows: Sequence[R], page: Page) -> Sequence[R]:
        if page.limit is None or len(rows) <= page.limit:
            return rows
        shown = rows[: page.limit]
        last = shown[-1]
        cursor = f"{(last.created_at - _EPOCH) // timedelta(microseconds=1)}.{last.id}"
        url = self.request.url.include_query_params(cursor=cursor)
        self.response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
        return shown


def _paged(request: Request, response: Response) -> Paged:
    return Paged(request, response)


PagedAnswer = Annotated[Paged, Depends(_paged)]
