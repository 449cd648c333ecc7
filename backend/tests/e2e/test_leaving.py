"""A model from training to export, its papers, its repetition, and its end without a trace: one real, tiny training."""

from __future__ import annotations

import getpass
import hashlib
import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service import BACKEND, Service, rows, running, until
from slm_client import Conflict, Invalid, ModelDetail, NotFound
from tiny_models import taught_folder

from slm.spec import WEIGHTS_MARKER

pytestmark = pytest.mark.e2e
FORMATS = ("adapter", "safetensors", "gguf-f16", "gguf-q8_0")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Names of this machine's places are unlikely words, so that a search for them means something."""
    with running(tmp_path_factory.mktemp("tell-tale-folder")) as started:
        yield started


def speaker(service: Service) -> str:
    """A base that has learned something already; returns its id."""
    (service.folder / "taught").mkdir()
    service.models_dir.mkdir(exist_ok=True)
    taught_folder(service.folder / "taught", "llama").rename(service.models_dir / "speaker")
    assert (service.models_dir / "speaker" / WEIGHTS_MARKER).is_file()
    return service.client.models.register("Speaker", folder="speaker").id


@pytest.fixture(scope="module")
def trained(service: Service) -> ModelDetail:
    """A LoRA of a tiny llama that can speak."""
    base = speaker(service)
    dataset = service.upload(rows(80), "animals")
    made = service.experiment("Animals & colours", base, dataset, epochs=3, learning_rate=4e-3, eval_fraction=0.2)
    ended = service.ended(made.id)
    assert ended.status == "completed", ended.error
    return service.client.models.get(ended.resulting_model_id or "")


def cli(service: Service, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app.cli", *words, "--url", service.url]
    return subprocess.run(command, cwd=BACKEND, env=service.environment(), capture_output=True, text=True, timeout=240)


def traces(service: Service, text: str) -> list[str]:
    """Words of this machine that stand in a text."""
    words = ["tell-tale-folder", str(service.folder), platform.node(), getpass.getuser()]
    return [word for word in words if re.search(rf"(?<![\w]){re.escape(word)}(?![\w])", text)]


@pytest.mark.parametrize("format_", FORMATS)
def test_every_form_leaves_and_proves_itself(
    service: Service, trained: ModelDetail, tmp_path: Path, format_: str
) -> None:
    client = service.client
    run = client.runs.wait(client.models.export(trained.id, format_).id, interval=0.1)
    assert run.state == "completed", run.error
    made = client.models.exports(trained.id)[0]
    assert run.result is not None
    assert run.result["export"] == made.wire
    assert (made.id, made.run_id, made.format, made.state) == (run.id, run.id, format_, "completed")
    assert made.self_test is not None
    assert made.self_test.checked > 20
    assert made.self_test.same_top_token >= (0.95 if format_ == "gguf-q8_0" else 0.99)
    assert made.self_test.template_equal
    assert made.self_test.stop_tokens_equal
    assert made.size_bytes == sum(file.size_bytes for file in made.files)
    for file in made.files:
        path = client.artifacts.download(file.artifact_id, tmp_path / file.name)
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
        if path.suffix in ("", ".md", ".jinja"):
            assert traces(service, path.read_text()) == []
    names = {file.name for file in made.files}
    if format_.startswith("gguf"):
        assert names == {"animals-colours-1.0.gguf", "Modelfile", "README.md", "chat_template.jinja"}
        assert (tmp_path / "Modelfile").read_text().startswith("FROM ./animals-colours-1.0.gguf\n")
        assert (tmp_path / "README.md").read_text().startswith("---\nlicense:")
    else:
        assert names == {f"animals-colours-1.0-{format_}.zip"}


def test_the_card_says_everything_and_nothing_of_this_machine(service: Service, trained: ModelDetail) -> None:
    client = service.client
    card = client.models.card(trained.id)
    experiment = client.experiments.get(trained.experiment_id or "")
    dataset = client.datasets.get(experiment.training_dataset_id)
    assert traces(service, card) == []
    assert card.startswith("---\nlicense: ")
    assert 'base_model: "Speaker"' in card
    assert "library_name: peft" in card
    assert "pipeline_tag: text-generation" in card
    assert f"| training | animals | prompt_completion | 80 | 0 | `{dataset.sha256}` |" in card
    for name, value in experiment.training_config.items():
        assert f"| `{name}` | {json.dumps(value)} |" in card
    (row,) = client.evaluations.list(model_id=trained.id)
    evaluation = client.evaluations.get(row.id)
    for metric in evaluation.metrics:
        assert f"| {metric} | " in card
    low, high = evaluation.intervals["loss"]["difference"]
    assert f"| {low:.4g} to {high:.4g} |" in card
    assert str(evaluation.verdict) in card
    assert "Baseline `few_shot`" in card
    for title in ("## Data", "## Method", "## Scorecard", "## Limits", "## Cost", "## How to load"):
        assert title in card
    assert "20% of the training rows were held out (seed 7)" in card


def test_lineage_leads_from_the_base_to_the_exports(service: Service, trained: ModelDetail) -> None:
    client = service.client
    client.runs.wait(client.models.export(trained.id, "adapter").id, interval=0.1)
    found = client.models.lineage(trained.id)
    kinds = {node.id: node.type for node in found.nodes}
    experiment = client.experiments.get(trained.experiment_id or "")
    edges = {(edge.source, edge.target) for edge in found.edges}
    assert {
        (experiment.base_model_id, experiment.id),
        (experiment.training_dataset_id, experiment.id),
        (experiment.id, experiment.run_id),
        (experiment.run_id, trained.id),
    } <= edges
    assert all(source in kinds and target in kinds for source, target in edges)
    assert {kinds[target] for source, target in edges if source == trained.id} == {"evaluation", "export"}
    data = next(node for node in found.nodes if node.id == experiment.training_dataset_id)
    assert data.details["sha256"] == client.datasets.get(data.id).sha256
    assert not any(node.missing for node in found.nodes)


def test_what_has_no_such_form_is_refused_at_once(service: Service, trained: ModelDetail) -> None:
    client = service.client
    with pytest.raises(Invalid, match="'Speaker' has whole weights and no adapter; export it as safetensors"):
        client.models.export(trained.base_model_id or "", "adapter")
    with pytest.raises(Invalid, match="GGUF is written for Llama models only; 'tiny-gpt2' is GPT2LMHeadModel"):
        client.models.export(service.base("gpt2"), "gguf-f16")
    with pytest.raises(Conflict, match="get them with POST"):
        client.models.export(client.models.list(model_type="base")[0].id, "safetensors")
    with pytest.raises(Invalid):
        client.models.export(trained.id, "onnx")
    with pytest.raises(NotFound):
        client.models.export("unknown", "adapter")


def test_a_base_can_leave_too(service: Service, trained: ModelDetail) -> None:
    client = service.client
    run = client.runs.wait(client.models.export(trained.base_model_id or "", "gguf-f16").id, interval=0.1)
    assert run.state == "completed", run.error


def test_the_same_again_is_identical(service: Service, trained: ModelDetail) -> None:
    client = service.client
    again = client.experiments.reproduce(trained.experiment_id or "")
    assert again.reproduction is not None
    assert (again.reproduction.of, again.reproduction.identical) == (trained.experiment_id, None)
    assert again.seed == 7
    ended = service.ended(again.id)
    assert ended.status == "completed", ended.error
    assert ended.reproduction is not None
    assert (ended.reproduction.identical, ended.reproduction.differences) == (True, [])
    assert service.weights(again.id) == service.weights(trained.experiment_id or "")


def test_the_command_line_exports_shows_the_card_and_repeats(
    service: Service, trained: ModelDetail, tmp_path: Path
) -> None:
    done = cli(service, "export", "Animals & colours", "--format", "gguf-q8_0", "--out", str(tmp_path / "out"))
    if done.returncode == 2:  # the repetition's model begins with the same name
        done = cli(service, "export", trained.id, "--format", "gguf-q8_0", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "Loaded again by transformers (GGUF) and xllamacpp: " in done.stdout
    assert (tmp_path / "out/animals-colours-1.0.gguf").is_file()
    done = cli(service, "card", trained.id, "--out", str(tmp_path / "README.md"))
    assert (tmp_path / "README.md").read_text() == service.client.models.card(trained.id)
    assert cli(service, "card", trained.id).stdout.startswith("---\nlicense:")
    done = cli(service, "reproduce", trained.experiment_id or "")
    assert done.returncode == 0, done.stderr
    assert "Identical: curve, weights and metrics are the same to the last bit." in done.stdout


def files(service: Service) -> set[str]:
    """Every file of runs, artifacts and uploads."""
    found: set[str] = set()
    for folder in (service.data_dir / "runs", service.data_dir / "artifacts", service.folder / "uploads"):
        if folder.is_dir():
            found |= {str(path) for path in folder.rglob("*")}
    return found


def test_deleting_everything_of_a_run_leaves_nothing_on_the_disk(tmp_path: Path) -> None:
    with running(tmp_path) as service:
        client = service.client
        base = speaker(service)
        dataset = service.upload(rows(80), "animals")
        (service.folder / "animals.jsonl").unlink()
        made = service.experiment("Animals", base, dataset, epochs=1, eval_fraction=0.2)
        model = service.ended(made.id).resulting_model_id or ""
        exports = [client.runs.wait(client.models.export(model, form).id, interval=0.1) for form in FORMATS[:3]]
        scored = client.runs.wait(client.evaluations.create(model, dataset).id, interval=0.1)
        assert {run.state for run in (*exports, scored)} == {"completed"}
        assert len(files(service)) > 30

        client.models.delete_export(exports[0].id)
        assert not [path for path in files(service) if exports[0].id in path]
        assert exports[0].id not in {found.id for found in client.models.exports(model)}
        with pytest.raises(Conflict, match="used by the experiment 'Animals'"):
            client.datasets.delete(dataset)
        with pytest.raises(Conflict, match="belongs to the experiment 'Animals'"):
            client.models.delete(model)
        client.experiments.delete(made.id)
        lineage = client.models.lineage(model)
        assert {node.type for node in lineage.nodes if node.missing} == {"experiment"}
        with pytest.raises(Conflict, match="used by 1 evaluation"):
            client.datasets.delete(dataset)
        client.models.delete(model)
        client.datasets.delete(dataset)
        client.models.delete(base)
        assert until(lambda: not files(service), seconds=10, what="an empty disk"), files(service)


def test_the_lineage_of_deleted_data_keeps_their_digest(service: Service, trained: ModelDetail) -> None:
    client = service.client
    dataset = service.upload(rows(40), "passing")
    digest = client.datasets.get(dataset).sha256
    made = service.experiment("Passing", trained.id, dataset, max_steps=1)
    ended: Any = service.ended(made.id)
    client.experiments.delete(made.id)
    client.datasets.delete(dataset)
    found = client.models.lineage(ended.resulting_model_id)
    gone = {node.id: node for node in found.nodes if node.missing}
    assert gone[f"sha256:{digest}"].details == {"sha256": digest}
    assert {node.type for node in gone.values()} == {"dataset", "experiment"}
    assert f"| training | (deleted since) | – | – | – | `{digest}` |" in client.models.card(ended.resulting_model_id)
    assert trained.id in {node.id for node in found.nodes}  # what it was trained upon, and what that was
