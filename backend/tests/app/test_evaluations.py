"""Evaluations over HTTP: what may be scored, what is listed, and that deleting one leaves nothing of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from app.config import Settings
from app.models import Artifact, Dataset, Evaluation, Experiment, Model, Run
from app.models.columns import new_id, utcnow
from app.services import results, scoring
from slm.spec import WEIGHTS_MARKER, EvaluateSpec

PAIRS = '{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n'
LABELS = '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n'
Write = Callable[[Callable[[Session], Any]], Any]


@pytest.fixture
def write(client: TestClient) -> Write:
    found: Write = client.app.state.database.write  # type: ignore[attr-defined]
    client.app.state.supervisor.stop()  # type: ignore[attr-defined]
    return found


def upload(client: TestClient, content: str, name: str = "data") -> str:
    answer = client.post(
        "/datasets/upload",
        files={"file": (f"{name}.jsonl", content)},
        data={"name": name, "dataset_type": "evaluation"},
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def base(write: Write, settings: Settings, name: str = "Tiny", *, task: str = "causal", present: bool = True) -> str:
    """A base model of the registry, with or without weights."""
    folder = settings.models_dir / name
    if present:
        folder.mkdir(parents=True)
        (folder / WEIGHTS_MARKER).write_text("{}")
    model = Model(
        id=new_id(), name=name, model_type="base", architecture="transformer", parameters_count=1,
        details={"task": task}, weights_folder=name, weights_format="model",
    )  # fmt: skip
    write(lambda session: session.add(model))
    return str(model.id)


def tuned(write: Write, settings: Settings, base_id: str, method: str = "sft", **fields: Any) -> str:
    """A fine-tuned model with an adapter on the disk."""
    folder = f"artifacts/{new_id()}/adapter"
    (settings.data_dir / folder).mkdir(parents=True)
    details = {"training_config": {"method": method, "max_length": 77, "generate_max_rows": 3, "seed": 9}}
    model = Model(
        **{
            "id": new_id(), "name": "Tuned", "model_type": "fine_tuned", "architecture": "transformer",
            "parameters_count": 1, "base_model_id": base_id, "details": details, "weights_folder": folder,
            "weights_format": "adapter", **fields,
        }
    )  # fmt: skip
    write(lambda session: session.add(model))
    return str(model.id)


def ask(client: TestClient, model_id: str, dataset_id: str) -> Any:
    return client.post("/evaluations", json={"model_id": model_id, "dataset_id": dataset_id})


def spec_of(write: Write, run_id: str) -> EvaluateSpec:
    return EvaluateSpec.model_validate(write(lambda session: session.get(Run, run_id).spec))


def test_a_fine_tuned_model_is_scored_beside_its_base(client: TestClient, write: Write, settings: Settings) -> None:
    training, held_out = upload(client, PAIRS, "training"), upload(client, PAIRS + PAIRS, "held-out")
    digest = write(lambda session: session.get(Dataset, training).sha256)
    base_id = base(write, settings)
    details = {"training_config": {"method": "sft", "max_length": 77, "generate_max_rows": 3, "seed": 9},
               "dataset_digests": {"training": digest}}  # fmt: skip
    model_id = tuned(write, settings, base_id, details=details)
    answer = ask(client, model_id, held_out)
    assert answer.status_code == 202, answer.text
    run = answer.json()
    assert (run["task"], run["state"], run["model_id"], run["result"]) == ("evaluate", "queued", model_id, None)
    assert answer.headers["location"] == f"/runs/{run['id']}"
    spec = spec_of(write, run["id"])
    assert spec.base is not None
    assert spec.train is not None
    assert (spec.model.path, spec.base.path) == (str(settings.models_dir.resolve() / "Tiny"),) * 2
    assert (len(spec.model.adapters), len(spec.base.adapters)) == (1, 0)
    assert spec.train.dataset_id == training
    assert (spec.scoring.max_length, spec.scoring.generate_max_rows, spec.scoring.seed) == (77, 3, 9)
    cancelled = client.post(f"/runs/{run['id']}/cancel")
    assert cancelled.json()["state"] == "cancelled"


def test_adapters_on_adapters_are_scored_beside_the_one_below(
    client: TestClient, write: Write, settings: Settings
) -> None:
    first = tuned(write, settings, base(write, settings))
    second = tuned(write, settings, first)
    run = ask(client, second, upload(client, PAIRS)).json()
    spec = spec_of(write, run["id"])
    assert spec.base is not None
    assert spec.base.adapters == spec.model.adapters[:1]
    assert len(spec.model.adapters) == 2
    assert spec.train is None


def test_a_base_is_scored_by_itself_as_the_data_suggest(client: TestClient, write: Write, settings: Settings) -> None:
    encoder = base(write, settings, "Encoder", task="encoder")
    run = ask(client, encoder, upload(client, '{"text": "a"}\n')).json()
    spec = spec_of(write, run["id"])
    assert (spec.method.value, spec.base) == ("mask", None)


def test_what_was_learned_from_nothing_has_nothing_to_compare(
    client: TestClient, write: Write, settings: Settings
) -> None:
    """Its tokens are its own; the base whose shape it took cannot read them."""
    details = {"training_config": {"method": "pretrain", "from_scratch": True}}
    model = tuned(write, settings, base(write, settings, present=False), details=details, weights_format="model")
    run = ask(client, model, upload(client, '{"text": "a"}\n')).json()
    assert spec_of(write, run["id"]).base is None


@pytest.mark.parametrize(
    ("method", "content", "words"),
    [
        ("sft", LABELS, "holds classification data"),
        ("classify", PAIRS, "holds prompt_completion data"),
        ("sft", '{"a": 1, "b": 2}\n', "cannot be interpreted yet"),
        ("sft", '{"prompt": "", "completion": ""}\n{"prompt": "", "completion": "x"}\n', "can be used"),
    ],
)
def test_data_that_do_not_suit_the_method_are_refused(
    client: TestClient, write: Write, settings: Settings, method: str, content: str, words: str
) -> None:
    answer = ask(client, tuned(write, settings, base(write, settings), method), upload(client, content))
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert answer.json()["errors"][0]["field"] == "dataset_id"


@pytest.mark.parametrize(
    ("task", "content", "words"),
    [
        ("causal", LABELS, "knows no labels yet"),
        ("encoder", PAIRS, "is an encoder"),
    ],
)
def test_what_an_untrained_base_cannot_be_asked(
    client: TestClient, write: Write, settings: Settings, task: str, content: str, words: str
) -> None:
    answer = ask(client, base(write, settings, task=task), upload(client, content))
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert answer.json()["errors"][0]["field"] == "model_id"


def test_models_without_weights_are_refused_with_the_remedy(
    client: TestClient, write: Write, settings: Settings
) -> None:
    data = upload(client, PAIRS)
    absent = base(write, settings, present=False)
    answer = ask(client, absent, data)
    assert (answer.status_code, answer.json()["code"]) == (409, "weights_missing")
    assert f"POST /models/{absent}/pull" in answer.json()["detail"]
    whole = tuned(write, settings, absent, weights_format="model")
    answer = ask(client, whole, data)
    assert answer.status_code == 409, "what it is compared with has to be here too"
    simulated = tuned(write, settings, absent, simulated=True)
    answer = ask(client, simulated, data)
    assert (answer.status_code, answer.json()["code"]) == (409, "simulated")
    assert "simulation" in answer.json()["detail"]


def test_unknown_ids_and_keys(client: TestClient, write: Write, settings: Settings) -> None:
    data, model = upload(client, PAIRS), base(write, settings)
    assert ask(client, "none", data).json()["detail"] == "Model not found"
    assert ask(client, model, "none").json()["detail"] == "Dataset not found"
    answer = client.post("/evaluations", json={"model_id": model, "dataset": data})
    assert answer.status_code == 422
    assert "did you mean 'dataset_id'?" in answer.json()["detail"]
    assert client.delete("/evaluations/none").status_code == 404


def test_data_and_model_stay_while_they_are_being_used(client: TestClient, write: Write, settings: Settings) -> None:
    data, model = upload(client, PAIRS), tuned(write, settings, base(write, settings))
    run = ask(client, model, data).json()
    for address in (f"/datasets/{data}", f"/models/{model}"):
        answer = client.delete(address)
        assert (answer.status_code, answer.json()["code"]) == (409, "still_referenced")
    client.post(f"/runs/{run['id']}/cancel")
    assert client.delete(f"/datasets/{data}").status_code == 204
    assert client.delete(f"/models/{model}").status_code == 204


CARD = {
    "metrics": {"loss": 1.0}, "base_metrics": {"loss": 2.0}, "intervals": {"loss": {"difference": [-1.5, -0.5]}},
    "baselines": {"unigram": {"note": "n", "metrics": {"loss": 3.0}, "intervals": {}, "differences": {}}},
    "metric_notes": {"loss": "Mean."}, "verdict": "The tuned model is better.", "method": "sft",
    "overlap": {"exact": 1, "normalised": 0, "near": 0, "rows": 2, "share": 0.5,
                "examples": [{"row": 1, "training_row": 1, "kind": "exact"}],
                "metrics_without": {"loss": 1.1}, "rows_without": 1},
    "per_class": None, "confusion": None, "rows_scored": 2, "rows_available": 2, "rows_generated": 0,
    "rows_chosen": "all", "planned": {"steps": 3}, "actual": {"steps": 3},
}  # fmt: skip


def finished(write: Write, settings: Settings, model_id: str, dataset_id: str, text: str) -> str:
    """An evaluation as its run leaves it: files, rows, events; returns its id."""

    def end(session: Session) -> str:
        run = scoring.prepare(session, model_id=model_id, dataset_id=dataset_id, settings=settings)
        run.state = "running"
        session.add(run)
        session.flush()
        left = settings.data_dir / "runs" / run.directory / "artifacts"
        left.mkdir(parents=True)
        (left / "samples.jsonl").write_text(json.dumps({
            "row": 1, "prompt": text, "expected": None, "tuned_output": None, "scores": {"tuned": {"loss": 1.0}}
        }))  # fmt: skip
        (left / "evaluation.json").write_text("{}")
        listed = [
            {"kind": kind, "path": f"artifacts/{name}", "size_bytes": 1, "sha256": "0" * 64}
            for kind, name in (("samples", "samples.jsonl"), ("evaluation", "evaluation.json"))
        ]
        results.store_artifacts(settings.data_dir, run)
        results.complete(session, run, {"artifacts": listed, "evaluation": CARD})
        assert run.result is not None
        return str(run.result["evaluation_id"])

    return str(write(end))


def test_an_evaluation_shows_all_of_its_scorecard(client: TestClient, write: Write, settings: Settings) -> None:
    model, data = tuned(write, settings, base(write, settings)), upload(client, PAIRS)
    identity = finished(write, settings, model, data, "asked")
    found = client.get(f"/evaluations/{identity}").json()
    for key in CARD.keys() - {"overlap"}:
        assert found[key] == CARD[key], key
    assert found["overlap"] | CARD["overlap"] == found["overlap"]  # type: ignore[operator]
    assert (found["model_id"], found["dataset_id"], found["experiment_id"]) == (model, data, "")
    assert found["loss_curve"] == {"epochs": [], "train_loss": [], "val_loss": []}
    assert found["training_statistics"] == {}
    (sample,) = client.get(f"/evaluations/{identity}/samples").json()
    assert (sample["prompt"], sample["base_output"]) == ("asked", None)
    assert client.get(f"/evaluations/{identity}/samples?offset=1").json() == []
    run = client.get(f"/runs/{found['run_id']}").json()
    assert run["result"] == {"evaluation_id": identity}
    assert identity in client.get(f"/models/{model}").json()["linked_evaluations"]


def test_an_evaluation_without_held_out_rows_is_shown(client: TestClient, write: Write, settings: Settings) -> None:
    model, data = tuned(write, settings, base(write, settings)), upload(client, PAIRS)
    curve = {"epochs": [1], "train_loss": [2.0], "val_loss": [None]}
    row = Evaluation(id=new_id(), model_id=model, dataset_id=data, metrics={}, loss_curve=curve,
                     training_statistics={"final_val_loss": None}, details={"verdict": "Nothing."})  # fmt: skip
    write(lambda session: session.add(row))
    found = client.get(f"/evaluations/{row.id}")
    assert found.status_code == 200, found.text
    assert found.json()["loss_curve"] == curve
    assert client.get(f"/evaluations/{row.id}/samples").json() == []


def test_each_evaluation_has_its_own_samples(client: TestClient, write: Write, settings: Settings) -> None:
    model, data = tuned(write, settings, base(write, settings)), upload(client, PAIRS)
    made = {text: finished(write, settings, model, data, text) for text in ("first", "second")}
    for text, identity in made.items():
        assert [row["prompt"] for row in client.get(f"/evaluations/{identity}/samples").json()] == [text]


def experiment(write: Write, base_id: str, dataset_id: str) -> str:
    row = Experiment(
        id=new_id(), name="E", base_model_id=base_id, training_dataset_id=dataset_id, training_config={},
        requested_config={}, executor="local", executor_reason="", simulated=False, method="sft", adapter="lora",
        seed=1, status="completed",
    )  # fmt: skip
    write(lambda session: session.add(row))
    return str(row.id)


def test_the_list_holds_what_belongs_to_experiments(client: TestClient, write: Write, settings: Settings) -> None:
    data, base_id = upload(client, PAIRS), base(write, settings)
    owner = experiment(write, base_id, data)
    model = tuned(write, settings, base_id, experiment_id=owner)
    alone = finished(write, settings, model, data, "x")
    own = Evaluation(id=new_id(), experiment_id=owner, model_id=model, dataset_id=data, metrics={}, loss_curve={},
                     training_statistics={})  # fmt: skip
    write(lambda session: session.add(own))

    def listed(**params: str) -> set[str]:
        rows = client.get("/evaluations", params=params).json()
        assert all(row["experiment_id"] == owner for row in rows)
        return {row["id"] for row in rows}

    assert listed() == listed(experiment_id=owner) == {own.id}
    assert listed(model_id=model) == listed(dataset_id=data) == {own.id, alone}
    assert client.get(f"/evaluations/{own.id}").json()["run_id"] is None
    assert client.delete(f"/experiments/{owner}").status_code == 204
    (row,) = client.get("/evaluations", params={"model_id": model}).json()
    assert (row["id"], row["experiment_id"]) == (alone, "")


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_deleting_an_evaluation_leaves_nothing_of_it(client: TestClient, write: Write, settings: Settings) -> None:
    model, data = tuned(write, settings, base(write, settings)), upload(client, PAIRS)
    before = files(settings.data_dir)
    identity = finished(write, settings, model, data, "x")
    run_id = client.get(f"/evaluations/{identity}").json()["run_id"]
    assert client.delete(f"/datasets/{data}").status_code == 409
    assert client.delete(f"/evaluations/{identity}").status_code == 204
    assert client.get(f"/evaluations/{identity}").status_code == 404
    assert client.get(f"/runs/{run_id}").status_code == 404
    assert files(settings.data_dir) == before
    assert write(lambda session: session.query(Artifact).count()) == 0
    assert not (settings.data_dir / "runs" / run_id).exists()
    assert client.delete(f"/datasets/{data}").status_code == 204


def test_deleting_a_trainings_evaluation_keeps_the_weights(
    client: TestClient, write: Write, settings: Settings
) -> None:
    data, base_id = upload(client, PAIRS), base(write, settings)
    owner = experiment(write, base_id, data)
    model = tuned(write, settings, base_id)
    run = Run(id=new_id(), task="train", experiment_id=owner, attempt=1, executor="local", directory=owner, spec={},
              lease_until=utcnow(), state="completed")  # fmt: skip
    folder = settings.data_dir / "artifacts" / run.id
    folder.mkdir(parents=True)
    for name in ("samples.jsonl", "evaluation.json", "weights"):
        (folder / name).write_text("{}")
    artifacts = [
        Artifact(run_id=run.id, model_id=model, kind=kind, path=f"artifacts/{run.id}/{name}", size_bytes=1, sha256="0")
        for kind, name in (("samples", "samples.jsonl"), ("evaluation", "evaluation.json"), ("adapter", "weights"))
    ]
    row = Evaluation(id=new_id(), experiment_id=owner, run_id=run.id, model_id=model, dataset_id=data, metrics={},
                     loss_curve={}, training_statistics={})  # fmt: skip

    def add(session: Session) -> None:
        session.add(run)
        session.flush()
        session.add_all([*artifacts, row])

    write(add)
    assert client.delete(f"/evaluations/{row.id}").status_code == 204
    assert files(folder) == ["weights"]
    assert client.get(f"/runs/{run.id}").status_code == 200


def test_a_models_evaluations_go_with_it(client: TestClient, write: Write, settings: Settings) -> None:
    model, data = tuned(write, settings, base(write, settings)), upload(client, PAIRS)
    identity = finished(write, settings, model, data, "x")
    assert client.delete(f"/models/{model}").status_code == 204
    assert client.get(f"/evaluations/{identity}").status_code == 404
    assert files(settings.data_dir / "artifacts") == []
    assert files(settings.data_dir / "runs") == []
