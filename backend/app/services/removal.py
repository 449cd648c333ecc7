"""Files of deleted rows: named in the very commit that removes the rows, off the disk after it, whatever dies between.

The services that delete call `bury` inside their transaction; the edge calls `clear` after it, and so does the next
start for what a crash, or a disk that refused, left over. A tombstone goes only once its files are gone for good, so
nothing lies on the disk that neither a row nor a tombstone knows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.config import Settings
from app.database import Database
from app.models import Tombstone
from app.services import storage

_log = logging.getLogger("app.removal")


def bury(session: Session, *, data: Iterable[str] = (), uploads: Iterable[str] = ()) -> list[Tombstone]:
    """Note which files or folders lose their rows in this transaction, relative to `data_dir` or `upload_dir`."""
    made = [Tombstone(place="data", path=path) for path in data]
    made += [Tombstone(place="uploads", path=path) for path in uploads]
    session.add_all(made)
    session.flush()
    return made


def clear(database: Database, settings: Settings, tombstones: Sequence[Tombstone]) -> None:
    """Take what they name off the disk and forget them. What cannot be removed keeps its tombstone and is logged."""
    done = [tombstone.id for tombstone in tombstones if _removed(tombstone, settings)]
    if done:
        database.write(lambda session: session.execute(delete(Tombstone).where(Tombstone.id.in_(done))))


def finish(database: Database, settings: Settings) -> None:
    """Go on with every deletion that was begun and not ended; called at start."""
    with database.read() as session:
        left = session.scalars(select(Tombstone).order_by(Tombstone.id)).all()
    clear(database, settings, left)


def _removed(tombstone: Tombstone, settings: Settings) -> bool:
    place = settings.upload_dir if tombstone.place == "uploads" else settings.data_dir
    path = place.resolve() / tombstone.path
    try:
        storage.remove(path)
    except OSError as error:
        _log.warning("%s stays on the disk until the next start: %s", path, error.strerror or error)
        return False
    return True
