"""Exports as rows: what is refused at once and how, on which rows they will be compared, what is shown, what goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.config import Settings
from app.database import Database
from app.models import Artifact, Model, Run
from app.services import export as exports
from app.services import results
from slm.spec import WEIGHTS_MARKER, ExportSpec, HeldOut, Method, parse_spec

ROWS = b"".join(json.dumps({"prompt": f"{n}?", "completion": f"{n}."}).encode() + b"\n" for n in range(20))
CONFIG = {"method": "sft", "seed": 5, "max_length": 64, "eval_fraction": 0.25}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"supervise": False})


def written(client: TestClient, work: Any) -> Any:
    database: Database = client.app.state.database  # type: ignore[attr-defined]
    return database.write(work)


def model(client: TestClient, settings: Settings, *, config: dict[str, Any] | None = None, **changes: Any) -> str:
    """A tuned model and its base, whose weights are folders with nothing but a configuration."""
    architecture = changes.pop("architecture", "LlamaForCausalLM")
    kept = changes.pop("kept", "adapter")
    described = {"model_type": architecture.partition("For")[0].lower(), "architectures": [architecture]}
    for folder in (settings.models_dir / "base", settings.data_dir / "artifacts/one" / kept):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(described))
    (settings.models_dir / "base" / WEIGHTS_MARKER).write_text("{}")
    digests = changes.pop("digests", {})

    def insert(session: Any) -> str:
        base = Model(
            name="Base", model_type="base", architecture="transformer", parameters_count=1, weights_folder="base",
            weights_format="model",
        )  # fmt: skip
        session.add(base)
        session.flush()
        made = Model(
            name=changes.pop("name", "Tickets"), model_type="fine_tuned", architecture="transformer",
            parameters_count=1, base_model_id=base.id, weights_folder=f"artifacts/one/{kept}", weights_format=kept,
            details={"training_config": CONFIG | (config or {}), "dataset_digests": digests}, **changes,
        )  # fmt: skip
        session.add(made)
        session.flush()
        return str(made.id)

    return str(written(client, insert))


def asked(client: TestClient, model_id: str, format_: str = "safetensors") -> Any:
    return client.post(f"/models/{model_id}/exports", json={"format": format_})


def spec_of(client: TestClient, run_id: str) -> ExportSpec:
    with client.app.state.database.read() as session:  # type: ignore[attr-defined]
        spec = parse_spec(session.get(Run, run_id).spec)
    assert isinstance(spec, ExportSpec)
    return spec


def upload(client: TestClient, content: bytes = ROWS) -> dict[str, Any]:
    form = {"name": "Rows", "dataset_type": "training"}
    found: dict[str, Any] = client.post("/datasets/upload", data=form, files={"file": ("r.jsonl", content)}).json()
    return found


@pytest.mark.parametrize(
    ("changes", "format_", "status", "says"),
    [
        ({"kept": "model"}, "adapter", 422, "'Tickets' has whole weights and no adapter; export it as safetensors."),
        ({"config": {"method": "classify"}}, "gguf-f16", 422, "'Tickets' does not continue text"),
        ({"config": {"method": "mask"}}, "gguf-q8_0", 422, "'Tickets' does not continue text"),
        ({"architecture": "Qwen2ForCausalLM"}, "gguf-f16", 422, "'Tickets' is Qwen2ForCausalLM. Export it as safe"),
        ({"architecture": "LlamaForTokens"}, "gguf-f16", 422, "'Tickets' is LlamaForTokens."),
        ({"simulated": True}, "safetensors", 409, "came from a simulation and has no weights; train it for real"),
        ({"weights_folder": "artifacts/gone"}, "safetensors", 409, "the files of 'Tickets' are gone"),
    ],
)
def test_what_has_no_such_form_is_refused_at_once(
    client: TestClient, settings: Settings, changes: Any, format_: str, status: int, says: str
) -> None:
    folder = changes.pop("weights_folder", None) if "weights_folder" in changes else None
    identity = model(client, settings, **dict(changes))
    if folder is not None:
        written(client, lambda session: setattr(session.get(Model, identity), "weights_folder", folder))
    answer = asked(client, identity, format_)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["detail"]
    assert client.get(f"/models/{identity}/exports").json() == []


def test_weights_that_no_configuration_describes_are_left_to_the_run(client: TestClient, settings: Settings) -> None:
    identity = model(client, settings)
    (settings.models_dir / "base/config.json").write_text("{broken")
    assert asked(client, identity, "gguf-f16").status_code == 202


def test_it_is_compared_on_the_rows_that_its_training_held_out(client: TestClient, settings: Settings) -> None:
    data = upload(client)
    identity = model(client, settings, config={"packing": False}, digests={"training": data["sha256"]})
    spec = spec_of(client, asked(client, identity).json()["id"])
    assert spec.probe is not None
    assert spec.probe.dataset_id == data["id"]
    assert spec.held_out == HeldOut(fraction=0.25, seed=5, max_length=64, method=Method.SFT)
    assert Path(spec.model.adapters[0]).is_dir()


def test_it_is_compared_on_evaluation_rows_where_there_are_such(client: TestClient, settings: Settings) -> None:
    data, other = upload(client), upload(client, ROWS.replace(b"?", b"!"))
    digests = {"training": data["sha256"], "evaluation": other["sha256"]}
    spec = spec_of(client, asked(client, model(client, settings, digests=digests)).json()["id"])
    assert spec.probe is not None
    assert (spec.probe.dataset_id, spec.held_out) == (other["id"], None)


@pytest.mark.parametrize("digests", [{}, {"training": "0" * 64}])
def test_without_its_data_it_is_compared_on_what_is_built_in(
    client: TestClient, settings: Settings, digests: dict[str, str]
) -> None:
    spec = spec_of(client, asked(client, model(client, settings, digests=digests)).json()["id"])
    assert (spec.probe, spec.held_out) == (None, None)


def test_the_same_export_is_not_made_twice_at_once(client: TestClient, settings: Settings) -> None:
    identity = model(client, settings)
    first = asked(client, identity).json()["id"]
    again = asked(client, identity)
    assert (again.status_code, again.json()["code"]) == (409, "already_running")
    assert f"/runs/{first}" in again.json()["detail"]
    assert asked(client, identity, "adapter").status_code == 202
    client.post(f"/runs/{first}/cancel")
    written(client, lambda session: setattr(session.get(Run, first), "state", "cancelled"))
    assert asked(client, identity).status_code == 202


def test_one_in_the_making_stays_until_it_has_ended(client: TestClient, settings: Settings) -> None:
    identity = model(client, settings)
    run = asked(client, identity).json()["id"]
    refused = client.delete(f"/exports/{run}")
    assert (refused.status_code, refused.json()["code"]) == (409, "still_running")
    assert client.delete(f"/models/{identity}").status_code == 409
    written(client, lambda session: setattr(session.get(Run, run), "state", "failed"))
    assert client.delete(f"/exports/{run}").status_code == 204
    assert client.get(f"/models/{identity}/exports").json() == []
    assert client.delete("/exports/unknown").status_code == 404


def test_a_run_of_another_kind_is_no_export(client: TestClient, settings: Settings) -> None:
    data, identity = upload(client), model(client, settings)
    run = client.post(f"/models/{identity}/predictions", json={"dataset_id": data["id"]}).json()["id"]
    written(client, lambda session: setattr(session.get(Run, run), "state", "completed"))
    assert client.delete(f"/exports/{run}").status_code == 404
    assert client.get(f"/runs/{run}").status_code == 200


@pytest.mark.parametrize(
    ("state", "shown"),
    [("queued", "queued"), ("starting", "running"), ("running", "running"), ("interrupted", "running"),
     ("failed", "failed"), ("cancelled", "cancelled")],
)  # fmt: skip
def test_states_are_told_in_the_words_of_exports(
    client: TestClient, settings: Settings, state: str, shown: str
) -> None:
    identity = model(client, settings)
    run = asked(client, identity).json()["id"]
    written(client, lambda session: setattr(session.get(Run, run), "state", state))
    (found,) = client.get(f"/models/{identity}/exports").json()
    assert (found["id"], found["state"], found["files"], found["self_test"]) == (run, shown, [], None)


def test_a_finished_one_shows_its_files_the_weights_first(client: TestClient, settings: Settings) -> None:
    identity = model(client, settings)
    run_id = asked(client, identity, "gguf-f16").json()["id"]
    listed = [
        {"kind": "export", "path": f"artifacts/{name}", "size_bytes": size, "sha256": str(size) * 64}
        for name, size in (("Modelfile", 2), ("tickets-1.0.gguf", 9))
    ]
    self_test = {
        "checked": 3, "max_logit_difference": 0.0, "same_text": True, "same_top_token": 1.0, "loaders": ["x"],
        "template_equal": True, "stop_tokens_equal": True, "by_loader": {},
    }  # fmt: skip
    payload = {"artifacts": listed, "export": {"self_test": self_test}}

    def finish(session: Any) -> None:
        run = session.get(Run, run_id)
        run.state = "running"
        results.complete(session, run, payload)

    written(client, finish)
    (found,) = client.get(f"/models/{identity}/exports").json()
    assert [(file["name"], file["size_bytes"]) for file in found["files"]] == [
        ("tickets-1.0.gguf", 9),
        ("Modelfile", 2),
    ]
    assert (found["state"], found["size_bytes"], found["self_test"]["checked"]) == ("completed", 11, 3)
    assert client.get(f"/runs/{run_id}").json()["result"]["export"]["files"] == found["files"]
    assert client.delete(f"/exports/{run_id}").status_code == 204
    with client.app.state.database.read() as session:  # type: ignore[attr-defined]
        assert session.query(Artifact).count() == 0


@pytest.mark.parametrize(
    ("name", "version", "stem"),
    [
        ("Tickets", "1.0", "tickets-1.0"),
        ("../../etc/passwd", "1.0", "etc-passwd-1.0"),
        ("Größe & Maß", "2.0", "gr-e-ma-2.0"),
        ("数据", "1.0", "model-1.0"),
        ("a" * 300, "1.0", "a" * 80 + "-1.0"),
        ("x", "../..", "x"),
    ],
)
def test_file_names_are_harmless_everywhere(name: str, version: str, stem: str) -> None:
    assert exports.file_stem(Model(name=name, version=version)) == stem
