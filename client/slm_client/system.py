"""What the service answers about its machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from slm_client.answers import Answer


@dataclass(frozen=True, kw_only=True)
class Executor(Answer):
    name: str
    available: bool
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class System(Answer):
    """What the service's machine can do."""

    hardware: Mapping[str, Any] = field(default_factory=dict)
    precision: str = ""
    versions: Mapping[str, str | None] = field(default_factory=dict)
    executors: Sequence[Executor] = ()
    storage: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
