"""Every record answered, in order, in one file: words and labels, faults told, nothing half made left behind."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_models import (
    base_folder,
    events_of,
    make_run,
    make_spec,
    task_rows,
    tiny_model,
    tiny_tokenizer,
    write_rows,
)

from slm import predict as module
from slm import run
from slm.data.examples import Message, Messages, PromptCompletion, Text
from slm.generate import Sampling, generate
from slm.predict import Labeller, Writer
from slm.spec import DatasetKind, ModelRef, PredictSpec

BACKEND = Path(__file__).resolve().parents[2]


def prepared(
    directory: Path, rows: list[dict[str, Any]], *, kind: DatasetKind = DatasetKind.PROMPT_COMPLETION, **changes: Any
) -> Path:
    """A run directory that predicts `rows` with a tiny model."""
    directory.mkdir(parents=True)
    reference = write_rows(directory / "rows.jsonl", rows, kind)
    base = base_folder(directory, changes.pop("architecture", "llama"))
    settings: dict[str, Any] = {"method": "sft", "max_new_tokens": 6, "threads": 1}
    model = changes.pop("model", ModelRef(model_id="base", name="Tiny", path=str(base)))
    dataset = changes.pop("dataset", reference)
    spec = PredictSpec(run_id="run", attempt=1, model=model, dataset=dataset, **(settings | changes))
    (directory / "run.json").write_text(spec.model_dump_json())
    return directory


def lines(directory: Path) -> list[dict[str, Any]]:
    text = (directory / "artifacts" / module.FILE).read_text()
    return [json.loads(line) for line in text.splitlines()]


def leftovers(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.name == "artifacts" or ".tmp" in path.name)


def test_every_record_is_there_in_order_with_its_own_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WINDOW", 4)
    rows: list[dict[str, Any]] = [{**row, "number": at} for at, row in enumerate(task_rows(11))]
    rows[3]["prompt"] = ""
    rows[6] |= {"prediction": "mine", "fault": None}
    rows[9]["prompt"] = "red " * 2000
    directory = prepared(tmp_path / "run", rows)
    assert run.main(directory) == run.FINISHED
    found = lines(directory)
    assert [line["number"] for line in found] == list(range(11))
    assert [line["line"] for line in found] == list(range(1, 12))
    assert [at for at, line in enumerate(found) if "fault" in line] == [3, 9]
    assert found[3]["fault"] == "'prompt' is empty."
    assert "tokens long" in found[9]["fault"]
    assert "prediction" not in found[3]
    assert found[6]["input_prediction"] == "mine"
    assert "input_fault" in found[6]
    assert all(isinstance(line["prediction"], str) for at, line in enumerate(found) if at not in (3, 9))
    assert [line["completion"] for line in found] == [row["completion"] for row in rows]
    finished = events_of(directory, "finished")[0]
    assert finished["result"] == {"rows": 11, "predicted": 9, "skipped": 2}
    assert [made["kind"] for made in finished["artifacts"]] == ["predictions"]
    assert [event["phase"] for event in events_of(directory, "phase")] == [
        "preparing", "loading", "predicting", "saving",
    ]  # fmt: skip


def test_broken_records_of_every_sort_are_told(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    prepared(directory, task_rows(2))
    content = 'prompt\nred?\n"one",two,three\n \nblue?\n'
    path = directory / "rows.csv"
    path.write_text(content)
    spec = json.loads((directory / "run.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    spec["dataset"] |= {"path": str(path), "file_format": "csv", "sha256": digest, "mapping": {"prompt": "prompt"}}
    (directory / "run.json").write_text(json.dumps(spec))
    assert run.main(directory) == run.FINISHED
    found = lines(directory)
    assert [("prediction" in line, line["line"]) for line in found] == [(True, 2), (False, 3), (False, 4), (True, 5)]
    assert "3 fields where the header names 1" in found[1]["fault"]


def test_the_same_answers_as_scoring_gives(tmp_path: Path) -> None:
    model, tokenizer = tiny_model("gpt2", seed=4).eval(), tiny_tokenizer(chat=False)
    writer = Writer(model, tokenizer, max_length=64, context=256, max_new_tokens=8)
    texts = [Text("The red cat"), Text("blue"), Text("one two three")]
    prompts = [tokenizer(text.text)["input_ids"] for text in texts]
    expected = generate(model, tokenizer, prompts, sampling=Sampling(8))
    assert [made["prediction"] for made in writer.answer(texts, lambda done: None)] == expected
    asked = [PromptCompletion("red?", "a"), Messages((Message("user", "red?"), Message("assistant", "a")))]
    assert all("prediction" in made for made in writer.answer(asked, lambda done: None))


def test_a_prompt_near_the_end_of_the_context_gets_what_room_there_is() -> None:
    model, tokenizer = tiny_model("gpt2", seed=4).eval(), tiny_tokenizer(chat=False)
    writer = Writer(model, tokenizer, max_length=1024, context=256, max_new_tokens=64)
    near, beyond = Text("red " * 230), Text("red " * 300)
    said = writer.answer([beyond, near, Text("red")], lambda done: None)
    assert "at most 255 are read" in said[0]["fault"]
    assert 0 < len(tokenizer(said[1]["prediction"])["input_ids"]) <= 256 - 230
    assert "prediction" in said[2]


def classifier(*, pad: int | None = 2) -> Any:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    names = {0: "bad", 1: "good", 2: "so so"}
    config = BertConfig(
        vocab_size=512, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=32, id2label=names, label2id={name: at for at, name in names.items()},
    )  # fmt: skip
    config.pad_token_id = pad
    return BertForSequenceClassification(config).eval()


def test_each_text_gets_a_label_and_the_chance_of_every_label(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TOGETHER", 2)
    tokenizer = tiny_tokenizer()
    labeller = Labeller(classifier(), tokenizer, max_length=8)
    texts = [Text(f"{word} cat") for word in ("red", "blue " * 20, "one", "two two")]
    ticks: list[float] = []
    together = labeller.answer(texts, ticks.append)
    for made in together:
        assert made["prediction"] == max(made["scores"], key=made["scores"].get)
        assert set(made["scores"]) == {"bad", "good", "so so"}
        assert sum(made["scores"].values()) == pytest.approx(1, abs=1e-5)
    alone = Labeller(classifier(pad=None), tokenizer, max_length=8).answer(texts, ticks.append)
    for made, other in zip(together, alone, strict=True):
        assert made["scores"] == pytest.approx(other["scores"], abs=2e-6), "padding must not change a text's label"
    assert labeller.cut == 1
    assert ticks[:2] == [0, 2]
    empty = labeller.answer([PromptCompletion("", "a")], ticks.append)
    assert "fault" in empty[0]


def test_a_file_that_was_changed_is_not_predicted(tmp_path: Path) -> None:
    directory = prepared(tmp_path / "run", task_rows(3))
    (directory / "rows.jsonl").write_text('{"prompt": "other"}\n')
    assert run.main(directory) == run.FAILED
    assert events_of(directory, "failed")[0]["code"] == "data_changed"
    assert leftovers(directory) == []


def test_an_encoder_cannot_write(tmp_path: Path) -> None:
    directory = prepared(tmp_path / "run", task_rows(3))
    config = directory / "tiny-llama" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"architectures": ["BertForMaskedLM"]}))
    assert run.main(directory) == run.FAILED
    assert events_of(directory, "failed")[0]["code"] == "model_unsupported"


def test_a_cancelled_run_leaves_no_file(tmp_path: Path) -> None:
    directory = prepared(tmp_path / "run", task_rows(40))
    (directory / "cancel").write_text("{}")
    assert run.main(directory) == run.CANCELLED
    assert leftovers(directory) == []


def test_killed_in_the_middle_no_file_appears_and_the_next_attempt_sweeps(tmp_path: Path) -> None:
    directory = prepared(tmp_path / "run", task_rows(3000), max_new_tokens=60)
    process = subprocess.Popen([sys.executable, "-m", "slm.run", str(directory)], cwd=BACKEND)
    while not (directory / ".tmp-artifacts" / module.FILE).exists():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (directory / "artifacts").exists()
    spec = json.loads((directory / "run.json").read_text()) | {"attempt": 2, "max_new_tokens": 1}
    (directory / "run.json").write_text(json.dumps(spec))
    assert run.main(directory) == run.FINISHED
    assert leftovers(directory) == ["artifacts"]
    assert len(lines(directory)) == 3000


def test_memory_does_not_grow_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never more than a window of records is held: the longest list that an answerer gets."""
    monkeypatch.setattr(module, "WINDOW", 8)
    held: list[int] = []

    class Counting:
        cut = 0

        def answer(self, questions: list[Any], tick: Any) -> list[dict[str, Any]]:
            held.append(len(questions))
            return [{"prediction": "x"} for _ in questions]

    monkeypatch.setattr(module, "_answerer", lambda spec, directory: Counting())
    directory = prepared(tmp_path / "run", task_rows(50))
    assert run.main(directory) == run.FINISHED
    assert max(held) == 8
    assert sum(held) == len(lines(directory)) == 50


def test_data_without_a_known_question_fail_as_the_users_fault(tmp_path: Path) -> None:
    directory = prepared(tmp_path / "run", task_rows(3))
    spec = json.loads((directory / "run.json").read_text())
    spec["dataset"]["kind"] = None
    (directory / "run.json").write_text(json.dumps(spec))
    assert run.main(directory) == run.FAILED
    failed = events_of(directory, "failed")[0]
    assert (failed["code"], failed["fault"]) == ("data_unusable", "user")


def test_what_a_training_taught_to_label_labels(tmp_path: Path) -> None:
    """A classifier's head, saved beside its adapter, is built again; labels in the data are not looked at."""
    labelled = [{"text": f"{word} cat", "label": word} for word in ("red", "blue") for _ in range(40)]
    data = write_rows(tmp_path / "learned.jsonl", labelled, DatasetKind.CLASSIFICATION)
    base = base_folder(tmp_path)
    config = {"method": "classify", "learning_rate": 5e-3, "epochs": 4, "eval_fraction": 0.0}
    taught = make_run(tmp_path / "taught", make_spec(base, data, **config))
    assert run.main(taught) == run.FINISHED
    model = ModelRef(model_id="m", name="Ours", path=str(base), adapters=(str(taught / "artifacts" / "adapter"),))
    asked = [{"text": "blue cat", "label": "red"}, {"text": "red cat"}, {"text": ""}]
    directory = prepared(tmp_path / "run", asked, kind=DatasetKind.CLASSIFICATION, method="classify", model=model)
    assert run.main(directory) == run.FINISHED
    found = lines(directory)
    assert [line.get("prediction") for line in found] == ["blue", "red", None]
    assert found[0]["scores"]["blue"] > 0.5
    assert found[0]["label"] == "red"
