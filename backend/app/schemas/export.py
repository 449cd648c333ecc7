"""Wire shapes of exports and of lineage."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict

from app.schemas.common import Body, Instant, Wire
from app.schemas.run import RunError

_ID = "01a20b4e-acbc-7f03-9d20-ccef5efd5345"


class NewExport(Body):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"format": "gguf-q8_0"}})

    format: Literal["adapter", "safetensors", "gguf-f16", "gguf-q8_0"]
    """`adapter` (for PEFT), `safetensors` (the whole model, merged), `gguf-f16` or `gguf-q8_0` (for llama.cpp)."""


class LoaderFigures(Wire):
    """How the export compares when one program loads it."""

    checked: int
    same_top_token: float
    ties: int
    """Positions not counted, because the original itself hardly prefers its first token (by less than 0.1)."""
    same_with_ties: float
    max_logit_difference: float | None


class SelfTest(Wire):
    """The export, loaded again from the disk, beside the original; of each figure the worst over all loaders."""

    checked: int
    """Positions at which the top token was compared, teacher-forced."""
    max_logit_difference: float | None
    same_text: bool
    """Whether a few greedy answers are the same; not required, since one near tie changes all that follows."""
    same_top_token: float
    """Share of the positions: at least 0.99, of `gguf-q8_0` at least 0.95."""
    loaders: list[str]
    template_equal: bool
    stop_tokens_equal: bool
    by_loader: dict[str, LoaderFigures]


class ExportFile(Wire):
    artifact_id: str
    name: str
    size_bytes: int
    sha256: str


class ExportAnswer(Wire):
    """A model in a form that other programs load; `id` is that of its run."""

    id: str
    model_id: str
    run_id: str
    format: str
    state: str
    """`queued`, `running`, `completed`, `failed`, `cancelled`."""
    created_at: Instant
    size_bytes: int | None
    self_test: SelfTest | None
    files: list[ExportFile]
    """To be had from `/artifacts/{artifact_id}/download`."""
    error: RunError | None


class LineageNode(Wire):
    id: str
    type: Literal["model", "dataset", "experiment", "run", "evaluation", "export"]
    name: str
    details: dict[str, Any]
    """What tells it apart: digests of data, state, method, format."""
    missing: bool
    """True for what was deleted since, and is known by what is left of it elsewhere."""


class LineageEdge(Wire):
    source: str
    target: str
    label: str


class LineageAnswer(Wire):
    """Where a model comes from and what became of it, as a graph."""

    nodes: list[LineageNode]
    edges: list[LineageEdge]
