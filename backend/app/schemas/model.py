"""Wire shapes of models."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, JsonValue, WithJsonSchema, model_validator

from app.schemas.common import TEXT_PATTERN, Body, Instant, ShortName, Text, Wire

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
_DETAIL: dict[str, JsonValue] = {
    **_EXAMPLE,
    "base_model_id": None,
    "description": "124 million parameters",
    "metadata": {"weights": "absent"},
    "linked_evaluations": None,
    "tags": [],
    "experiment_id": None,
    "source": {"kind": "hub", "hub": "openai-community/gpt2", "revision": None},
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

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": _DETAIL})

    base_model_id: str | None
    description: str | None
    metadata: dict[str, Any] | None
    """Among others `weights`: `absent`, `pulling` or `present`."""
    linked_evaluations: list[str] | None
    tags: list[str]
    experiment_id: str | None
    source: dict[str, Any] | None


_HUB_NAME = r"^[A-Za-z0-9_.\-]{1,96}/[A-Za-z0-9_.\-]{1,96}$"
_REVISION_NAME = r"^[A-Za-z0-9_.\-]+$"
_HUB = {"type": "string", "pattern": _HUB_NAME}
_REVISION = {"type": "string", "minLength": 1, "maxLength": 100, "pattern": _REVISION_NAME}
_FOLDER = {"type": "string", "minLength": 1, "maxLength": 200, "pattern": TEXT_PATTERN}
_SOURCE: dict[str, Any] = {
    "description": "Where weights come from: a `hub` (with `revision`), or a `folder` below `models_dir`.",
    "oneOf": [
        {
            "type": "object",
            "required": ["hub"],
            "properties": {"hub": _HUB, "revision": _REVISION},
            "additionalProperties": False,
        },
        {"type": "object", "required": ["folder"], "properties": {"folder": _FOLDER}, "additionalProperties": False},
    ],
}


class SourceBody(Body):
    """Where weights come from: `hub` (with `revision`), or `folder` below `models_dir`."""

    model_config = ConfigDict(extra="forbid")

    hub: str = Field(default="", pattern=_HUB_NAME)
    revision: str = Field(default="", max_length=100, pattern=_REVISION_NAME)
    folder: str = Field(default="", min_length=1, max_length=200, pattern=TEXT_PATTERN)

    @model_validator(mode="after")
    def _one_of(self) -> SourceBody:
        if len(self.model_fields_set & {"hub", "folder"}) != 1:
            raise ValueError("give either 'hub' or 'folder'")
        if "revision" in self.model_fields_set and "hub" not in self.model_fields_set:
            raise ValueError("only a hub has revisions")
        return self


class NewModel(Body):
    """A base model to register; nothing is fetched until it is pulled."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"name": "SmolLM2 135M", "source": {"hub": "HuggingFaceTB/SmolLM2-135M"}}},
    )

    name: ShortName
    """Unlike that of every other base model."""
    source: Annotated[SourceBody, WithJsonSchema(_SOURCE)]
    """Where its weights come from: a hub's repository, or a folder below `models_dir`."""
    description: Text | None = None
    """For people."""
    tags: list[ShortName] = Field(default_factory=list, max_length=50)
    """Words to find it by."""


class ModelChanges(Body):
    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"description": "Our first", "tags": ["prod"]}}
    )

    name: ShortName = Field(default="", validate_default=False)
    description: Text | None = None
    tags: list[ShortName] = Field(default_factory=list, max_length=50)
