"""Wire shapes of experiments."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, GetJsonSchemaHandler, JsonValue
from pydantic_core import CoreSchema

from app.schemas.common import Body, Instant, ShortName, Text, Wire
from app.schemas.run import Progress, RunError
from slm.spec import Hyperparameters


class _TrainingConfig:
    """The hyperparameters as JSON Schema, made when it is asked for."""

    def __get_pydantic_json_schema__(self, _core_schema: CoreSchema, _handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return _training_config()


def _training_config() -> dict[str, Any]:
    """Every hyperparameter may be left out or null, which takes its default."""
    schema = Hyperparameters.model_json_schema()
    properties: dict[str, Any] = {}
    for name, found in schema["properties"].items():
        described = {key: value for key, value in found.items() if key != "$ref"}
        inlined = schema["$defs"][found["$ref"].rpartition("/")[2]] if "$ref" in found else {}
        described |= {key: value for key, value in inlined.items() if key in ("type", "enum")}
        text = {"description": described.pop("description", "")}
        described = {key: value for key, value in described.items() if key not in ("default", "title")}
        options = described.get("anyOf", [described, {"type": "null"}])
        properties[name] = {"anyOf": options, **text}
    rate = {"type": "number", "minimum": 0, "maximum": 1}
    properties["simulated_failure_rate"] = {
        "anyOf": [rate, {"type": "null"}],
        "description": "For simulated experiments: how probably it fails.",
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


_ID = "01a20b4e-acbc-7f03-9d20-ccef5efd5345"


_REQUEST: dict[str, JsonValue] = {
    "name": "Tickets to JSON",
    "description": "",
    "base_model_id": _ID,
    "training_dataset_id": _ID,
    "eval_dataset_id": None,
    "training_config": {"learning_rate": 0.001, "epochs": 10, "batch_size": 32},
    "executor": "auto",
}


class Asked(Body):
    """A training that is asked for, whether it is to be created or only planned."""

    description: Text | None = None
    """For people; never read by the training."""
    goal: Text | None = None
    """What it is to be good at, in your words."""
    base_model_id: str = Field(max_length=64)
    """The model to start from: a base, or one that was fine-tuned here."""
    training_dataset_id: str = Field(max_length=64)
    """Rows to learn from."""
    eval_dataset_id: str | None = Field(default=None, max_length=64)
    """Rows to score on; left out, a part of the training rows is held out."""
    training_config: Annotated[dict[str, Any], _TrainingConfig()] = Field(default_factory=dict)
    """learning_rate, epochs, batch_size (examples per step) and the further hyperparameters."""
    executor: Literal["auto", "local", "simulation"] | None = None
    """`auto`, `local` or `simulation`; left out, the service's default."""


class NewExperiment(Asked):
    """What to train: a base model, data, and how. Everything left out of `training_config` is resolved and shown."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _REQUEST})

    name: ShortName
    """What you call it; the resulting model takes its name from it."""


class NewPlan(Asked):
    """What a creation takes; nothing is created."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": _REQUEST})

    name: ShortName = Field(default="plan")
    """May be left out."""


class ExperimentAnswer(Wire):
    """An experiment in the list."""

    id: str
    name: str
    status: str
    """`created`, `running`, `completed`, `failed`, `cancelled`."""
    base_model_id: str
    training_dataset_id: str
    created_at: Instant
    executor: str
    simulated: bool
    """True where the numbers are made up."""
    method: str
    adapter: str
    started_at: Instant | None
    finished_at: Instant | None
    progress: Progress | None
    """In the list of those that wait or run; of any in the detail."""


class Reproduction(Wire):
    """Whether a repetition came out as what it repeats."""

    of: str
    """The experiment that is repeated; it may have been deleted since."""
    identical: bool | None
    """Curve, final weights and metrics are the same to the last bit; null until it ended."""
    differences: list[str]
    """What differs and by how much: libraries and machine, then results."""


class ExperimentDetail(ExperimentAnswer):
    """An experiment with everything that was resolved, and how far it is."""

    description: str | None
    goal: str | None
    eval_dataset_id: str | None
    training_config: dict[str, Any]
    """As it runs: every hyperparameter, defaults included."""
    requested_config: dict[str, Any]
    """As it was asked for: what is not here was a default."""
    resulting_model_id: str | None
    executor_reason: str
    requested_executor: str | None
    """What was asked for: `auto`, `local` or `simulation`; null of experiments from before this was kept."""
    seed: int
    run_id: str | None
    attempt: int | None
    queue_position: int | None
    warnings: list[str]
    error: RunError | None
    cancel_requested: bool
    """True once somebody asked it to stop: it ends as soon as it has saved what is to be kept."""
    last_event_id: int
    """Number of the newest event: `since` goes on from it."""
    plan: dict[str, Any] | None
    """What was expected of it at creation: steps, tokens, memory_bytes, seconds, each with its `basis`."""
    reproduction: Reproduction | None
    """Of a repetition: whether it came out the same."""
