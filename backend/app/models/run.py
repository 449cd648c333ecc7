"""A run: one attempt at long work (training, pull), leased by one supervisor at a time; and the events it reported."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.database import Base
from app.models.columns import CreatedAt, Document, Id, Instant, JsonObject, OptionalInstant, reference

RUN_STATES = ("queued", "starting", "running", "completed", "failed", "cancelled", "interrupted")
ACTIVE = ("queued", "starting", "running")


class Run(Base):
    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(f"state IN {RUN_STATES}", name="state"),
        CheckConstraint("task IN ('train', 'simulate', 'pull', 'evaluate', 'predict', 'export')", name="task"),
        CheckConstraint("attempt >= 1", name="attempt"),
        UniqueConstraint("experiment_id", "attempt"),
        Index(None, "state", "lease_until", "id"),
        Index(None, "model_id", "task", "id"),
    )

    id: Mapped[Id]
    task: Mapped[str] = mapped_column(String(16))
    experiment_id: Mapped[str | None] = mapped_column(String(36), reference("experiments.id", ondelete="CASCADE"))
    model_id: Mapped[str | None] = mapped_column(String(36), reference("models.id", ondelete="CASCADE"))
    """Of a pull: whose weights are fetched; of an evaluation, a prediction, an export: the model that is used."""
    attempt: Mapped[int] = mapped_column(Integer, default=1)
    state: Mapped[str] = mapped_column(String(16), default="queued")
    executor: Mapped[str] = mapped_column(String(16))
    directory: Mapped[str] = mapped_column(String(64))
    """Folder name below `data_dir/runs`; all attempts of an experiment share it."""
    spec: Mapped[dict[str, object]] = mapped_column(Document)
    handle: Mapped[JsonObject]
    owner: Mapped[str | None] = mapped_column(String(128))
    lease_until: Mapped[datetime] = mapped_column(Instant)
    fence: Mapped[int] = mapped_column(Integer, default=0)
    """Counts claims: a write that carries an older number comes from a supervisor that lost the run, and is refused."""
    cancel_requested_at: Mapped[OptionalInstant]
    cancel_save: Mapped[bool] = mapped_column(default=True)
    progress: Mapped[JsonObject]
    error: Mapped[JsonObject]
    result: Mapped[JsonObject]
    """What a finished evaluation, prediction or export made, as the wire shows it."""
    resumed_from_step: Mapped[int | None] = mapped_column(Integer)
    checkpoint_step: Mapped[int | None] = mapped_column(Integer)
    """Newest checkpoint this attempt completed."""
    last_seq: Mapped[int] = mapped_column(BigInteger, default=0)
    log_offset: Mapped[int] = mapped_column(BigInteger, default=0)
    """Bytes of `events.jsonl` already taken in."""
    created_at: Mapped[CreatedAt]
    started_at: Mapped[OptionalInstant]
    finished_at: Mapped[OptionalInstant]


class Event(Base):
    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("run_id", "seq"),
        UniqueConstraint("experiment_id", "number"),
        Index(None, "experiment_id", "type", "number"),
    )

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)
    run_id: Mapped[str] = mapped_column(String(36), reference("runs.id", ondelete="CASCADE"))
    experiment_id: Mapped[str | None] = mapped_column(String(36), reference("experiments.id", ondelete="CASCADE"))
    number: Mapped[int] = mapped_column(BigInteger)
    """Per experiment (per run where there is none), without gaps: the id that readers resume from."""
    seq: Mapped[int] = mapped_column(BigInteger)
    """The run's own number for it."""
    attempt: Mapped[int] = mapped_column(Integer)
    type: Mapped[str] = mapped_column(String(32))
    step: Mapped[int | None] = mapped_column(BigInteger)
    time: Mapped[datetime] = mapped_column(Instant)
    payload: Mapped[dict[str, object]] = mapped_column(Document)
