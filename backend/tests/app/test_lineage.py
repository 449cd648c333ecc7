"""Where a model comes from, as a graph of rows: every ancestor once, every part of a split, and what is gone since."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.models import Dataset, Evaluation, Experiment, Model, Run
from app.models.columns import utcnow

Rows = dict[str, Any]
SHARED: Rows = {"file_name": "r.csv", "file_format": "csv", "size_bytes": 1, "row_count": 9, "kind": "text"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"supervise": False})


def dataset(name: str, **changes: Any) -> Dataset:
    return Dataset(
        id=name, name=name.title(), stored_name=name,
        **SHARED | {"dataset_type": "training", "sha256": name.ljust(64, "0")} | changes,
    )  # fmt: skip


def tuned(name: str, base: str, experiment: str, **digests: str) -> Model:
    return Model(
        id=name, name=name.title(), model_type="fine_tuned", architecture="transformer", parameters_count=1,
        base_model_id=base, weights_folder=f"artifacts/{name}/adapter", weights_format="adapter",
        experiment_id=experiment,
        details={"training_config": {"method": "sft"}, "sha256": "f" * 64, "dataset_digests": digests},
    )  # fmt: skip


def experiment(name: str, base: str, training: str, evaluation: str | None = None) -> Experiment:
    return Experiment(
        id=name, name=name.title(), base_model_id=base, training_dataset_id=training, eval_dataset_id=evaluation,
        training_config={}, requested_config={}, executor="local", executor_reason="", simulated=False, method="sft",
        adapter="lora", seed=3, status="completed", run_id=f"{name}-2",
    )  # fmt: skip


def run(identity: str, task: str, **changes: Any) -> Run:
    return Run(
        id=identity, task=task, state="completed", executor="local", directory=identity, lease_until=utcnow(),
        **{"spec": {}} | changes,
    )  # fmt: skip


@pytest.fixture
def family(client: TestClient) -> None:
    """base → first → second; second learned from one part of a split and was judged by the other."""
    whole, drawn = dataset("whole"), {"dataset_id": "whole", "name": "Whole", "sha256": "whole".ljust(64, "0")}
    parts = [
        dataset("rest", origin=drawn | {"part": "rest"}),
        dataset("part", origin=drawn | {"part": "fraction"}, dataset_type="evaluation"),
        dataset("early"),
    ]
    base = Model(
        id="base", name="Base", model_type="base", architecture="transformer", parameters_count=1,
        details={"license": "mit", "weights_detail": {"sha256": "b" * 64}},
    )  # fmt: skip
    levels: list[list[Any]] = [
        [whole, *parts, base],
        [tuned("first", "base", "one", training="early".ljust(64, "0"))],
        [
            experiment("one", "base", "early"),
            experiment("two", "first", "rest", "part"),
            tuned("second", "first", "two", training="rest".ljust(64, "0"), evaluation="part".ljust(64, "0")),
        ],
        [
            run("one-2", "train", experiment_id="one"),
            run("two-1", "train", experiment_id="two"),
            run("two-2", "train", experiment_id="two", attempt=2),
            run("gguf", "export", model_id="second", spec={"format": "gguf-f16"}),
            run("answers", "predict", model_id="second"),
        ],
        [
            Evaluation(
                id="card", experiment_id="two", run_id="two-2", model_id="second", dataset_id="part",
                metrics={"loss": 1.0}, loss_curve={}, training_statistics={}, details={"verdict": "Better."},
            )
        ],
    ]  # fmt: skip

    def work(session: Any) -> None:
        for level in levels:
            session.add_all(level)
            session.flush()

    client.app.state.database.write(work)  # type: ignore[attr-defined]


def graph(client: TestClient, model: str) -> tuple[dict[str, Rows], set[tuple[str, str, str]]]:
    answer = client.get(f"/models/{model}/lineage")
    assert answer.status_code == 200, answer.text
    nodes, edges = answer.json()["nodes"], answer.json()["edges"]
    assert len({node["id"] for node in nodes}) == len(nodes), "no node twice"
    found = {(edge["source"], edge["target"], edge["label"]) for edge in edges}
    assert len(found) == len(edges), "no edge twice"
    assert {end for edge in found for end in edge[:2]} <= {node["id"] for node in nodes}
    return {node["id"]: node for node in nodes}, found


@pytest.mark.usefixtures("family")
def test_everything_that_led_to_a_model_and_came_of_it(client: TestClient) -> None:
    nodes, edges = graph(client, "second")
    assert edges == {
        ("base", "one", "is trained in"), ("early", "one", "is learned in"), ("one", "one-2", "ran as"),
        ("one-2", "first", "made"), ("first", "two", "is trained in"), ("rest", "two", "is learned in"),
        ("part", "two", "is scored in"), ("whole", "rest", "was split, rest"), ("whole", "part", "was split, fraction"),
        ("two", "two-2", "ran as"), ("two-2", "second", "made"), ("second", "card", "was scored in"),
        ("part", "card", "gave the rows"), ("second", "gguf", "was exported as"),
    }  # fmt: skip
    assert not any(node["missing"] for node in nodes.values())
    assert nodes["base"]["details"]["sha256"] == "b" * 64
    assert (nodes["base"]["details"]["license"], nodes["second"]["details"]["sha256"]) == ("mit", "f" * 64)
    assert nodes["two-2"]["details"] == {"state": "completed", "attempt": 2, "executor": "local"}
    assert (nodes["card"]["name"], nodes["card"]["details"]["verdict"]) == ("on Part", "Better.")
    assert nodes["rest"]["details"] == {"sha256": "rest".ljust(64, "0"), "rows": 9, "kind": "text"}


@pytest.mark.usefixtures("family")
def test_of_an_ancestor_what_came_later_is_not_told(client: TestClient) -> None:
    nodes, _ = graph(client, "first")
    assert set(nodes) == {"base", "one", "one-2", "early", "first"}
    assert set(graph(client, "base")[0]) == {"base"}
    assert client.get("/models/unknown/lineage").status_code == 404


@pytest.mark.usefixtures("family")
def test_what_is_gone_stays_as_far_as_it_is_known(client: TestClient) -> None:
    """The experiment goes with its runs and evaluations, then its data may go too; the digests stand in the model."""
    assert client.delete("/datasets/whole").status_code == 204
    assert client.delete("/experiments/two").status_code == 204
    for name in ("rest", "part"):
        assert client.delete(f"/datasets/{name}").status_code == 204
    nodes, edges = graph(client, "second")
    gone = {identity: node for identity, node in nodes.items() if node["missing"]}
    digests = {f"sha256:{name.ljust(64, '0')}": name for name in ("rest", "part")}
    assert set(gone) == {"two", *digests}
    assert all(gone[identity]["details"] == {"sha256": identity.removeprefix("sha256:")} for identity in digests)
    assert {edge[2] for edge in edges if edge[0] in digests} == {"is learned in", "is scored in"}
    assert ("two", "second", "made") in edges
    assert ("first", "two", "is trained in") in edges


@pytest.mark.usefixtures("family")
def test_a_part_remembers_what_it_was_split_from(client: TestClient) -> None:
    assert client.delete("/datasets/whole").status_code == 204
    nodes, edges = graph(client, "second")
    known = {"sha256": "whole".ljust(64, "0")}
    assert nodes["whole"] == {"id": "whole", "type": "dataset", "name": "Whole", "details": known, "missing": True}
    assert ("whole", "rest", "was split, rest") in edges


@pytest.mark.usefixtures("family")
def test_the_same_rows_uploaded_again_are_found_by_their_digest(client: TestClient) -> None:
    assert client.delete("/experiments/one").status_code == 204
    assert client.delete("/datasets/early").status_code == 204
    database = client.app.state.database  # type: ignore[attr-defined]
    database.write(lambda session: session.add(dataset("again", sha256="early".ljust(64, "0"))))
    nodes, edges = graph(client, "first")
    assert nodes["one"]["missing"]
    assert ("again", "one", "is learned in") in edges
    assert not nodes["again"]["missing"]
