"""What is refused at creation is refused by the plan in the same words; what is unwise starts, with a warning."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tiny_models import base_folder, task_rows

from app.config import Settings
from app.errors import SpecRejected
from app.models import Dataset, Model
from app.services import gate, hardware, references
from slm import limits
from slm.limits import Groups
from slm.spec import Method

Rows = list[dict[str, Any]]
LABELLED: Rows = [{"text": f"text {n}", "label": "good" if n % 2 else "bad"} for n in range(40)]
OTHERS: Rows = [{"text": f"other {n}", "label": "up" if n % 2 else "down"} for n in range(10)]
ONE_LABEL: Rows = [{"text": f"text {n}", "label": "good"} for n in range(40)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(tmp_path_factory.mktemp("weights"))


class Platform:
    """A service with tiny weights, whose supervisor starts nothing."""

    def __init__(self, client: TestClient, settings: Settings, weights: Path) -> None:
        self.client, self.settings = client, settings
        shutil.copytree(weights, settings.models_dir / weights.name)
        self.base = client.post("/models", json={"name": "tiny", "source": {"folder": weights.name}}).json()["id"]
        self.absent = client.get("/models?model_type=base").json()[0]["id"]
        self.encoder = client.get("/models?model_type=base").json()[2]["id"]

    def upload(self, rows: Rows) -> str:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        form = {"name": "rows", "dataset_type": "training"}
        return str(self.client.post("/datasets/upload", files={"file": ("r.jsonl", content)}, data=form).json()["id"])

    def body(self, rows: Rows, held_out: Rows | None = None, **changes: Any) -> dict[str, Any]:
        found = {"base_model_id": self.base, "training_dataset_id": self.upload(rows), "training_config": {}}
        if held_out is not None:
            found["eval_dataset_id"] = self.upload(held_out)
        return found | changes

    def plan(self, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
        answer = self.client.post("/experiments/plan", json=body)
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def create(self, body: dict[str, Any], status: int = 201) -> dict[str, Any]:
        answer = self.client.post("/experiments", json={"name": "tried", **body})
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"supervise": False})


@pytest.fixture
def platform(client: TestClient, settings: Settings, weights: Path) -> Platform:
    return Platform(client, settings, weights)


Case = Callable[[Platform], dict[str, Any]]
REFUSED: dict[str, tuple[Case, int, str]] = {
    "data of another kind": (
        lambda p: p.body(LABELLED, training_config={"method": "sft"}),
        422, "training_dataset_id: 'rows' holds classification data; method sft learns from",
    ),
    "evaluation data of another kind": (
        lambda p: p.body(task_rows(20), LABELLED), 422, "eval_dataset_id: 'rows' holds",
    ),
    "columns nobody understands": (lambda p: p.body([{"one": "a", "two": "b"}]), 422, "cannot be interpreted yet"),
    "no usable row": (
        lambda p: p.body([{"prompt": "", "completion": "x"}] * 3),
        422, "none of the rows of 'rows' can be used",
    ),
    "a base that cannot": (
        lambda p: p.body(task_rows(20), training_config={"method": "mask"}), 422, "needs an encoder such as BERT",
    ),
    "one label": (lambda p: p.body(ONE_LABEL), 422, "all rows of 'rows' have the label 'good'; to classify takes"),
    "no label in common": (
        lambda p: p.body(LABELLED, OTHERS), 422, "('down', 'up') is among those of 'rows' ('bad', 'good')",
    ),
    "four bits without a GPU": (
        lambda p: p.body(task_rows(20), training_config={"adapter": "qlora"}),
        422, "training_config.adapter: qlora needs an NVIDIA GPU",
    ),
    "senseless figures": (lambda p: p.body(task_rows(20), training_config={"epochs": 0}), 422, "epochs"),
    "an unknown method": (lambda p: p.body(task_rows(20), training_config={"method": "magic"}), 422, "magic"),
    "an unknown key": (lambda p: p.body(task_rows(20), training_config={"epoch": 1}), 422, "did you mean 'epochs'?"),
    "absent weights, asked for": (
        lambda p: p.body(task_rows(20), base_model_id=p.absent, executor="local"), 409, "not on this machine",
    ),
    "no such base": (lambda p: p.body(task_rows(20), base_model_id="nobody"), 404, "Base model not found"),
    "no such data": (
        lambda p: p.body(task_rows(20), training_dataset_id="nothing"), 404, "Training dataset not found",
    ),
    "no probability": (
        lambda p: p.body(task_rows(9), executor="simulation", training_config={"simulated_failure_rate": 3}),
        422, "must be a number from 0 to 1",
    ),
}  # fmt: skip


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = replace(hardware.machine(), gpus=(), gpu_memory_bytes=None)
    monkeypatch.setattr(hardware, "machine", lambda: plain)


@pytest.mark.usefixtures("no_gpu")
def test_plan_and_creation_refuse_alike(platform: Platform) -> None:
    """A table of bad requests; each takes well under a second, for nothing is read or loaded."""
    for name, (case, status, says) in REFUSED.items():
        body = case(platform)
        began = time.process_time()
        planned, created = platform.plan(body, status), platform.create(body, status)
        assert time.process_time() - began < 1, name
        assert says in planned["detail"], name
        assert {**planned, "instance": ""} == {**created, "instance": ""}, name
    assert platform.client.get("/experiments").json() == []


def test_a_container_has_what_its_group_may_hold(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine of many gigabytes, of which the service may take 300 MB and half a core."""
    (tmp_path / "group").mkdir()
    for name, content in (("memory.max", "300000000"), ("cpu.max", "50000 100000")):
        (tmp_path / "group" / name).write_text(content)
    (tmp_path / "self").write_text("0::/\n")
    contained = Groups(tmp_path / "group", tmp_path / "self")
    monkeypatch.setattr(limits, "Groups", lambda: contained)
    monkeypatch.setattr(hardware, "machine", hardware.machine.__wrapped__)
    monkeypatch.setattr(hardware, "_gpus", tuple)
    refused = platform.create(platform.body(task_rows(30), training_config={"adapter": "full"}), 422)
    assert "this machine has 0.3 GB" in refused["detail"]
    shown = platform.client.get("/system").json()["hardware"]
    assert (shown["memory_bytes"], shown["usable_cores"]) == (300_000_000, 1)


def test_memory_far_beyond_the_machine_is_refused(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    small = replace(hardware.machine(), memory_bytes=300_000_000, gpus=(), gpu_memory_bytes=None)
    monkeypatch.setattr(hardware, "machine", lambda: small)
    body = platform.body(task_rows(30), training_config={"adapter": "full"})
    refused = platform.create(body, 422)
    assert "of memory and this machine has 0.3 GB. Use adapter lora" in refused["detail"]
    assert platform.plan(body, 422)["detail"] == refused["detail"]
    near = replace(small, memory_bytes=700_000_000)
    monkeypatch.setattr(hardware, "machine", lambda: near)
    warnings = platform.create(body)["warnings"]
    assert any("of memory would be needed and this machine has 0.7 GB" in warning for warning in warnings)


UNWISE: dict[str, tuple[Case, str]] = {
    "a rate far off": (
        lambda p: p.body(task_rows(30), training_config={"learning_rate": 0.5}),
        "learning_rate 0.5 is unusually high for sft with lora; 0.0002 is a good start.",
    ),
    "three rows": (lambda p: p.body(task_rows(3)), "3 rows are very few"),
    "the same file twice": (
        lambda p: p.body(task_rows(30), task_rows(30)), "The evaluation data are the training data",
    ),
    "labels never taught": (
        lambda p: p.body(LABELLED, [*LABELLED[:4], {"text": "new", "label": "odd"}]),
        "1 evaluation rows have labels that no training row has ('odd')",
    ),
    "faults": (lambda p: p.body([*task_rows(30), {"prompt": "x", "completion": ""}]), "1 of 31 training rows cannot"),
    "repeats": (lambda p: p.body(task_rows(10) * 4), "30 of 40 training rows repeat another one word for word."),
    "a long time": (
        lambda p: p.body(task_rows(30), training_config={"epochs": 1000, "batch_size": 1, "max_length": 8}),
        "This will take about",
    ),
    "packing": (
        lambda p: p.body(task_rows(30), training_config={"packing": True}), "packing is of method pretrain",
    ),
}  # fmt: skip


def test_the_merely_unwise_starts_with_the_warnings_of_its_plan(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slm.plan.LONG_SECONDS", 1e-4)
    for name, (case, says) in UNWISE.items():
        body = case(platform)
        planned, created = platform.plan(body), platform.create(body)
        assert any(says in warning for warning in created["warnings"]), (name, created["warnings"])
        assert set(created["warnings"]) <= set(planned["warnings"]), name
        assert created["executor"] == planned["executor"] == "local"


def test_what_clients_always_sent_is_still_accepted(platform: Platform) -> None:
    """Their defaults with any base and any data: nothing of it may become an error."""
    defaults = {"learning_rate": 0.001, "epochs": 10, "batch_size": 32}
    odd: Rows = [{"one": "a", "two": "b"}]
    for rows in (task_rows(5), LABELLED, ONE_LABEL, odd, [{"prompt": "", "completion": "x"}, {"prompt": "y"}]):
        for base in (platform.absent, platform.encoder):
            made = platform.create(platform.body(rows, base_model_id=base, training_config=defaults))
            assert (made["simulated"], made["warnings"]) == (True, [])
    for held_out in (OTHERS, odd):
        platform.create(platform.body(LABELLED, held_out, executor="simulation", training_config=defaults))


def test_a_classifier_has_lost_what_other_methods_need() -> None:
    """Its head was replaced; to classify goes on from it."""
    tuned = Model(name="Labels", details={"task": "causal", "training_config": {"method": "classify"}})
    assert references.method_of(tuned) is Method.CLASSIFY
    with pytest.raises(SpecRejected, match="was trained to classify and has lost the head that sft needs"):
        gate.require_base(tuned, Method.SFT, trained_by=references.method_of(tuned))
    gate.require_base(tuned, Method.CLASSIFY, trained_by=references.method_of(tuned))


def test_labels_that_were_not_all_listed_refuse_nothing() -> None:
    """Of ten thousand labels the inspection lists a hundred: nothing follows from those."""
    few = Dataset(name="few", statistics={"labels": {"a": 3, "b": 3}, "distinct_labels": 2})
    many = Dataset(name="many", statistics={"labels": {"x": 9}, "distinct_labels": 500})
    assert gate.labels_of(many) is None
    assert gate.labels_of(few) == {"a": 3, "b": 3}


@pytest.mark.parametrize(
    ("gpus", "memory", "reason"),
    [((), None, "needs an NVIDIA GPU"), (("H100",), 80 << 30, "bitsandbytes")],
)
def test_four_bits_say_what_they_lack(
    gpus: tuple[str, ...], memory: int | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "find_spec", lambda _name: None)
    machine = replace(hardware.machine(), gpus=gpus, gpu_memory_bytes=memory)
    assert reason in str(gate.no_qlora(machine))
    monkeypatch.setattr(gate, "find_spec", lambda _name: object())
    assert (gate.no_qlora(machine) is None) == bool(gpus)


def test_from_scratch_no_weights_are_needed(platform: Platform) -> None:
    """Of a base whose architecture is known; what is not from scratch is simulated as ever."""
    texts = [{"text": f"{row['prompt']} {row['completion']}"} for row in task_rows(40)]
    scratch = {"method": "pretrain", "from_scratch": True}
    absent = {"base_model_id": platform.absent}
    found = platform.create(platform.body(texts, training_config=scratch, **absent))
    assert (found["executor"], found["simulated"]) == ("local", False)
    assert found["executor_reason"] == "Trains on this machine: what begins from scratch needs no weights."
    assert (
        platform.plan(platform.body(texts, training_config=scratch, executor="local", **absent))["executor"] == "local"
    )
    plain = platform.plan(platform.body(texts, training_config={"method": "pretrain"}, **absent))
    assert (plain["executor"], plain["simulated"]) == ("simulation", True)
    unknown = platform.client.post("/models", json={"name": "unknown", "source": {"hub": "somebody/something"}}).json()
    body = platform.body(texts, training_config=scratch, base_model_id=unknown["id"])
    assert platform.plan(body)["executor"] == "simulation", "nothing tells its architecture yet"
