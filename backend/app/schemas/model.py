"""Wire shapes of models."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, JsonValue, model_validator

from app.schemas.common import Body, Instant, ShortName, Text, Wire

_EXAMPLE: dict[str, JsonValue] = {
    "id": "01a20b4e-acbc-7f03-9d20-ccef5efd5345",
    "name": "GPT-2 Small",
    "model_type": "base",
    "version": "1.0",
    "architecture": "transformer",
    "parameters_count": 124000000,
    "created_at": "2026-11-24T02:07:15.132782Z",
    "is_latest_version": True,
    "simulated": False,
}


class ModelAnswer(Wire):
    """A model in the list."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": _EXAMPLE})

    id: str
    name: str
    model_type: str
    """`base` or `fine_tuned`."""
    version: str
    architecture: str
    parameters_count: int
    created_at: Instant
    is_latest_version: bool
    simulated: bool
    """True for the result of a simulated training: it has no weights."""


class ModelDetail(ModelAnswer):
    """A model with where it comes from and what is known of its weights."""

    base_model_id: str | None
    description: str | None
    metadata: dict[str, Any] | None
    """Among others `weights`: `absent`, `pulling` or `present`."""
    linked_evaluations: list[str] | None
    tags: list[str]
    experiment_id: str | None
    source: dict[str, Any] | None


class SourceBody(Body):
    """Where weights come from: `hub` (with `revision`), or `folder` below `models_dir`."""

    model_config = ConfigDict(extra="forbid")

    hub: str | None = Field(
        default=None, pattern=r"^[\w.\-]{1,96}/[\w.\-]{1,96}$", examples=["HuggingFaceTB/SmolLM2-135M"]
    )
    revision: str | None = Field(default=None, max_length=100, pattern=r"^[\w.\-]+$")
    folder: str | None = Field(default=None, min_length=1, max_length=200)

    @model_validator(mode="after")
    def _one_of(self) -> SourceBody:
        if (self.hub is None) == (self.folder is None):
            raise ValueError("give either 'hub' or 'folder'")
        return self


class NewModel(Body):
    """A base model to register; nothing is fetched until it is pulled."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "SmolLM2 135M", "source": {"hub": "HuggingFaceTB/SmolLM2-135M"}}},
    )

    name: ShortName
    source: SourceBody
    description: Text | None = None
    tags: list[ShortName] = Field(default_factory=list, max_length=50)


class ModelChanges(Body):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"description": "Our first", "tags": ["prod"]}}
    )

    name: ShortName = Field(default="", validate_default=False)
    description: Text | None = None
    tags: list[ShortName] = Field(default_factory=list, max_length=50)
