"""Models that do not continue text leave too: classifiers with their labels, encoders as they are."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tiny_models import ANIMALS, base_folder, encoder_folder, events_of, label_rows, make_run, make_spec, write_rows

from slm import run
from slm.spec import DatasetKind, DatasetRef, ExportSpec, Method, ModelRef


def exported(
    folder: Path, reference: ModelRef, probe: DatasetRef | None, format_: str, code: int = run.FINISHED
) -> Path:
    directory = folder / f"export-{format_}"
    directory.mkdir()
    spec = ExportSpec.model_validate(
        {
            "run_id": "r", "attempt": 1, "model": reference, "format": format_, "file_stem": "m", "probe": probe,
            "threads": 1,
        }
    )  # fmt: skip
    (directory / "run.json").write_text(spec.model_dump_json())
    assert run.main(directory) == code, (directory / "events.jsonl").read_text()
    return directory


def figures(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = events_of(directory)[-1]["export"]["self_test"]
    return found


@pytest.mark.parametrize("architecture", ["bert", "llama"])
@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_classifier_leaves_with_its_labels(tmp_path: Path, architecture: str, adapter: str) -> None:
    base = encoder_folder(tmp_path, layers=1) if architecture == "bert" else base_folder(tmp_path, architecture)
    data = write_rows(tmp_path / "rows.jsonl", label_rows(48), DatasetKind.CLASSIFICATION)
    config = {"adapter": adapter, "learning_rate": 3e-3, "epochs": 1, "batch_size": 16}
    trained = make_run(tmp_path / "run", make_spec(base, data, **config))
    assert run.main(trained) == run.FINISHED
    if adapter == "lora":
        path, adapters = str(base), (str(trained / "artifacts/adapter"),)
    else:
        path, adapters = str(trained / "artifacts/model"), ()
    reference = ModelRef(model_id="m", name="Animals", path=path, adapters=adapters, method=Method.CLASSIFY)
    for format_ in ("safetensors", "adapter")[: 2 if adapter == "lora" else 1]:
        found = figures(exported(tmp_path, reference, data, format_))
        assert found["same_top_token"] == 1.0
        assert found["max_logit_difference"] < 1e-4
    with zipfile.ZipFile(tmp_path / "export-safetensors/artifacts/m-safetensors.zip") as archive:
        config_ = json.loads(archive.read("m/config.json"))
    assert set(config_["id2label"].values()) == set(ANIMALS)
    told = events_of(exported(tmp_path, reference, data, "gguf-f16", code=run.FAILED))[-1]
    assert told["code"] == "model_unsupported"


def test_an_encoder_leaves_as_it_is(tmp_path: Path) -> None:
    reference = ModelRef(model_id="m", name="Encoder", path=str(encoder_folder(tmp_path)))
    found = figures(exported(tmp_path, reference, None, "safetensors"))
    assert (found["same_top_token"], found["max_logit_difference"]) == (1.0, 0.0)
