"""What the service answers, as frozen dataclasses. Unknown fields are no error: `wire` keeps the whole answer.

Fields that the wire contract guarantees have no default; the others take one where the service leaves them out, so
that this client works with older and newer services alike.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from slm_client.errors import NotTheService

ENDED = frozenset({"completed", "failed", "cancelled"})
"""States after which neither an experiment nor a run changes by itself."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    wire: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The answer as it came, with fields that this client does not know."""

    @classmethod
    def read(cls, document: object) -> Self:
        """Make one from a decoded JSON object. Raises `NotTheService` where guaranteed fields are missing."""
        if not isinstance(document, dict):
            raise NotTheService(f"The service answered something that is not a {cls.__name__.lower()}.")
        values: dict[str, Any] = {"wire": document}
        for name, (reader, required) in _fields(cls).items():
            if document.get(name) is not None:
                values[name] = reader(document[name])
            elif required and name not in document:
                raise NotTheService(f"The service's answer lacks '{name}'; is this the SLM Training Platform?")
            elif required:
                values[name] = None
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Fault(Answer):
    """A record that parses but cannot be used."""

    line: int
    message: str
    field: str | None = None


@dataclass(frozen=True, kw_only=True)
class Faults(Answer):
    count: int = 0
    first: Sequence[Fault] = ()


@dataclass(frozen=True, kw_only=True)
class Dataset(Answer):
    """An uploaded file in the list."""

    id: str
    name: str
    dataset_type: str
    row_count: int
    created_at: datetime
    description: str | None = None


@dataclass(frozen=True, kw_only=True)
class Origin(Answer):
    """Of a dataset made by a split: from which one, and how. The source itself may be deleted since."""

    dataset_id: str
    name: str
    sha256: str
    part: str
    fraction: float
    seed: int
    stratify: bool


@dataclass(frozen=True, kw_only=True)
class DatasetDetail(Dataset):
    """An uploaded file and what was found in it. `kind` is None where a mapping is needed; `kind_reason` says so."""

    file_name: str = ""
    file_format: str = ""
    encoding: str | None = None
    size_bytes: int = 0
    sha256: str = ""
    columns: Sequence[str] = ()
    kind: str | None = None
    kind_reason: str = ""
    mapping: Mapping[str, str] | None = None
    faults: Faults = Faults()
    statistics: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin | None = None


@dataclass(frozen=True, kw_only=True)
class Row(Answer):
    """A row as it stands in the file, beside the example it becomes or the reason why it becomes none."""

    line: int
    values: Mapping[str, Any]
    example: Mapping[str, Any] | None = None
    fault: str | None = None


@dataclass(frozen=True, kw_only=True)
class Model(Answer):
    """A model in the list."""

    id: str
    name: str
    model_type: str
    version: str
    architecture: str
    parameters_count: int
    created_at: datetime
    is_latest_version: bool = True
    simulated: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelDetail(Model):
    base_model_id: str | None = None
    description: str | None = None
    metadata: Mapping[str, Any] | None = None
    linked_evaluations: Sequence[str] | None = None
    tags: Sequence[str] = ()
    experiment_id: str | None = None
    source: Mapping[str, Any] | None = None

    @property
    def weights(self) -> str | None:
        """`absent`, `pulling` or `present`; None where the service does not say (a fine-tuned model)."""
        return (self.metadata or {}).get("weights")


@dataclass(frozen=True, kw_only=True)
class Progress(Answer):
    """How far a run is; None where that is not known yet. `done` and `total` count what the phase counts."""

    phase: str | None = None
    step: int | None = None
    total_steps: int | None = None
    epoch: float | None = None
    percent: float | None = None
    eta_seconds: float | None = None
    tokens_per_second: float | None = None
    loss: float | None = None
    done: int | None = None
    total: int | None = None


@dataclass(frozen=True, kw_only=True)
class RunError(Answer):
    """Why a run failed and what to do. `fault` is `user` or `system`."""

    code: str
    message: str
    hint: str = ""
    fault: str = "system"
    retryable: bool = False


@dataclass(frozen=True, kw_only=True)
class Experiment(Answer):
    """An experiment in the list. `simulated` means that its numbers are made up."""

    id: str
    name: str
    status: str
    base_model_id: str
    training_dataset_id: str
    created_at: datetime
    executor: str = ""
    simulated: bool = False
    method: str = ""
    adapter: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: Progress | None = None
    """In a list of those that wait or run."""

    @property
    def ended(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True, kw_only=True)
class Reproduction(Answer):
    """Whether a repetition came out as what it repeats; None until it ended."""

    of: str
    identical: bool | None = None
    differences: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class ExperimentDetail(Experiment):
    description: str | None = None
    goal: str | None = None
    eval_dataset_id: str | None = None
    training_config: Mapping[str, Any] = field(default_factory=dict)
    requested_config: Mapping[str, Any] = field(default_factory=dict)
    resulting_model_id: str | None = None
    executor_reason: str = ""
    requested_executor: str | None = None
    """`auto`, `local` or `simulation`; `executor` is what became of it."""
    seed: int | None = None
    run_id: str | None = None
    attempt: int | None = None
    queue_position: int | None = None
    warnings: Sequence[str] = ()
    error: RunError | None = None
    cancel_requested: bool = False
    last_event_id: int = 0
    plan: Mapping[str, Any] | None = None
    reproduction: Reproduction | None = None


@dataclass(frozen=True, kw_only=True)
class Run(Answer):
    """One attempt at long work: a training, a pull, an evaluation. `interrupted` means that another attempt follows."""

    id: str
    task: str
    state: str
    attempt: int = 1
    executor: str = ""
    experiment_id: str | None = None
    model_id: str | None = None
    progress: Progress | None = None
    error: RunError | None = None
    result: Mapping[str, Any] | None = None
    """What a completed run made: of an evaluation its `evaluation_id`, of a prediction its `artifact_id`."""
    resumed_from_step: int | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True, kw_only=True)
class Event(Answer):
    """Something that a run reported; `id` is the experiment's durable number for it."""

    id: int
    type: str
    run_id: str = ""
    attempt: int = 1
    seq: int = 0
    time: datetime | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Answer):
    name: str
    step: int
    val_loss: float | None = None
    best: bool = False
    size_bytes: int = 0
    created_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Curve(Answer):
    """Equally long columns."""

    step: Sequence[int] = ()
    value: Sequence[float] = ()
    time: Sequence[datetime] = ()


@dataclass(frozen=True, kw_only=True)
class Log(Answer):
    """The end of a training process's own output, and how long all of it is."""

    text: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Evaluation(Answer):
    """An evaluation in the list."""

    id: str
    experiment_id: str
    created_at: datetime
    simulated: bool = False


@dataclass(frozen=True, kw_only=True)
class EvaluationDetail(Evaluation):
    """Base and tuned model on the same rows. `intervals`: metric → base, tuned, difference → [low, high].

    `base_metrics` is empty where a base was scored by itself.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    loss_curve: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    training_statistics: Mapping[str, Any] = field(default_factory=dict)
    model_id: str | None = None
    dataset_id: str | None = None
    run_id: str | None = None
    method: str | None = None
    base_metrics: Mapping[str, float] = field(default_factory=dict)
    metric_notes: Mapping[str, str] | None = None
    baselines: Mapping[str, Any] = field(default_factory=dict)
    intervals: Mapping[str, Any] = field(default_factory=dict)
    overlap: Mapping[str, Any] | None = None
    """exact, normalised, near, rows, share, examples, metrics_without, rows_without."""
    rows_scored: int | None = None
    rows_available: int | None = None
    rows_generated: int | None = None
    rows_chosen: str | None = None
    per_class: Sequence[Mapping[str, Any]] | None = None
    confusion: Mapping[str, Any] | None = None
    verdict: str | None = None
    planned: Mapping[str, float | None] | None = None
    actual: Mapping[str, float | None] | None = None


@dataclass(frozen=True, kw_only=True)
class Sample(Answer):
    """One scored row."""

    row: int
    prompt: str | None = None
    expected: str | None = None
    base_output: str | None = None
    tuned_output: str | None = None
    scores: Mapping[str, Any] = field(default_factory=dict)


def _same(value: Any) -> Any:
    return value


def _instant(value: Any) -> Any:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise NotTheService(f"The service answered a time that cannot be read: {str(value)[:40]!r}.") from None


_Readers = dict[str, tuple[Callable[[Any], Any], bool]]
_known: dict[type[Answer], _Readers] = {}


def _fields(cls: type[Answer]) -> _Readers:
    """Name → (reader, whether the contract guarantees it), found once for each class from its annotations."""
    if cls not in _known:
        _known[cls] = _find_fields(cls)
    return _known[cls]


def _find_fields(cls: type[Answer]) -> _Readers:
    hints = typing.get_type_hints(cls)
    return {
        entry.name: (
            _reader(hints[entry.name]),
            entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING,
        )
        for entry in dataclasses.fields(cls)
        if entry.name != "wire"
    }


def _reader(hint: Any) -> Callable[[Any], Any]:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = next(part for part in typing.get_args(hint) if part is not type(None))
    if hint is datetime:
        return _instant
    if isinstance(hint, type) and issubclass(hint, Answer):
        return hint.read
    if typing.get_origin(hint) is Sequence:
        inner = _reader(typing.get_args(hint)[0])
        return lambda items: [inner(item) for item in items]
    return _same
