"""An experiment: what was asked. Its status derives from its latest run; only `training.transition` writes it."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.models.columns import CreatedAt, Document, Id, JsonList, JsonObject, Name, OptionalInstant, reference


class Experiment(Base):
    __tablename__ = "experiments"
    __table_args__ = (
        CheckConstraint("status IN ('created', 'running', 'completed', 'failed', 'cancelled')", name="status"),
        Index(None, "created_at", "id"),
        Index(None, "status", "created_at", "id"),
    )

    id: Mapped[Id]
    name: Mapped[Name]
    description: Mapped[str | None] = mapped_column(Text)
    goal: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16), default="created")
    base_model_id: Mapped[str] = mapped_column(String(36), reference("models.id"), index=True)
    training_dataset_id: Mapped[str] = mapped_column(String(36), reference("datasets.id"), index=True)
    eval_dataset_id: Mapped[str | None] = mapped_column(String(36), reference("datasets.id"), index=True)
    training_config: Mapped[dict[str, object]] = mapped_column(Document)
    """Resolved: every hyperparameter of the run."""
    requested_config: Mapped[dict[str, object]] = mapped_column(Document)
    """As the client sent it."""
    requested_executor: Mapped[str | None] = mapped_column(String(16))
    """As the client, or the setting in its place, asked for it: `auto` too; null where it was not kept."""
    executor: Mapped[str] = mapped_column(String(16))
    executor_reason: Mapped[str] = mapped_column(Text)
    simulated: Mapped[bool]
    method: Mapped[str] = mapped_column(String(16))
    adapter: Mapped[str] = mapped_column(String(16))
    seed: Mapped[int] = mapped_column(BigInteger)
    warnings: Mapped[JsonList]
    error: Mapped[JsonObject]
    resulting_model_id: Mapped[str | None] = mapped_column(String(36), reference("models.id"), index=True)
    run_id: Mapped[str | None] = mapped_column(String(36))
    """The latest run."""
    plan: Mapped[JsonObject]
    """What was expected of it at creation, by formula: steps, tokens, seconds, memory."""
    reproduces_id: Mapped[str | None] = mapped_column(String(36), index=True)
    """The experiment that this one repeats; kept as history after that one is deleted."""
    event_count: Mapped[int] = mapped_column(BigInteger, default=0)
    """Number of the newest event that readers can see."""
    created_at: Mapped[CreatedAt]
    started_at: Mapped[OptionalInstant]
    finished_at: Mapped[OptionalInstant]
