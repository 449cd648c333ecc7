"""A plan that was measured, the training that follows, and both side by side in its evaluation; a preview by a fork."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from service import Service, rows, running, until
from slm_client import Invalid
from tiny_models import write_rows

from app.executors.local import LocalExecutor
from slm.spec import Method, ModelRef, PreviewSpec

pytestmark = pytest.mark.e2e
CONFIG: dict[str, Any] = {
    "max_length": 64, "batch_size": 4, "learning_rate": 1e-3, "generate_max_rows": 4, "max_new_tokens": 4, "epochs": 2,
    "early_stopping_patience": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("planned"), warm_process="true") as found:
        found.base()
        yield found


def test_a_measured_plan_foretells_its_training(service: Service) -> None:
    asked = {"base_model_id": service.base(), "training_dataset_id": service.upload(rows(80), name="eighty")}
    plan = service.client.experiments.plan(**asked, training_config=CONFIG, measure=True)
    assert plan.measured
    assert {plan.steps.basis, plan.tokens.basis, plan.seconds.basis, plan.memory_bytes.basis} == {"measured"}
    made = service.client.experiments.create("measured", **asked, training_config=CONFIG)
    assert made.plan is not None
    assert made.plan["cpu_seconds"] == plan.wire["cpu_seconds"]
    ended = service.ended(made.id)
    assert ended.status == "completed", ended.error
    evaluation = service.client.evaluations.get(service.client.evaluations.list(experiment_id=made.id)[0].id)
    planned, actual = evaluation.planned, evaluation.actual
    assert planned is not None
    assert actual is not None
    assert planned.keys() == actual.keys() == {"steps", "tokens", "seconds", "memory_bytes", "cpu_seconds"}
    assert (planned["steps"], planned["tokens"]) == (actual["steps"], actual["tokens"])
    assert planned["cpu_seconds"] == plan.cpu_seconds.value if plan.cpu_seconds else False
    assert all(value is not None and value > 0 for value in actual.values())


def test_nothing_to_learn_is_found_out_by_measuring_and_by_the_runs_first_phase(service: Service) -> None:
    """Every row is cut before its answer begins: only tokens show it."""
    dataset = service.upload([{"prompt": "word " * 200, "completion": "x"}] * 30, name="all cut")
    asked = {"base_model_id": service.base(), "training_dataset_id": dataset, "training_config": CONFIG}
    assert service.client.experiments.plan(**asked).steps.value > 0
    with pytest.raises(Invalid) as refused:
        service.client.experiments.plan(**asked, measure=True)
    assert refused.value.code == "nothing_to_learn"
    assert "Its prompt alone fills max_length (64 tokens)" in refused.value.detail
    ended = service.ended(service.client.experiments.create("all cut", **asked).id)
    assert ended.error is not None
    assert (ended.status, ended.error.code, ended.error.fault, ended.attempt) == (
        "failed",
        "nothing_to_learn",
        "user",
        1,
    )
    shown = service.client.datasets.preview(dataset, base_model_id=service.base(), max_length=64)
    assert shown.counts["examples"] == 0
    assert shown.warnings[-1] == "Nothing is left to learn: a training on these data would fail."


def test_a_preview_is_forked_from_the_warm_process_whoever_owns_it(service: Service, tmp_path: Path) -> None:
    """The service owns it; this process asks it all the same, as a second server process would."""
    until(lambda: (service.data_dir / "warm.sock").exists(), seconds=120, what="a warm process")
    spec = PreviewSpec(
        run_id="p", model=ModelRef(model_id="b", name="Tiny", path=str(service.models_dir / "tiny-llama")),
        method=Method.SFT, dataset=write_rows(tmp_path / "d.jsonl", rows(5)), max_length=64,
    )  # fmt: skip
    (tmp_path / "run.json").write_text(spec.model_dump_json())
    executor = LocalExecutor(service.data_dir)
    handle = executor.submit(tmp_path, attempt=1)
    assert handle["via"] == "warm"
    until(lambda: (tmp_path / "result.json").exists(), what="the answer")
    until(lambda: not executor.poll(tmp_path, handle), what="its end")


def test_an_asker_who_hangs_up_leaves_nothing_behind(service: Service) -> None:
    dataset = service.upload(rows(2000), name="many")
    body = {"base_model_id": service.base()}
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{service.url}/datasets/{dataset}/preview", json=body, timeout=0.3)
    until(lambda: not list((service.data_dir / "asks").glob("*/*")), seconds=30, what="the end of the question")
    assert service.client.health()["status"] == "healthy"
