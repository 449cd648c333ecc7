"""Alembic's entry: the connection comes from `app.migrations.upgrade`, or from the URL for `alembic` by hand."""

from alembic import context
from sqlalchemy import create_engine

import app.models  # noqa: F401 - registers every table
from app.config import Settings
from app.database import Base

config = context.config
connection = config.attributes.get("connection")


def run(bound) -> None:  # type: ignore[no-untyped-def]
    context.configure(
        connection=bound,
        target_metadata=Base.metadata,
        render_as_batch=bound.dialect.name == "sqlite",
        transactional_ddl=True,
    )
    context.run_migrations()


if connection is not None:
    run(connection)
else:
    with create_engine(config.attributes.get("url") or Settings().database_url).begin() as bound:
        run(bound)
