"""A dataset: one uploaded file and what is known of it."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.models.columns import CreatedAt, Id, JsonList, JsonObject, Name


class Dataset(Base):
    __tablename__ = "datasets"
    __table_args__ = (
        CheckConstraint("dataset_type IN ('training', 'evaluation')", name="dataset_type"),
        CheckConstraint("row_count >= 1", name="row_count"),
        Index(None, "created_at", "id"),
        Index(None, "dataset_type", "created_at", "id"),
    )

    id: Mapped[Id]
    name: Mapped[Name]
    description: Mapped[str | None] = mapped_column(Text)
    dataset_type: Mapped[str] = mapped_column(String(16))
    row_count: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[CreatedAt]
    file_name: Mapped[str] = mapped_column(String(255))
    """As the client called it; shown and offered for download, never used as a path."""
    stored_name: Mapped[str] = mapped_column(String(255), unique=True)
    """`{id}_{safe original name}` in `upload_dir`."""
    file_format: Mapped[str] = mapped_column(String(8))
    encoding: Mapped[str | None] = mapped_column(String(32))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    columns: Mapped[JsonList]
    kind: Mapped[str | None] = mapped_column(String(32))
    kind_reason: Mapped[str] = mapped_column(Text, default="")
    mapping: Mapped[JsonObject]
    faults: Mapped[JsonObject]
    statistics: Mapped[JsonObject]
    origin: Mapped[JsonObject]
    """Of a part of another dataset: which one, which part of it, and how it was drawn."""
