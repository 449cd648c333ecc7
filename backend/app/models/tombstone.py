"""A tombstone: files whose rows are gone and which are still to be taken off the disk."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.models.columns import CreatedAt, Id


class Tombstone(Base):
    __tablename__ = "tombstones"
    __table_args__ = (CheckConstraint("place IN ('data', 'uploads')", name="place"),)

    id: Mapped[Id]
    place: Mapped[str] = mapped_column(String(8))
    """`data_dir` or `upload_dir`, whose paths belong to the settings and not to rows."""
    path: Mapped[str] = mapped_column(String(512))
    """A file or a folder, relative to the place."""
    created_at: Mapped[CreatedAt]
