"""Wire shapes of a preview."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, JsonValue

from app.schemas.common import Body, Wire

_ID = "01a20b4e-acbc-7f03-9d20-ccef5efd5345"
_PIECES: list[JsonValue] = [
    {"text": "assistant\n", "id": 198, "learned": False},
    {"text": "dog", "id": 9389, "learned": True},
    {"text": "<|im_end|>", "id": 2, "learned": True},
]
_EXAMPLE: dict[str, JsonValue] = {
    "method": "sft",
    "max_length": 256,
    "base_model_id": _ID,
    "counts": {"examples": 240, "tokens": 19920, "learned_tokens": 8160, "truncated": 31, "dropped": 0},
    "lengths": {"p50": 83, "p95": 92, "max": 260, "histogram": [{"from": 0, "to": 50, "count": 12}]},
    "warnings": ["12 % of rows exceed 256 tokens; the end of the answer is lost in 31 rows."],
    "examples": [
        {
            "line": 2,
            "pieces": _PIECES,
            "cut": [],
            "cut_tokens": 0,
            "tokens": 3,
            "learned_tokens": 2,
            "truncated": False,
            "dropped": None,
            "label": None,
            "side": None,
        }
    ],
    "rows_read": 240,
    "rows_total": 240,
}


class NewPreview(Body):
    """How the dataset would be learned from."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"base_model_id": _ID, "method": "sft", "max_length": 256, "limit": 20}},
    )

    base_model_id: str = Field(max_length=64)
    """The model that would learn: its tokenizer and template make the tokens."""
    method: Literal["sft", "pretrain", "classify", "mask", "dpo"] | None = None
    """Left out, the usual one for such data."""
    max_length: int | None = Field(default=None, ge=8, le=131_072)
    """Longest example in tokens; left out, the default of a training."""
    limit: int = Field(default=20, ge=1, le=200)
    """So many rows are shown token by token."""
    offset: int = Field(default=0, ge=0, le=2**53)
    """The first row that is shown."""


class PieceAnswer(Wire):
    text: str
    """The token as a person reads it; joined, the pieces are the very text that is learned."""
    id: int
    learned: bool
    """Whether the token carries loss; the others are only read."""


class PreviewExample(Wire):
    """One sequence as training reads it; a preference row makes two."""

    line: int
    """Where the row begins in the file."""
    pieces: list[PieceAnswer]
    cut: list[PieceAnswer]
    """What `max_length` takes away; the first 200 tokens of it."""
    cut_tokens: int
    """How many tokens it takes away in all."""
    tokens: int
    learned_tokens: int
    truncated: bool
    dropped: str | None = None
    """Why nothing is learned from the row; its `pieces` are empty then."""
    label: str | None = None
    side: str | None = None
    """Of a preference row: `chosen` or `rejected`."""


class PreviewCounts(Wire):
    examples: int
    tokens: int
    learned_tokens: int
    truncated: int
    dropped: int


class Bar(Wire):
    from_: int = Field(alias="from")
    to: int
    """Not included."""
    count: int


class PreviewLengths(Wire):
    """Of whole examples in tokens, before anything is cut."""

    p50: int
    p95: int
    max: int
    histogram: list[Bar]


class PreviewAnswer(Wire):
    """What would be learned, and what should be known before."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": _EXAMPLE})

    method: str
    max_length: int
    """As it works: a model that reads less lowers it."""
    base_model_id: str
    counts: PreviewCounts
    lengths: PreviewLengths
    warnings: list[str]
    examples: list[PreviewExample]
    rows_read: int
    """Rows behind `counts` and `lengths`: all, or a sample of a large file."""
    rows_total: int
