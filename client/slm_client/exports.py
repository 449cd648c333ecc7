"""What the service answers about models that leave: exports with their self-tests, and lineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from slm_client.answers import Answer, RunError


@dataclass(frozen=True, kw_only=True)
class SelfTest(Answer):
    """An export loaded again, beside the original; of each figure the worst over all `loaders`."""

    checked: int = 0
    max_logit_difference: float | None = None
    same_text: bool = False
    same_top_token: float = 0.0
    loaders: Sequence[str] = ()
    template_equal: bool = False
    stop_tokens_equal: bool = False


@dataclass(frozen=True, kw_only=True)
class ExportFile(Answer):
    """To be fetched with `client.artifacts.download`."""

    artifact_id: str
    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Export(Answer):
    """A model in a form that other programs load; `id` is that of its run."""

    id: str
    model_id: str
    run_id: str
    format: str
    state: str
    created_at: datetime
    size_bytes: int | None = None
    self_test: SelfTest | None = None
    files: Sequence[ExportFile] = ()
    error: RunError | None = None


@dataclass(frozen=True, kw_only=True)
class LineageNode(Answer):
    """`type`: model, dataset, experiment, run, evaluation, export; `missing` where it was deleted since."""

    id: str
    type: str
    name: str
    details: Mapping[str, Any] = field(default_factory=dict)
    missing: bool = False


@dataclass(frozen=True, kw_only=True)
class LineageEdge(Answer):
    source: str
    target: str
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class Lineage(Answer):
    """Where a model comes from and what became of it."""

    nodes: Sequence[LineageNode] = ()
    edges: Sequence[LineageEdge] = ()
