"""What a card says about loading is run as it stands: it gives the very model that the service speaks with."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service import Service, rows, running
from slm_client import ModelDetail
from tiny_models import ANIMALS, encoder_folder, label_rows

from slm.checkpoints import load_base
from slm.methods import METHODS
from slm.spec import Method, ModelRef

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("cards")) as started:
        started.models_dir.mkdir(exist_ok=True)
        encoder_folder(started.models_dir, layers=1)
        yield started


def train(service: Service, name: str, base: str, dataset: str, **config: Any) -> ModelDetail:
    made = service.experiment(name, base, dataset, max_steps=2, learning_rate=5e-3, **config)
    ended = service.ended(made.id)
    assert ended.status == "completed", ended.error
    return service.client.models.get(ended.resulting_model_id or "")


def unpacked(service: Service, model: ModelDetail, format_: str, folder: Path) -> Path:
    """The export's one folder, its card inside."""
    client = service.client
    run = client.runs.wait(client.models.export(model.id, format_).id, interval=0.1)
    assert run.state == "completed", run.error
    (file,) = next(made for made in client.models.exports(model.id) if made.id == run.id).files
    with zipfile.ZipFile(client.artifacts.download(file.artifact_id, folder / file.name)) as archive:
        archive.extractall(folder / format_)
    (made,) = (folder / format_).iterdir()
    return made


def as_told(folder: Path, *, base: Path | None = None) -> Any:
    """The model that the card in a folder says how to load; nothing but the two places is put in."""
    (program,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.S)
    assert "FOLDER" in program
    assert ("BASE" in program) == (base is not None)
    names: dict[str, Any] = {}
    with warnings.catch_warnings():  # PEFT asks the model by a name that transformers is about to retire
        warnings.simplefilter("ignore", FutureWarning)
        exec(program.replace("FOLDER", str(folder)).replace("BASE", str(base)), names)
    assert len(names["tokenizer"]) > 10
    return names["model"].eval()


def answers(model: Any) -> Any:
    import torch

    ids = torch.arange(5, 25).reshape(2, 10)
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def kept(service: Service, model: ModelDetail, base: Path, *earlier: ModelDetail) -> Any:
    """The model as the service itself loads it."""
    folders = [str((part.metadata or {})["weights_path"]) for part in (*earlier, model)]
    method = Method((model.metadata or {})["method"])
    reference = ModelRef(model_id="m", name="m", path=str(base), adapters=tuple(folders), method=method)
    return load_base(reference, Path(), model_class=METHODS[method].MODEL_CLASS).eval()


def require_alike(service: Service, model: ModelDetail, base: Path, folder: Path, *earlier: ModelDetail) -> Any:
    """Adapter and merged model, loaded as their cards say, answer as the service's own; returns the first."""
    import torch

    expected = answers(kept(service, model, base, *earlier))
    adapter = as_told(unpacked(service, model, "adapter", folder), base=base)
    merged = as_told(unpacked(service, model, "safetensors", folder))
    for loaded in (adapter, merged):
        torch.testing.assert_close(answers(loaded), expected, atol=1e-4, rtol=1e-4)
        assert loaded.config.id2label == merged.config.id2label
    return adapter


@pytest.mark.parametrize("architecture", ["bert", "llama"])
def test_a_classifier_comes_with_its_labels(service: Service, tmp_path: Path, architecture: str) -> None:
    """Three of them, where a base would be given two."""
    if architecture == "bert":
        base = service.client.models.register("tiny-bert", folder="tiny-bert").id
    else:
        base = service.base()
    dataset = service.upload(label_rows(48), f"labels for {architecture}")
    model = train(service, f"Labels {architecture}", base, dataset, method="classify")
    assert len(ANIMALS) == 3
    loaded = require_alike(service, model, service.models_dir / f"tiny-{architecture}", tmp_path)
    assert set(loaded.config.id2label.values()) == set(ANIMALS)
    assert answers(loaded).shape[-1] == 3


def test_what_fills_gaps_does_so(service: Service, tmp_path: Path) -> None:
    client = service.client
    base = client.models.register("tiny-bert for gaps", folder="tiny-bert").id
    assert client.runs.wait(client.models.pull(base).id, interval=0.1).state == "completed"  # which finds an encoder
    dataset = service.upload([{"text": row["text"]} for row in label_rows(32)], "texts")
    model = train(service, "Gaps", base, dataset, method="mask", adapter="lora")
    require_alike(service, model, service.models_dir / "tiny-bert", tmp_path)


def test_one_adapter_upon_another_needs_both(service: Service, tmp_path: Path) -> None:
    dataset = service.upload(rows(24), "speech")
    first = train(service, "First", service.base(), dataset)
    second = train(service, "Second", first.id, dataset)
    base = service.models_dir / "tiny-llama"
    card = service.client.models.card(second.id)
    assert 'for folder in ["FOLDER/earlier-1", "FOLDER"]:' in card
    require_alike(service, second, base, tmp_path, first)
    one_alone = answers(kept(service, second, base))
    assert (one_alone - answers(kept(service, second, base, first))).abs().max() > 1e-3


def test_an_adapter_upon_a_model_trained_in_full_names_that_one(service: Service, tmp_path: Path) -> None:
    """Its matrices belong to the weights that it was trained on, not to those of the first base."""
    dataset = service.upload(rows(24), "more speech")
    whole = train(service, "Whole", service.base(), dataset, adapter="full")
    model = train(service, "Upon it", whole.id, dataset)
    card = service.client.models.card(model.id)
    assert "upon Whole (its `safetensors` export, unpacked to `BASE`)" in card
    (tmp_path / "whole").mkdir()
    base = unpacked(service, whole, "safetensors", tmp_path / "whole")
    require_alike(service, model, base, tmp_path)
