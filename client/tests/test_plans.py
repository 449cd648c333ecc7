"""Previews and plans through the client: what the service refuses and what it answers, as a caller sees it."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from slm_client import Client, Conflict, Figure, Invalid, NotFound, Preview

PREVIEW = {
    "method": "sft",
    "max_length": 64,
    "base_model_id": "b",
    "counts": {"examples": 1, "tokens": 2, "learned_tokens": 1, "truncated": 0, "dropped": 0},
    "lengths": {"p50": 2, "p95": 2, "max": 2, "histogram": [{"from": 0, "to": 5, "count": 1}]},
    "warnings": ["It is short."],
    "examples": [
        {
            "line": 2,
            "pieces": [{"text": "a", "id": 1, "learned": False}, {"text": "b", "id": 2, "learned": True}],
            "cut": [],
            "cut_tokens": 0,
            "tokens": 2,
            "learned_tokens": 1,
            "truncated": False,
            "dropped": None,
            "label": None,
            "side": None,
        }
    ],
    "rows_read": 1,
    "rows_total": 1,
}


def test_a_preview_is_read_into_its_pieces() -> None:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200, json=PREVIEW)

    with Client(transport=httpx2.MockTransport(answer)) as client:
        found = client.datasets.preview("d/1", base_model_id="b", max_length=64, limit=1)
    assert isinstance(found, Preview)
    assert asked[0].url.raw_path == b"/datasets/d%2F1/preview"
    assert b'"limit":1' in asked[0].content.replace(b" ", b"")
    example = found.examples[0]
    assert [(piece.text, piece.learned) for piece in example.pieces] == [("a", False), ("b", True)]
    assert (found.counts["examples"], found.warnings, example.dropped) == (1, ["It is short."], None)


def test_what_cannot_be_previewed_is_told(client: Client, tickets: Path) -> None:
    dataset = client.datasets.upload(tickets)
    absent = client.models.list(model_type="base")[0]
    with pytest.raises(Conflict) as refused:
        client.datasets.preview(dataset.id, base_model_id=absent.id)
    assert refused.value.code == "weights_missing"
    assert "slm pull" in refused.value.detail
    with pytest.raises(NotFound):
        client.datasets.preview("nothing", base_model_id=absent.id)
    with pytest.raises(Invalid):
        client.datasets.preview(dataset.id, base_model_id=absent.id, method="classify")


def test_a_plan_is_what_would_be_created(client: Client, tickets: Path) -> None:
    dataset = client.datasets.upload(tickets)
    base = client.models.list(model_type="base")[0]
    config = {"epochs": 2, "batch_size": 4}
    found = client.experiments.plan(
        base_model_id=base.id, training_dataset_id=dataset.id, eval_dataset_id=dataset.id, training_config=config
    )
    assert (found.executor, found.simulated, found.method, found.measured) == ("simulation", True, "sft", False)
    assert found.steps == Figure(value=10, low=10, high=10, basis="formula")
    assert (found.tokens.low or 0) < found.tokens.value < (found.tokens.high or 0)
    assert found.training_config["epochs"] == 2
    assert found.reasons["learning_rate"].endswith(".")
    assert found.overlap is not None
    assert found.overlap["exact"] == 20
    made = client.experiments.create(
        "planned", base_model_id=base.id, training_dataset_id=dataset.id, eval_dataset_id=dataset.id,
        training_config=config,
    )  # fmt: skip
    assert made.plan is not None
    assert made.plan["steps"] == found.wire["steps"]
    with pytest.raises(Invalid) as refused:
        client.experiments.plan(base_model_id=base.id, training_dataset_id=dataset.id, training_config={"epoch": 1})
    assert "did you mean 'epochs'?" in refused.value.detail
