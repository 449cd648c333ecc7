"""What all wire shapes share: strict bodies that name the nearest known key, problems, instants, texts."""

from __future__ import annotations

import difflib
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from slm.spec import Described


class Wire(Described):
    """An answer, made from a row."""

    model_config = ConfigDict(from_attributes=True, protected_namespaces=())


class Body(Described):
    """A request: unknown keys are refused with the nearest known one."""

    model_config = ConfigDict(protected_namespaces=(), extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _name_nearest_key(cls, value: Any) -> Any:
        if isinstance(value, dict):
            refuse_unknown(value, known=tuple(cls.model_fields))
        return value


def refuse_unknown(value: dict[Any, Any], *, known: tuple[str, ...]) -> None:
    """Raises `ValueError` naming the first unknown key and the known key nearest to it."""
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(sorted(known))}."
            raise ValueError(f"Unknown field '{str(key)[:60]}'; {hint}")


def _clean(text: object) -> object:
    if isinstance(text, str):
        if "\0" in text:
            raise ValueError("must not hold NUL characters")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("must be valid Unicode text") from None
    return text


def _named(text: object) -> object:
    if isinstance(_clean(text), str) and not str(text).strip():
        raise ValueError("must not be empty")
    return text


# The patterns tell callers the rule; the validators before them say it in words.
TEXT_PATTERN = r"^[^\x00]*$"
NAME_PATTERN = r"^[^\x00]*[^\s\x00-\x1f\x85][^\x00]*$"
Text = Annotated[str, Field(max_length=20_000, pattern=TEXT_PATTERN), BeforeValidator(_clean)]
ShortName = Annotated[
    str, Field(min_length=1, max_length=200, pattern=NAME_PATTERN), BeforeValidator(_named), AfterValidator(str.strip)
]
Speech = Annotated[str, Field(min_length=1, max_length=200_000, pattern=NAME_PATTERN), BeforeValidator(_named)]
"""What somebody says: never empty, its blanks kept."""
ShortText = Annotated[str, Field(min_length=1, max_length=100, pattern=TEXT_PATTERN), BeforeValidator(_clean)]
Instant = datetime
"""Aware, in UTC: written as ISO 8601 with `Z`."""


class FieldProblem(BaseModel):
    field: str = Field(examples=["training_config.epochs"])
    message: str = Field(examples=["must be greater than 0"])


class Problem(BaseModel):
    """What went wrong (RFC 9457). `detail` is a sentence for people; `code` is stable for programs."""

    type: str = Field(default="about:blank", examples=["about:blank"], description="A URI of the kind of problem.")
    title: str = Field(examples=["Not found"], description="The kind of problem in a word or two.")
    status: int = Field(examples=[404], description="The HTTP status once more.")
    detail: str = Field(examples=["Dataset not found"], description="What is wrong, where, and what to do.")
    instance: str = Field(
        examples=["/datasets/01a20b4e-acbc-7f03-9d20-ccef5efd5345"], description="What was asked for."
    )
    code: str = Field(examples=["not_found"], description="Stable, for programs.")
    errors: list[FieldProblem] | None = Field(default=None, description="Each field that is wrong, with a sentence.")
