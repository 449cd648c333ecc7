"""Wire shapes of talking to a model."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, JsonValue, StrictBool, model_validator

from app.schemas.common import TEXT_PATTERN, Body, ShortText, Speech, Wire

_ASK: dict[str, JsonValue] = {
    "messages": [{"role": "user", "content": "Where is my parcel?"}],
    "max_new_tokens": 64,
    "temperature": 0,
    "compare": True,
}
_SIDE: dict[str, JsonValue] = {
    "model_id": "01a20b4e-acbc-7f03-9d20-ccef5efd5345",
    "text": "It is on its way.",
    "finish_reason": "stop",
    "usage": {"prompt_tokens": 31, "completion_tokens": 7},
    "seconds": 0.42,
    "tokens_per_second": 16.67,
}


class ChatMessage(Body):
    role: Literal["system", "user", "assistant"]
    """Who says it."""
    content: Speech
    """What is said."""


class NewChat(Body):
    """What is asked of a model: a conversation that ends with the user's turn, or one prompt."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": _ASK,
            "oneOf": [{"required": ["messages"]}, {"required": ["prompt"]}],
        },
    )

    messages: list[ChatMessage] = Field(default_factory=list, min_length=1, max_length=1000)
    """The conversation so far; its last turn is the user's."""
    prompt: Speech = Field(default="", validate_default=False)
    """One question in place of a conversation; a text to go on with, for a model without a chat template or trained
    by `pretrain`."""
    max_new_tokens: int = Field(default=256, ge=1, le=8192)
    """Tokens of the answer at most; less where the model's context ends before."""
    temperature: float = Field(default=0.7, ge=0, le=2, allow_inf_nan=False)
    """0 takes the likeliest token each time; more makes answers more varied."""
    top_p: float = Field(default=0.95, gt=0, le=1, allow_inf_nan=False)
    """Only the likeliest tokens that together reach this chance are drawn from."""
    seed: int | None = Field(default=None, ge=0, lt=2**31)
    """The same seed gives the same answer; null draws one."""
    stop: list[ShortText] = Field(default_factory=list, max_length=8)
    """Texts that end the answer; they are not part of it."""
    stream: StrictBool = False
    """Whether the answer comes word for word, as server-sent events."""
    compare: StrictBool = False
    """Whether the base of a fine-tuned model answers too."""

    @model_validator(mode="after")
    def _one_of(self) -> NewChat:
        if len(self.model_fields_set & {"messages", "prompt"}) != 1:
            raise ValueError("give either 'messages' or 'prompt'")
        return self


class Usage(Wire):
    prompt_tokens: int
    completion_tokens: int
    """Decoded, the stop token included."""


class SideAnswer(Wire):
    """One answer and what it took. Base and tuned model answer together, so their seconds are the same."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": _SIDE}, protected_namespaces=())

    model_id: str
    text: str
    finish_reason: str
    """`stop` (the model, or a stop text) or `length`."""
    usage: Usage
    seconds: float
    tokens_per_second: float | None


class ChatAnswer(SideAnswer):
    """The model's answer, and its base's where both were wanted."""

    model_config = ConfigDict(json_schema_extra={"example": {**_SIDE, "base": _SIDE}}, protected_namespaces=())

    base: SideAnswer | None


class TokenEvent(Wire):
    """New words of a streamed answer (`event: token`)."""

    side: Literal["tuned", "base"]
    """`tuned` is the model that was asked."""
    text: str


class NewPrediction(Body):
    """A dataset to run a model over."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"dataset_id": "01a20b4e-acbc-7f03-9d20-ccef5efd5345"}}
    )

    dataset_id: str = Field(min_length=1, max_length=64, pattern=TEXT_PATTERN)
    """Its every record is answered; answers that the data hold are not looked at."""
    mapping: dict[str, ShortText] | None = Field(default=None, max_length=4)
    """Which column is asked, where the dataset does not say it: `prompt`, `messages` or `text` (and `system`,
    `input`) to a column's name."""
    max_new_tokens: int = Field(default=256, ge=1, le=8192)
    """Tokens of each answer at most."""
