"""`mask` on a tiny encoder: it fills in hidden words, hides them fairly, and is a base for classification."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import (
    WORDS,
    base_folder,
    encoder_folder,
    events_of,
    label_rows,
    make_run,
    make_spec,
    result,
    write_rows,
)
from transformers import AutoModelForMaskedLM, AutoTokenizer

from slm import run
from slm.data.examples import Classification, PromptCompletion, Text
from slm.data.render import IGNORED, Dropped, Rendered
from slm.errors import RunFailure
from slm.methods import METHODS
from slm.methods.mask import MaskRenderer
from slm.spec import DatasetKind, Method, ModelRef

MASK = METHODS[Method.MASK]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_folder(tmp_path_factory.mktemp("base"), hidden=48, layers=1)


def echoes(count: int, *, start: int = 0) -> list[dict[str, str]]:
    """Texts that say everything twice: what is hidden once can be found where it stands again."""
    rows = []
    for n in range(start, start + count):
        first, second = WORDS[n * 5 % 12], WORDS[n // 12 * 7 % 12]
        rows.append({"text": f"{first} {second} ? {first} {second} ."})
    return rows


def trained(
    tmp_path: Path, base: ModelRef | Path, *, name: str = "run", code: int = run.FINISHED, **config: Any
) -> Any:
    kind = config.pop("kind", DatasetKind.TEXT)
    data = write_rows(tmp_path / f"{name}.jsonl", config.pop("rows", echoes(128)), kind)
    settings = {"method": "mask", "learning_rate": 5e-3, "batch_size": 16, "eval_fraction": 0.1} | config
    spec = make_spec(base if isinstance(base, Path) else Path(base.path), data, **settings)
    if isinstance(base, ModelRef):
        spec = spec.model_copy(update={"model": base})
    directory = make_run(tmp_path / name, spec)
    assert run.main(directory) == code, (directory / "events.jsonl").read_text()
    return directory


def test_it_learns_to_fill_in_and_is_a_base_for_labels(bert: Path, tmp_path: Path) -> None:
    """Held-out texts: above chance, above word frequencies, and usable further without its head for words."""
    directory = trained(tmp_path, bert, epochs=30, early_stopping_patience=1000)
    steps = [event["loss"] for event in events_of(directory, "step")]
    assert sum(steps[-8:]) < 0.6 * sum(steps[:8])
    (ended,) = events_of(directory, "finished")
    card = ended["evaluation"]
    assert card["metrics"]["loss"] < 0.6 * card["base_metrics"]["loss"]
    assert card["metrics"]["loss"] < card["baselines"]["unigram"]["metrics"]["loss"]
    assert card["metrics"]["token_accuracy"] > 2 * max(card["base_metrics"]["token_accuracy"], 1 / len(WORDS))

    base = result(directory, bert, Method.MASK)
    kind, rows = DatasetKind.CLASSIFICATION, label_rows(48)
    for adapter in ("lora", "full"):
        further = trained(
            tmp_path, base, name=adapter, method="classify", kind=kind, rows=rows, adapter=adapter, epochs=1
        )
        (ended,) = events_of(further, "finished")
        assert ended["model"]["labels"] == ["bird", "cat", "dog"]
        if adapter == "lora":  # what the base does not bring is saved with the adapter
            saved = (further / "artifacts/adapter/adapter_config.json").read_text()
            assert "pooler.dense" in saved


def test_texts_of_a_labelled_dataset_do(bert: Path, tmp_path: Path) -> None:
    directory = trained(tmp_path, bert, kind=DatasetKind.CLASSIFICATION, rows=label_rows(16), epochs=1, adapter="lora")
    assert (directory / "artifacts/adapter").is_dir()


def test_an_encoder_without_a_head_gets_one_and_it_is_said(tmp_path: Path) -> None:
    headless = encoder_folder(tmp_path, layers=1, head="Model")
    for adapter in ("full", "lora"):
        directory = trained(tmp_path, headless, name=adapter, rows=echoes(16), epochs=1, adapter=adapter)
        warned = {event["code"]: event["message"] for event in events_of(directory, "warned")}
        assert "cls.predictions.transform.dense" in warned["head_untrained"]


def test_a_causal_model_is_refused(tmp_path: Path) -> None:
    directory = trained(tmp_path, base_folder(tmp_path, "gpt2"), code=run.FAILED)
    (failed,) = events_of(directory, "failed")
    assert failed["code"] == "model_unsupported"
    assert "needs an encoder" in failed["message"]


# -- what is hidden


def renderer(bert: Path, *, max_length: int = 64) -> MaskRenderer:
    return MaskRenderer(AutoTokenizer.from_pretrained(bert), max_length=max_length)


def rendered(bert: Path, text: str, line: int = 1) -> Rendered:
    found = renderer(bert).render(Text(text), line)
    assert isinstance(found, Rendered)
    return found


def test_a_seventh_is_hidden_in_the_usual_ways_and_marks_never_are(bert: Path) -> None:
    row, ways = rendered(bert, "red " * 40), Counter[str]()
    draws = [renderer(bert).again(row, seed=1, epoch=epoch) for epoch in range(300)]
    word = AutoTokenizer.from_pretrained(bert).vocab["red"]
    for drawn in draws:
        hidden = [at for at, label in enumerate(drawn.labels) if label != IGNORED]
        assert len(hidden) == drawn.learned == 6
        assert {drawn.labels[at] for at in hidden} == {word}
        assert (drawn.input_ids[0], drawn.input_ids[-1]) == (2, 3)
        ways.update("mask" if drawn.input_ids[at] == 4 else "same" if drawn.input_ids[at] == word else "other"
                    for at in hidden)  # fmt: skip
        assert {token for token in drawn.input_ids[1:-1] if token < 5} <= {4}, "no mark is put into the text"
    share = {way: count / 1800 for way, count in ways.items()}
    assert share == pytest.approx({"mask": 0.8, "other": 0.1, "same": 0.1}, abs=0.04)


def test_masks_follow_from_seed_epoch_and_row_alone(bert: Path) -> None:
    one = rendered(bert, "red green blue cat dog bird " * 3)
    make = renderer(bert).again
    assert make(one, seed=1, epoch=3) == make(make(one, seed=9, epoch=9), seed=1, epoch=3)
    draws = {tuple(make(one, seed=seed, epoch=epoch).labels) for seed in (1, 2) for epoch in (0, 1)}
    assert len(draws) == 4
    assert rendered(bert, "red cat") == rendered(bert, "red cat"), "what is scored is masked by its text alone"


def test_hidden_tokens_alone_carry_the_loss(bert: Path) -> None:
    """By another way of counting; and the head, applied to them only, gives what the model itself gives."""
    model = AutoModelForMaskedLM.from_pretrained(bert).eval()
    rows = [rendered(bert, text, n) for n, text in enumerate(("red green blue cat", "one two three " * 5, "dog"))]
    inputs = MASK.collate(rows, pad_id=0)
    logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    expected = sum(
        -torch.log_softmax(logits[at, place], -1)[label].item()
        for at, row in enumerate(rows)
        for place, label in enumerate(row.labels)
        if label != IGNORED
    )
    assert MASK.loss_sum(model, inputs).item() == pytest.approx(expected, rel=1e-5)
    assert int(inputs["units"]) == sum(row.learned for row in rows)
    measured = MASK.measure(model, rows).tallies
    assert measured["loss"].top.sum() == pytest.approx(expected, rel=1e-5)
    assert measured["perplexity"].value == pytest.approx(2.718281828 ** measured["loss"].value)


def test_what_cannot_be_masked_is_refused_with_a_reason(bert: Path, tmp_path: Path) -> None:
    make = renderer(bert)
    assert isinstance(make.render(Classification("red cat", "cat"), 1), Rendered)
    assert isinstance(make.render(PromptCompletion("red", "cat"), 2), Dropped)
    assert make.render(Text("[SEP]"), 3) == Dropped(3, "It is too short.")
    with pytest.raises(RunFailure, match="no mask token"):
        MaskRenderer(AutoTokenizer.from_pretrained(base_folder(tmp_path)), max_length=8)
