"""The recording that pages are tested against says what the real service says: the same fields, of the same types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import recorded
from stage import Stage

pytestmark = pytest.mark.browser
FREE = {"statistics", "metadata", "source", "training_config", "mapping", "versions"}
FREE |= {"metrics", "base_metrics", "intervals"}
"""Objects whose keys depend on what was asked."""


def raw(stage: Stage, path: str, body: Any = None) -> Any:
    """An answer as it comes over the wire."""
    transport = stage.client._transport
    return transport.json("GET", path) if body is None else transport.json("POST", path, json=body)


def alike(ours: Any, real: Any, where: str) -> None:
    """Every field of the recording is one of the service's; where both have a value, it is of the same type."""
    if isinstance(ours, dict) and isinstance(real, dict):
        unknown = {*ours} - {*real}
        assert not unknown, f"{where}: the service does not send {sorted(unknown)}"
        for name in {*ours} - FREE:
            alike(ours[name], real[name], f"{where}.{name}")
    elif isinstance(ours, list) and isinstance(real, list):
        if ours and real:
            alike(ours[0], real[0], f"{where}[0]")
    elif ours is not None and real is not None:
        numbers = (int, float)
        same = isinstance(real, type(ours)) or (isinstance(ours, numbers) and isinstance(real, numbers))
        assert same, f"{where}: {ours!r} was recorded, {real!r} is sent"


def test_every_recorded_answer_is_one_of_the_service(stage: Stage, trained: Any) -> None:
    dataset, base = trained.training_dataset_id, trained.base_model_id
    evaluation = stage.client.evaluations.list(experiment_id=trained.id)[0].id
    preview = {"base_model_id": base, "limit": 1}
    pairs: list[tuple[Callable[..., Any], Any]] = [
        (recorded.dataset, raw(stage, f"/datasets/{dataset}")),
        (recorded.model, raw(stage, f"/models/{base}")),
        (recorded.experiment, raw(stage, f"/experiments/{trained.id}")),
        (recorded.run, raw(stage, f"/runs/{trained.run_id}")),
        (recorded.evaluation, raw(stage, f"/evaluations/{evaluation}")),
        (recorded.system, raw(stage, "/system")),
        (recorded.preview, raw(stage, f"/datasets/{dataset}/preview", preview)),
    ]
    for builder, real in pairs:
        alike(builder(), real, builder.__name__)
    row = raw(stage, f"/datasets/{dataset}/rows?limit=1")[0]
    alike({**recorded.row(), "example": None}, row, "row")
