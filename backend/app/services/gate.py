"""What rows, labels, digests and formulas show of a training: refused with a sentence, or let through with a warning.

Instant by rule: no tokenizer, no pass over a file. Creation, plan and preview ask the same functions, so that what one
refuses the others refuse, in the same words. What needs tokens is found out by the run itself, in its first phase.
"""

from __future__ import annotations

from app.errors import FieldError, SpecRejected
from app.models import Dataset, Model
from app.services.references import base_kind
from slm.spec import ENCODER, METHOD_FACTS, DatasetKind, Method


def rejected(field: str, message: str) -> SpecRejected:
    return SpecRejected(f"{field}: {message}", errors=(FieldError(field, message),))


def require_base(base: Model, method: Method) -> None:
    """Raises `SpecRejected` for a base that cannot learn by the method."""
    if base_kind(base) in METHOD_FACTS[method].bases:
        return
    if base_kind(base) == ENCODER:
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
