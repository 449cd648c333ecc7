"""What goes wrong around a training is told with a code, a sentence and a hint, and survived where it can be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from service import Service, require_gapless, rows, running, until
from slm_client import ExperimentDetail

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("failures")) as found:
        found.upload(rows())
        found.base()
        yield found


def failed(service: Service, experiment: str, code: str) -> ExperimentDetail:
    ended = service.ended(experiment)
    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error.code == code
    for sentence in (ended.error.message, ended.error.hint):
        assert sentence.endswith(".")
        assert len(sentence) > 20
        assert "Traceback" not in sentence
    require_gapless(service, experiment)
    return ended


def stored(service: Service, dataset: str) -> Path:
    return next((service.folder / "uploads").glob(f"{dataset}_*"))


def test_data_removed_by_hand(service: Service) -> None:
    dataset = service.upload(rows(), name="removed")
    stored(service, dataset).unlink()
    ended = failed(service, service.experiment("removed", service.base(), dataset).id, "data_missing")
    assert ended.error is not None
    assert "removed" in ended.error.message
    assert ended.attempt == 1


def test_data_changed_by_hand(service: Service) -> None:
    dataset = service.upload(rows(), name="changed")
    with stored(service, dataset).open("a") as file:
        file.write('{"prompt": "sneaked", "completion": "in"}\n')
    failed(service, service.experiment("changed", service.base(), dataset).id, "data_changed")


def test_weights_cut_short(service: Service) -> None:
    base = service.base("qwen2")
    weights = service.models_dir / "tiny-qwen2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    dataset = service.client.datasets.list(q="tiny")[0].id
    failed(service, service.experiment("cut short", base, dataset).id, "weights_refused")


def test_a_loss_that_is_no_number(service: Service) -> None:
    """Weights that overflow: the first step already has no finite loss."""
    import torch
    from safetensors.torch import load_file, save_file

    base = service.base("gpt2")
    path = service.models_dir / "tiny-gpt2" / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if "ln_f" in name)
    tensors[name] = torch.full_like(tensors[name], float("inf"))
    save_file(tensors, path, metadata={"format": "pt"})
    dataset = service.client.datasets.list(q="tiny")[0].id
    failed(service, service.experiment("overflow", base, dataset).id, "loss_not_finite")


def test_nothing_to_learn(service: Service) -> None:
    long = "word " * 200
    dataset = service.upload([{"prompt": long, "completion": "x"} for _ in range(8)], name="too long")
    failed(service, service.experiment("nothing", service.base(), dataset).id, "nothing_to_learn")


def test_a_corrupt_checkpoint_is_passed_over(service: Service) -> None:
    dataset = service.client.datasets.list(q="tiny")[0].id
    experiment = service.experiment("corrupt", service.base(), dataset, epochs=6, save_steps=10).id
    until(lambda: service.reached(experiment, step=35), what="step 35")
    trainer = service.trainer(experiment)
    assert trainer is not None
    service.kill()
    trainer.kill()
    trainer.wait(10)
    checkpoints = sorted((service.directory(experiment) / "checkpoints").glob("step-*"))
    newest = checkpoints[-1]
    weights = next(newest.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-10])
    service.start()
    ended = service.ended(experiment)
    assert (ended.status, ended.attempt) == ("completed", 2)
    resumed = service.client.experiments.runs(experiment)[0].resumed_from_step
    assert resumed == int(re.sub(r"\D", "", checkpoints[-2].name))
    warned = [event for event in service.client.experiments.events(experiment, limit=1000) if event.type == "warned"]
    assert "checkpoint_corrupt" in {event.payload["code"] for event in warned}
    require_gapless(service, experiment)


def test_a_pull_without_a_network_fails_at_once_with_a_way_out(service: Service) -> None:
    model = service.client.models.register("Far away", hub="someone/model")
    run = service.client.runs.wait(service.client.models.pull(model.id).id, interval=0.1)
    assert run.state == "failed"
    assert run.error is not None
    assert run.error.code in ("offline", "hub_unreachable")
    assert run.error.hint


def test_the_service_is_reloaded_during_a_training_with_an_open_stream(tmp_path: Path) -> None:
    """`uvicorn --reload`, a touched source file: the training does not notice, the stream's reader comes back."""
    with running(tmp_path) as service:
        service.kill()
        package = tmp_path / "watched"
        package.mkdir()
        service.start("--reload", "--reload-dir", str(package))
        service.upload(rows())
        dataset = service.client.datasets.list(q="tiny")[0].id
        experiment = service.experiment("reloaded", service.base(), dataset, epochs=30).id
        until(lambda: service.reached(experiment, step=5), what="step 5")
        trainer = service.trainer(experiment)
        seen = []
        touched = False
        for event in service.client.experiments.follow(experiment, patience=60):
            seen.append(event.id)
            if not touched and event.type == "step":
                touched = True
                (package / "changed.py").write_text("x = 1\n")
        log = (tmp_path / "service.log").read_text()
        assert "Reloading" in log
        assert log.count("Started server process") >= 3
        assert seen == list(range(1, len(seen) + 1))
        ended = service.client.experiments.get(experiment)
        assert (ended.status, ended.attempt) == ("completed", 1)
        assert trainer is not None
        require_gapless(service, experiment)
