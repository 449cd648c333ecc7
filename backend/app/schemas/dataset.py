"""Wire shapes of datasets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, JsonValue, computed_field

from app.schemas.common import Body, Instant, ShortName, Text, Wire

_EXAMPLE: dict[str, JsonValue] = {
    "id": "01a20b4e-acbc-7f03-9d20-ccef5efd5345",
    "name": "Support tickets",
    "description": "Tickets of 2026",
    "dataset_type": "training",
    "row_count": 300,
    "upload_date": "2026-11-24T02:07:15.132782Z",
    "created_at": "2026-11-24T02:07:15.132782Z",
}
_DETAIL: dict[str, JsonValue] = {
    **_EXAMPLE,
    "file_name": "tickets.csv",
    "file_format": "csv",
    "encoding": None,
    "size_bytes": 93412,
    "sha256": "6f2c1b0e4a9d6d1f7b9f5c3e0a8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b3a2f1e0d",
    "columns": ["prompt", "completion"],
    "kind": "prompt_completion",
    "kind_reason": "The columns are called prompt and completion.",
    "mapping": {"prompt": "prompt", "completion": "completion"},
    "faults": {"count": 1, "first": [{"line": 17, "field": "completion", "message": "The completion is empty."}]},
    "statistics": {"rows": 300},
    "origin": None,
}
_ORIGIN: dict[str, JsonValue] = {
    "dataset_id": "01a20b4e-acbc-7f03-9d20-ccef5efd5345",
    "name": "Support tickets",
    "sha256": "6f2c1b0e4a9d6d1f7b9f5c3e0a8d7c6b5a4f3e2d1c0b9a8f7e6d5c4b3a2f1e0d",
    "part": "fraction",
    "fraction": 0.1,
    "seed": 42,
    "stratify": False,
}


class DatasetAnswer(Wire):
    """An uploaded file in the list."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": _EXAMPLE})

    id: str
    name: str
    description: str | None
    dataset_type: str
    """`training` or `evaluation`."""
    row_count: int
    """Data records in the file, usable or not."""
    created_at: Instant

    @computed_field  # type: ignore[prop-decorator]
    @property
    def upload_date(self) -> Instant:
        """The same instant as `created_at`."""
        return self.created_at


class FaultAnswer(Wire):
    line: int
    field: str | None
    message: str


class FaultsAnswer(Wire):
    count: int
    first: list[FaultAnswer]


class OriginAnswer(Wire):
    """Where a dataset made by a split comes from; the source itself may be deleted since."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": _ORIGIN})

    dataset_id: str
    name: str
    sha256: str
    """Of the source's bytes."""
    part: Literal["rest", "fraction"]
    fraction: float
    seed: int
    stratify: bool


class DatasetDetail(DatasetAnswer):
    """An uploaded file and what was found in it."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": _DETAIL})

    file_name: str
    file_format: str
    encoding: str | None
    size_bytes: int
    sha256: str
    columns: list[str]
    kind: str | None
    """`messages`, `prompt_completion`, `preference`, `classification`, `text`; null where a mapping is needed."""
    kind_reason: str
    mapping: dict[str, str] | None
    """Role → column, as understood or as given."""
    faults: FaultsAnswer
    """Records that parse but cannot be used; they stay in the file."""
    statistics: dict[str, Any]
    origin: OriginAnswer | None = None
    """Of a dataset made by a split: from which one, and how; null for an uploaded file."""


class NewSplit(Body):
    """How a dataset is split in two."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"fraction": 0.1, "seed": 42}})

    fraction: float = Field(default=0.1, gt=0, lt=1)
    """How much of the rows goes to the evaluation dataset; at least one row, and all but one at most."""
    seed: int = Field(default=42, ge=0, lt=2**53)
    """The same seed and rows give the same two files."""
    stratify: bool = False
    """Every label keeps its share in both (texts with labels only)."""


class DatasetChanges(Body):
    """What may change of a dataset; the file itself never does."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"name": "Tickets 2026", "description": "All of them"}}
    )

    name: ShortName = Field(default="", validate_default=False)
    description: Text | None = None
    mapping: dict[str, str] | None = None
    """Role → column, for example `{"prompt": "question", "completion": "answer"}`; null detects it again."""


class RowAnswer(Wire):
    line: int
    values: dict[str, Any]
    """As in the file."""
    example: dict[str, Any] | None
    """The canonical example it becomes."""
    fault: str | None


class UploadForm(Body):
    """The fields beside the file in an upload; described here once for the docs and for checking."""

    name: ShortName
    description: Text | None = None
    dataset_type: str
    mapping: dict[str, str] | None = None
    encoding: str | None = Field(default=None, max_length=40)
