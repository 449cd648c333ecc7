"""Cancel at every moment of a run's life: it ends `cancelled`, no process is left, and a checkpoint where asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from service import Service, require_gapless, rows, running, until

pytestmark = pytest.mark.e2e

ENDLESS = {"epochs": 500, "save_steps": 20}
EVALUATES_LONG = {"epochs": 1, "generate_max_rows": 64, "max_new_tokens": 180, "eval_fraction": 0.5}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("cancel")) as found:
        found.upload(rows())
        found.base()
        yield found


def create(service: Service, name: str, **config: object) -> str:
    dataset = service.client.datasets.list(q="tiny")[0].id
    base = next(model for model in service.client.models.list(model_type="base") if model.name == "tiny-llama")
    return service.experiment(name, base.id, dataset, **config).id


def phase(service: Service, experiment: str) -> str:
    """The phase that the log was in last."""
    told = [event["phase"] for event in service.log(experiment) if "phase" in event]
    return told[-1] if told else ""


def cancel(service: Service, experiment: str, *, save: bool) -> None:
    service.client.experiments.cancel(experiment, save=save)
    ended = service.ended(experiment, seconds=30)
    assert ended.status == "cancelled"
    until(lambda: not service.trainers(), seconds=10, what="the end of every process")
    assert ended.resulting_model_id is None
    assert service.client.evaluations.list(experiment_id=experiment) == []
    assert service.client.models.list(model_type="fine_tuned") == []
    folder = service.directory(experiment) / "checkpoints"
    assert [path.name for path in folder.glob(".tmp-*")] == []
    if service.log(experiment):
        require_gapless(service, experiment)


@pytest.mark.parametrize("save", [True, False])
@pytest.mark.parametrize("moment", ["loading", "training", "evaluating", "saving"])
def test_cancel_in_each_phase(service: Service, moment: str, save: bool) -> None:
    config = {"evaluating": EVALUATES_LONG, "saving": ENDLESS | {"save_steps": 1, "adapter": "full"}}.get(
        moment, ENDLESS
    )
    experiment = create(service, f"{moment} {save}", **config)
    reached: dict[str, Callable[[], bool]] = {
        "loading": lambda: service.trainer(experiment) is not None,
        "training": lambda: service.reached(experiment, step=30),
        "evaluating": lambda: phase(service, experiment) == "evaluating",
        "saving": lambda: service.reached(experiment, step=2) and phase(service, experiment) == "saving",
    }
    until(reached[moment], what=f"the moment ({moment})")
    cancel(service, experiment, save=save)
    kept = service.client.experiments.checkpoints(experiment)
    if moment == "training" and save:
        # It was saved where it stood, beyond the last regular checkpoint.
        last = max(int(event["step"]) for event in service.log(experiment) if event["type"] == "step")
        assert kept[0].step == last
    if moment == "training" and not save:
        # Only what was saved anyway: every 20 steps, and at the end of each epoch of 27.
        assert all(checkpoint.step % 20 == 0 or checkpoint.step % 27 == 0 for checkpoint in kept)


def test_cancel_while_queued_starts_nothing(service: Service) -> None:
    first = create(service, "first", **ENDLESS)
    waiting = create(service, "second", **ENDLESS)
    until(lambda: service.reached(first, step=1), what="the first training")
    found = service.client.experiments.get(waiting)
    assert (found.status, found.queue_position) == ("created", 1)
    service.client.experiments.cancel(waiting)
    assert service.ended(waiting).status == "cancelled"
    assert not service.directory(waiting).exists()
    assert service.client.experiments.get(first).status == "running"
    cancel(service, first, save=True)


def test_a_cancelled_training_resumes_from_what_was_kept(service: Service) -> None:
    experiment = create(service, "to be resumed", epochs=4, save_steps=1000)
    until(lambda: service.reached(experiment, step=10), what="step 10")
    cancel(service, experiment, save=True)
    kept = service.client.experiments.checkpoints(experiment)[0].step
    assert service.client.experiments.resume(experiment).attempt == 2
    ended = service.ended(experiment)
    assert ended.status == "completed"
    assert service.client.experiments.runs(experiment)[0].resumed_from_step == kept
    require_gapless(service, experiment)
    service.client.experiments.delete(experiment)
    service.client.models.delete(ended.resulting_model_id or "")
    assert not service.directory(experiment).exists()


def test_a_trainer_that_does_not_obey_is_ended_by_force(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("force"), cancel_grace_seconds=1) as service:
        service.upload(rows())
        service.base()
        experiment = create(service, "deaf", **ENDLESS)
        until(lambda: service.reached(experiment, step=5), what="step 5")
        trainer = service.trainer(experiment)
        assert trainer is not None
        trainer.suspend()
        service.client.experiments.cancel(experiment)
        assert service.ended(experiment, seconds=30).status == "cancelled"
        until(lambda: not service.trainers(), seconds=10, what="the end of every process")
