"""A model of the registry: a base to start from, or what a run made of one."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.models.columns import CreatedAt, Document, Id, JsonList, JsonObject, Name, reference


class Model(Base):
    __tablename__ = "models"
    __table_args__ = (
        CheckConstraint("model_type IN ('base', 'fine_tuned')", name="model_type"),
        CheckConstraint("parameters_count >= 0", name="parameters_count"),
        Index(None, "created_at", "id"),
        Index(None, "model_type", "created_at", "id"),
        Index(
            "uq_models_seed_key",
            "seed_key",
            unique=True,
            sqlite_where=text("seed_key IS NOT NULL"),
            postgresql_where=text("seed_key IS NOT NULL"),
        ),
    )

    id: Mapped[Id]
    name: Mapped[Name]
    model_type: Mapped[str] = mapped_column(String(16))
    version: Mapped[str] = mapped_column(String(32), default="1.0")
    architecture: Mapped[str] = mapped_column(String(64))
    parameters_count: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[CreatedAt]
    is_latest_version: Mapped[bool] = mapped_column(default=True)
    base_model_id: Mapped[str | None] = mapped_column(String(36), reference("models.id"), index=True)
    description: Mapped[str | None] = mapped_column(Text)
    details: Mapped[dict[str, object] | None] = mapped_column("metadata", Document)
    """On the wire `metadata` (a name that SQLAlchemy keeps for itself)."""
    tags: Mapped[JsonList]
    source: Mapped[JsonObject]
    """`slm.spec.Source` as JSON: where a base model's weights come from."""
    weights_folder: Mapped[str | None] = mapped_column(String(255))
    """Of a base: folder name below `models_dir`. Of a fine-tuned one: folder below `data_dir`, outside the
    run directory, because a model outlives its experiment."""
    weights_format: Mapped[str | None] = mapped_column(String(16))
    """`model` (whole weights) or `adapter` (to be merged into the base)."""
    simulated: Mapped[bool] = mapped_column(default=False)
    experiment_id: Mapped[str | None] = mapped_column(String(36), index=True)
    """The experiment that made it; kept as history after that experiment is deleted."""
    seed_key: Mapped[str | None] = mapped_column(String(64))
    """Names a seeded base, so that several processes starting at once seed it once."""
