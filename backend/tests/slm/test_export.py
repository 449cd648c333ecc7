"""Exports: what is written loads again as the same model, and what does not is never left behind."""

from __future__ import annotations

import dataclasses
import getpass
import json
import platform
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import WORDS, base_folder, events_of, make_run, make_spec, task_rows, taught_folder, write_rows

from slm import checkpoints, export, gguf_writer, run, selftest
from slm.events import CANCEL
from slm.methods import METHODS
from slm.spec import DatasetKind, DatasetRef, ExportSpec, HeldOut, Method, ModelRef
from slm.train import rows as training_rows

LORA: dict[str, Any] = {"epochs": 4, "learning_rate": 4e-3, "early_stopping_patience": None, "eval_fraction": 0.2}
CARD = "---\nlicense: apache-2.0\n---\n# Tickets\n"
Export = Callable[..., Path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModelRef, DatasetRef]:
    """A tiny llama that speaks, with an adapter that was trained on it, and the rows it learned."""
    folder = tmp_path_factory.mktemp("trained")
    base = taught_folder(folder, "llama")
    data = write_rows(folder / "rows.jsonl", task_rows(80))
    directory = make_run(folder / "lora", make_spec(base, data, **LORA))
    assert run.main(directory) == run.FINISHED
    adapter = str(directory / "artifacts/adapter")
    return ModelRef(model_id="m", name="Tickets", path=str(base), adapters=(adapter,)), data


@pytest.fixture
def exporting(tmp_path: Path, trained: tuple[ModelRef, DatasetRef]) -> Export:
    """Exports in this process; returns the run directory."""

    def exporting(format_: str, *, name: str = "export", code: int = run.FINISHED, **changes: Any) -> Path:
        reference, data = trained
        asked = {
            "run_id": "r", "attempt": 1, "model": reference, "format": format_, "file_stem": "tickets-1",
            "card": CARD, "probe": data, "held_out": HeldOut(fraction=0.2, seed=42, max_length=64), "threads": 1,
        } | changes  # fmt: skip
        directory = tmp_path / name
        directory.mkdir()
        (directory / "run.json").write_text(ExportSpec.model_validate(asked).model_dump_json())
        assert run.main(directory) == code, (directory / "events.jsonl").read_text()
        return directory

    return exporting


def figures(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = events_of(directory)[-1]["export"]["self_test"]
    return found


def failure(directory: Path) -> dict[str, Any]:
    """The last event of a run that failed, which left no file of the export."""
    left = {path.name for path in directory.rglob("*") if path.is_file()}
    assert not [name for name in left if name.endswith((".gguf", ".zip", ".safetensors", "Modelfile"))], left
    assert not (directory / "artifacts").exists()
    assert not list(directory.glob(".tmp-*"))
    return events_of(directory)[-1]


@pytest.mark.parametrize(
    ("format_", "files", "loaders"),
    [
        ("adapter", ["tickets-1-adapter.zip"], ["peft"]),
        ("safetensors", ["tickets-1-safetensors.zip"], ["transformers"]),
        ("gguf-f16", ["tickets-1.gguf", "Modelfile", "README.md", "chat_template.jinja"],
         ["transformers (GGUF)", "xllamacpp"]),
        ("gguf-q8_0", ["tickets-1.gguf", "Modelfile", "README.md", "chat_template.jinja"],
         ["transformers (GGUF)", "xllamacpp"]),
    ],
)  # fmt: skip
def test_an_export_loads_again_as_the_same_model(
    exporting: Export, format_: str, files: list[str], loaders: list[str]
) -> None:
    directory = exporting(format_)
    ended = events_of(directory)[-1]
    assert [Path(entry["path"]).name for entry in ended["artifacts"]] == files
    assert ended["export"]["format"] == format_
    found = figures(directory)
    assert found["loaders"] == loaders
    assert found["checked"] > 20
    assert found["same_top_token"] >= export.LEAST_SAME[format_]
    assert found["template_equal"]
    assert found["stop_tokens_equal"]
    assert found["max_logit_difference"] < {"gguf-f16": 0.1, "gguf-q8_0": 1.0}.get(format_, 1e-4)
    for entry in ended["artifacts"]:
        path = directory / entry["path"]
        assert (entry["kind"], entry["size_bytes"]) == ("export", path.stat().st_size)
    phases = [event["phase"] for event in events_of(directory) if event["type"] == "phase"]
    assert phases == ["loading", "comparing", "writing", "checking", "saving"]


@pytest.mark.parametrize("format_", ["adapter", "safetensors", "gguf-f16"])
def test_nothing_exported_names_this_machine(exporting: Export, tmp_path: Path, format_: str) -> None:
    directory = exporting(format_)
    paths = [str(tmp_path), str(tmp_path.parents[1]), f"/{getpass.getuser()}/", "/tmp/"]
    persons = re.compile(rf"\b(?:{re.escape(platform.node())}|{re.escape(getpass.getuser())})\b")
    for entry in events_of(directory)[-1]["artifacts"]:
        path = directory / entry["path"]
        contents = {path.name: path.read_bytes()}
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                contents = {member: archive.read(member) for member in archive.namelist()}
                assert any(member.endswith("README.md") for member in contents)
        for member, content in contents.items():
            for path_ in paths:
                assert path_.encode() not in content, (member, path_)
            if not member.endswith((".safetensors", ".gguf", "tokenizer.json")):
                assert not persons.search(content.decode()), member
            if member.endswith("README.md"):
                assert content.decode() == CARD


@pytest.mark.parametrize("format_", ["adapter", "safetensors", "gguf-q8_0"])
def test_the_same_model_gives_the_same_bytes(exporting: Export, format_: str) -> None:
    first, second = (events_of(exporting(format_, name=name))[-1]["artifacts"] for name in ("one", "two"))
    assert first == second


def test_a_merged_archive_is_what_transformers_loads(exporting: Export, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory = exporting("safetensors")
    with zipfile.ZipFile(directory / "artifacts/tickets-1-safetensors.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "unpacked/tickets-1", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "unpacked/tickets-1")
    reference = ExportSpec.model_validate_json((directory / "run.json").read_bytes()).model
    merged = checkpoints.load_base(reference, Path())
    asked = torch.tensor([tokenizer("red red red?")["input_ids"]])
    assert torch.equal(model(asked).logits, merged(asked).logits)


def test_an_adapter_upon_an_adapter_takes_the_earlier_one_along(
    exporting: Export, trained: tuple[ModelRef, DatasetRef]
) -> None:
    reference, _ = trained
    directory = exporting("adapter", model=reference.model_copy(update={"adapters": reference.adapters * 2}))
    with zipfile.ZipFile(directory / "artifacts/tickets-1-adapter.zip") as archive:
        names = set(archive.namelist())
    assert {"tickets-1/adapter_model.safetensors", "tickets-1/earlier-1/adapter_model.safetensors"} <= names
    assert figures(directory)["same_top_token"] == 1.0


LABELLED = [{"text": f"{word} {number}", "label": word[0]} for number in range(30) for word in WORDS[:6]]
PREFERRED = [row | {"chosen": row["completion"], "rejected": "no"} for row in task_rows(60)]
LONG = [{"text": f"{first} {second} {third} " * 9} for first in WORDS for second in WORDS[:3] for third in WORDS[:3]]


@pytest.mark.parametrize(
    ("method", "kind", "rows", "config"),
    [
        ("sft", DatasetKind.PROMPT_COMPLETION, task_rows(80), {}),
        ("dpo", DatasetKind.PREFERENCE, PREFERRED, {}),
        ("classify", DatasetKind.CLASSIFICATION, LABELLED, {}),
        ("pretrain", DatasetKind.TEXT, LONG, {}),
        ("pretrain", DatasetKind.TEXT, LONG, {"packing": True}),
        ("pretrain", DatasetKind.TEXT, LONG, {"from_scratch": True, "adapter": "full"}),
    ],
)
def test_rows_are_those_that_the_training_held_out(
    trained: tuple[ModelRef, DatasetRef], tmp_path: Path, method: str, kind: DatasetKind, rows: Any, config: Any
) -> None:
    """Long texts that begin alike stay on one side, labels keep their shares: each method parts rows in its own way."""
    reference, _ = trained
    length = 24 if method == "pretrain" else 64
    data = write_rows(tmp_path / "rows.jsonl", rows, kind)
    tokenizer = checkpoints.load_tokenizer(reference)
    spec = make_spec(Path(reference.path), data, method=method, eval_fraction=0.2, max_length=length, **config)
    renderer = METHODS[Method(method)].renderer(tokenizer, max_length=length, config=spec.config)
    held_out = training_rows.prepare(spec, Path(), renderer, lambda _done, _total: None).held_out
    where = HeldOut(fraction=0.2, seed=spec.config.seed, max_length=length, method=Method(method), **config_of(config))
    found = selftest.probes(tokenizer, data, where, Path(), causal=method != "classify", beat=lambda _d, _t: None)
    if "packing" in config:  # of which training scores pieces
        assert all(any(row.input_ids == probe.ids[: row.size] for row in held_out) for probe in found)
        assert found
        return
    assert len(found) == min(32, len(held_out)) > 5
    for probe, row in zip(found, held_out[:32], strict=True):
        assert probe.ids == row.input_ids[: len(probe.ids)]


def config_of(config: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name in HeldOut.model_fields}


def test_rows_that_are_gone_are_stood_in_for(exporting: Export, trained: tuple[ModelRef, DatasetRef]) -> None:
    _, data = trained
    directory = exporting("safetensors", probe=data.model_copy(update={"path": "gone.jsonl"}))
    warned = next(event for event in events_of(directory) if event["type"] == "warned")
    assert warned["code"] == "data_missing"
    assert warned["message"].endswith("The export is compared on built-in sentences instead.")
    assert figures(directory)["checked"] > 20


# -- what must fail


def test_rows_in_the_wrong_order_are_noticed(exporting: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """The classic fault of a converter: queries and keys rotate, but not the way that they were trained to."""
    monkeypatch.setattr(gguf_writer, "_interleaved", lambda tensor, _heads: tensor)
    told = failure(exporting("gguf-f16", code=run.FAILED))
    assert told["code"] == "export_differs"
    assert "top tokens are the same (99% are needed)" in told["message"]


def test_another_way_to_cut_text_is_noticed(exporting: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(tokenizer: Any, size: int) -> gguf_writer.Vocabulary:
        found = vocabulary(tokenizer, size)
        return dataclasses.replace(found, merges=found.merges[:10])

    vocabulary = gguf_writer.vocabulary
    monkeypatch.setattr(gguf_writer, "vocabulary", spoilt)
    assert "it cuts text into other tokens" in failure(exporting("gguf-f16", code=run.FAILED))["message"]


def test_another_template_is_noticed(exporting: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    written = gguf_writer._add_vocabulary

    def spoilt(writer: Any, tokenizer: Any, words: Any, adds_start: bool) -> None:
        template, tokenizer.chat_template = tokenizer.chat_template, "{{ messages[0]['content'] }}"
        written(writer, tokenizer, words, adds_start)
        tokenizer.chat_template = template

    monkeypatch.setattr(gguf_writer, "_add_vocabulary", spoilt)
    assert "its chat template writes other text" in failure(exporting("gguf-f16", code=run.FAILED))["message"]


def test_weights_changed_on_the_disk_are_noticed(exporting: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(folder: Path, model_class: Any) -> Any:
        model = load(folder, model_class)
        torch.nn.init.normal_(model.get_input_embeddings().weight)
        return model

    load = export._load_folder
    monkeypatch.setattr(export, "_load_folder", loads)
    assert failure(exporting("safetensors", code=run.FAILED))["code"] == "export_differs"


@pytest.mark.parametrize("architecture", ["gpt2", "qwen2"])
def test_other_families_are_refused_with_the_remedy(exporting: Export, tmp_path: Path, architecture: str) -> None:
    base = base_folder(tmp_path, architecture)
    told = failure(exporting("gguf-f16", model=ModelRef(model_id="m", name="Other", path=str(base)), code=run.FAILED))
    assert told["code"] == "model_unsupported"
    assert told["message"].startswith("GGUF is written for Llama models only; this one is ")
    assert told["message"].endswith("Export it as safetensors.")


def test_whole_weights_have_no_adapter(exporting: Export, trained: tuple[ModelRef, DatasetRef]) -> None:
    whole = trained[0].model_copy(update={"adapters": ()})
    told = failure(exporting("adapter", model=whole, code=run.FAILED))
    assert told["message"] == "'Tickets' has whole weights and no adapter to export."


def test_a_disk_too_small_is_told_before_anything_is_written(
    exporting: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(1, 1, 1000))  # type: ignore[attr-defined]
    told = failure(exporting("safetensors", code=run.FAILED))
    assert told["code"] == "disk_full"
    assert "of free disk are needed for the export" in told["message"]


def test_a_cancelled_export_leaves_nothing(exporting: Export, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked to stop between two tensors."""
    quantize = gguf_writer.gguf.quants.quantize

    def asked(*arguments: Any) -> Any:
        directory = next(iter(monkeypatch_directory))
        (directory / CANCEL).write_bytes(b"{}")
        return quantize(*arguments)

    monkeypatch_directory: list[Path] = []
    written = gguf_writer.write

    def write(path: Path, *arguments: Any, **options: Any) -> None:
        monkeypatch_directory.append(path.parent.parent)
        written(path, *arguments, **options)

    monkeypatch.setattr(gguf_writer, "write", write)
    monkeypatch.setattr(gguf_writer.gguf.quants, "quantize", asked)
    assert failure(exporting("gguf-f16", code=run.CANCELLED))["type"] == "cancelled"


def test_it_can_be_carried_out_by_hand(exporting: Export) -> None:
    """`run.json` alone says everything; the card is the caller's, or a line."""
    directory = exporting("gguf-f16", card="", probe=None, held_out=None)
    assert (directory / "artifacts/README.md").read_text() == "# Tickets\n"
    assert json.loads((directory / "run.json").read_bytes())["task"] == "export"
