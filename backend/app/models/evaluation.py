"""What a run proved, and the files it left."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.models.columns import CreatedAt, Document, Id, JsonObject, reference


class Evaluation(Base):
    __tablename__ = "evaluations"
    __table_args__ = (Index(None, "created_at", "id"), Index(None, "experiment_id", "created_at", "id"))

    id: Mapped[Id]
    experiment_id: Mapped[str | None] = mapped_column(String(36), reference("experiments.id", ondelete="CASCADE"))
    run_id: Mapped[str | None] = mapped_column(String(36), reference("runs.id", ondelete="SET NULL"), index=True)
    """The run that scored it: a training's last one, or an evaluation of its own."""
    model_id: Mapped[str] = mapped_column(String(36), reference("models.id", ondelete="CASCADE"), index=True)
    dataset_id: Mapped[str | None] = mapped_column(String(36), reference("datasets.id"), index=True)
    """The rows' dataset; the training dataset where a part of it was held out."""
    simulated: Mapped[bool] = mapped_column(default=False)
    metrics: Mapped[dict[str, object]] = mapped_column(Document)
    loss_curve: Mapped[dict[str, object]] = mapped_column(Document)
    training_statistics: Mapped[dict[str, object]] = mapped_column(Document)
    details: Mapped[JsonObject]
    """base_metrics, intervals, rows_scored, rows_available, baselines, verdict."""
    created_at: Mapped[CreatedAt]


class Artifact(Base):
    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("path"),)

    id: Mapped[Id]
    run_id: Mapped[str | None] = mapped_column(String(36), reference("runs.id", ondelete="SET NULL"), index=True)
    model_id: Mapped[str | None] = mapped_column(String(36), reference("models.id"), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    path: Mapped[str] = mapped_column(String(512))
    """Relative to `data_dir`."""
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[CreatedAt]
