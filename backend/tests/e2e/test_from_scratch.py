"""A model made from nothing, on a machine that has no weights at all: trained, scored again, exported, repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
from service import running
from slm_client import Conflict
from tiny_models import WORDS

pytestmark = pytest.mark.e2e
TEXTS = [{"text": f"{a} and {b} and then {a} and {b} once more"} for a in WORDS for b in WORDS[:6]]


def test_the_base_lends_its_architecture_alone(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        client = service.client
        base = next(model for model in client.models.list() if model.name.startswith("SmolLM2"))
        dataset = service.upload(TEXTS, "texts")
        with pytest.raises(Conflict, match="cannot train for real"):
            service.experiment("Not so", base.id, dataset, method="pretrain")
        asked = {"method": "pretrain", "from_scratch": True, "max_steps": 4, "max_length": 48, "eval_fraction": 0.2}
        made = service.experiment("From nothing", base.id, dataset, **asked)
        ended = service.ended(made.id)
        assert ended.status == "completed", ended.error
        assert not any(service.models_dir.rglob("*.safetensors")), "nothing was fetched"

        model = ended.resulting_model_id or ""
        (first,) = client.evaluations.list(model_id=model)
        training = client.evaluations.get(first.id)
        done = client.runs.wait(client.evaluations.create(model, dataset).id, interval=0.1)
        assert done.state == "completed", done.error
        later = client.evaluations.get((done.result or {})["evaluation_id"])
        assert (training.rows_scored, later.rows_scored) == (14, 72)
        assert later.base_metrics == {}
        exported = client.runs.wait(client.models.export(model, "safetensors").id, interval=0.1)
        assert exported.state == "completed", exported.error

        again = service.ended(client.experiments.reproduce(made.id).id)
        assert again.status == "completed", again.error
        assert again.reproduction is not None
        assert (again.reproduction.identical, again.reproduction.differences) == (True, [])
        assert service.weights(again.id) == service.weights(made.id)
