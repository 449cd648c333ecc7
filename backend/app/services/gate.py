"""What rows, labels, digests and formulas show of a training: refused with a sentence, or let through with a warning.

Instant by rule: no tokenizer, no pass over a file. Creation, plan and preview ask the same functions, so that what one
refuses the others refuse, in the same words. What needs tokens is found out by the run itself, in its first phase.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from app.errors import FieldError, SpecRejected
from app.models import Dataset, Model
from app.services.hardware import Machine
from app.services.references import base_kind
from slm import plan
from slm.plan import Estimate
from slm.spec import ENCODER, METHOD_FACTS, Adapter, DatasetKind, Hyperparameters, Method

_NAMED = 5
"""Labels named in a sentence; their number is told."""
_MANY_REPEATS = 0.2


@dataclass(frozen=True)
class Asked:
    """A training that is asked for, resolved, and what the formulas say of it."""

    base: Model
    trained_by: Method | None
    """How the base was fine-tuned last, where it was."""
    train: Dataset
    evaluate: Dataset | None
    config: Hyperparameters
    estimate: Estimate


def rejected(field: str, message: str) -> SpecRejected:
    return SpecRejected(f"{field}: {message}", errors=(FieldError(field, message),))


def refuse(asked: Asked, machine: Machine) -> None:
    """Raises `SpecRejected` where the training could not work on this machine or would mean nothing."""
    require_base(asked.base, asked.config.method, trained_by=asked.trained_by)
    for field, dataset in (("training_dataset_id", asked.train), ("eval_dataset_id", asked.evaluate)):
        if dataset is not None:
            require_data(dataset, asked.config.method, field=field)
    if asked.config.method is Method.CLASSIFY:
        _require_labels(asked.train, asked.evaluate)
    if asked.config.adapter is Adapter.QLORA and (reason := no_qlora(machine)) is not None:
        raise rejected(
            "training_config.adapter", f"qlora {reason}; lora does the same with the base in full precision."
        )
    _require_memory(asked, machine)


def require_base(base: Model, method: Method, *, trained_by: Method | None = None) -> None:
    """Raises `SpecRejected` for a base that cannot learn by the method."""
    if trained_by is Method.CLASSIFY and method is not Method.CLASSIFY:
        message = f"'{base.name}' was trained to classify and has lost the head that {method.value} needs."
    elif base_kind(base) in METHOD_FACTS[method].bases:
        return
    elif base_kind(base) == ENCODER:
        message = f"'{base.name}' is an encoder and cannot continue text; choose a causal model such as GPT-2."
    else:
        message = f"'{base.name}' continues text; method {method.value} needs an encoder such as BERT."
    raise rejected("base_model_id", message)


def require_data(dataset: Dataset, method: Method, *, field: str) -> None:
    """Raises `SpecRejected` for data that the method cannot learn from."""
    if dataset.kind is None:
        raise rejected(field, f"'{dataset.name}' cannot be interpreted yet. {dataset.kind_reason}")
    fitting = METHOD_FACTS[method].kinds
    if DatasetKind(dataset.kind) not in fitting:
        known = ", ".join(sorted(kind.value for kind in fitting))
        message = f"'{dataset.name}' holds {dataset.kind} data; method {method.value} learns from {known}."
        raise rejected(field, message)
    if not (dataset.statistics or {}).get("examples"):
        raise rejected(field, f"none of the rows of '{dataset.name}' can be used; see its faults.")


def labels_of(dataset: Dataset) -> dict[str, int] | None:
    """Every label with its rows; None where there are more of them than the inspection lists."""
    statistics = dataset.statistics or {}
    labels: dict[str, int] | None = statistics.get("labels")
    return labels if labels is not None and statistics.get("distinct_labels") == len(labels) else None


def no_qlora(machine: Machine) -> str | None:
    """Why bases in four bits cannot be trained here, or None."""
    if not machine.gpus:
        return "needs an NVIDIA GPU, and this machine has none"
    if find_spec("bitsandbytes") is None:
        return "needs the package bitsandbytes, which is not installed"
    return None


def _require_labels(train: Dataset, evaluate: Dataset | None) -> None:
    learned = labels_of(train)
    if learned is not None and len(learned) < 2:
        message = f"all rows of '{train.name}' have the label {_named(learned)}; to classify takes at least two."
        raise rejected("training_dataset_id", message)
    scored = labels_of(evaluate) if evaluate is not None else None
    if evaluate is not None and learned is not None and scored is not None and not learned.keys() & scored.keys():
        message = (
            f"no label of '{evaluate.name}' ({_named(scored)}) is among those of '{train.name}' ({_named(learned)}), "
            "so every answer would be wrong."
        )
        raise rejected("eval_dataset_id", message)


def _require_memory(asked: Asked, machine: Machine) -> None:
    have = _memory(machine)
    if have is not None and asked.estimate.memory_bytes > plan.FAR_BEYOND * have:
        message = (
            f"this training would need about {gigabytes(asked.estimate.memory_bytes)} of memory and this machine has "
            f"{gigabytes(have)}. {_lighter(asked.config)}"
        )
        raise rejected("training_config", message)


def warnings(asked: Asked, machine: Machine, *, free_disk: int) -> list[str]:
    """What is allowed but unwise, in sentences. `free_disk` in bytes, where checkpoints go."""
    train, evaluate, statistics = asked.train, asked.evaluate, asked.train.statistics or {}
    rows = int(statistics.get("examples") or train.row_count)
    found = plan.warnings(asked.config, asked.estimate, rows=rows)
    faults = int((train.faults or {}).get("count") or 0)
    if faults and asked.estimate.basis == "formula":  # a trial tells them itself, by line
        found.append(f"{faults} of {train.row_count} training rows cannot be used; see the dataset's faults.")
    repeats = int(statistics.get("duplicates") or 0)
    if repeats > _MANY_REPEATS * max(train.row_count, 1):
        found.append(f"{repeats} of {train.row_count} training rows repeat another one word for word.")
    if evaluate is not None and evaluate.sha256 == train.sha256:
        found.append("The evaluation data are the training data: the result will show memory, not learning.")
    if asked.config.method is Method.CLASSIFY and evaluate is not None:
        found += _unseen(train, evaluate)
    have = _memory(machine)
    if have is not None and asked.estimate.memory_bytes > plan.FULL_MEMORY * have:
        found.append(
            f"About {gigabytes(asked.estimate.memory_bytes)} of memory would be needed and this machine has "
            f"{gigabytes(have)}. {_lighter(asked.config)}"
        )
    if asked.estimate.checkpoint_bytes > free_disk:
        found.append(
            f"The checkpoints would take about {gigabytes(asked.estimate.checkpoint_bytes)} and {gigabytes(free_disk)} "
            "of the disk are free; a lower save_total_limit keeps fewer."
        )
    return found


def _unseen(train: Dataset, evaluate: Dataset) -> list[str]:
    """Labels that are asked for but never taught."""
    learned, scored = labels_of(train), labels_of(evaluate)
    if learned is None or scored is None or not (unseen := {label: scored[label] for label in scored.keys() - learned}):
        return []
    count = sum(unseen.values())
    return [
        f"{count} evaluation rows have labels that no training row has ({_named(unseen)}); they will count as wrong."
    ]


def _named(labels: dict[str, int]) -> str:
    names = sorted(labels, key=lambda label: (-labels[label], label))
    shown = ", ".join(f"'{name[:60]}'" for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def _memory(machine: Machine) -> int | None:
    """Where the model would live; None for a GPU whose driver does not tell."""
    return machine.gpu_memory_bytes if machine.gpus else machine.memory_bytes


def _lighter(config: Hyperparameters) -> str:
    if config.adapter is Adapter.FULL:
        return "Use adapter lora, a smaller model, or a shorter max_length."
    return "Use a smaller model, a shorter max_length, or a smaller batch_size."


def gigabytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB"
