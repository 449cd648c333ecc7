"""`classify` on tiny encoders and decoders: it learns what word counts cannot, and knows its labels wherever it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import (
    ANIMALS,
    base_folder,
    encoder_folder,
    events_of,
    label_rows,
    make_run,
    make_spec,
    result,
    write_rows,
)
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from slm import checkpoints, run
from slm.data.batches import split_held_out
from slm.data.examples import Classification, Text
from slm.data.render import Dropped, Rendered
from slm.methods import METHODS
from slm.methods.classify import LabelRenderer
from slm.spec import DatasetKind, Method, ModelRef

CLASSIFY = METHODS[Method.CLASSIFY]
Trained = tuple[Path, list[dict[str, Any]]]
HELD_OUT = label_rows(96, start=288)


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    causal = {name: base_folder(folder, name, hidden=48) for name in ("llama", "gpt2", "qwen2")}
    return causal | {"bert": encoder_folder(folder, hidden=48, layers=1), "taught bert": taught_encoder(folder)}


def taught_encoder(parent: Path) -> Path:
    """One that knows another task already, to give each animal another's name: LoRA cannot teach noise to read."""
    turned = dict(zip(ANIMALS, ANIMALS[1:] + ANIMALS[:1], strict=True))
    rows = [row | {"label": turned[row["label"]]} for row in label_rows(288)]
    data = write_rows(parent / "turned.jsonl", rows, DatasetKind.CLASSIFICATION)
    config = {"adapter": "full", "learning_rate": 5e-3, "epochs": 4, "batch_size": 16, "eval_fraction": 0.0}
    directory = make_run(parent / "taught", make_spec(encoder_folder(parent, hidden=48, layers=1), data, **config))
    assert run.main(directory) == run.FINISHED
    return directory / "artifacts" / "model"


@pytest.fixture
def train(tmp_path: Path, bases: dict[str, Path]) -> Callable[..., Trained]:
    def train(
        rows: list[dict[str, str]] | None = None,
        *,
        held_out: list[dict[str, str]] | None = None,
        name: str = "run",
        architecture: str = "bert",
        base: ModelRef | None = None,
        code: int = run.FINISHED,
        **config: Any,
    ) -> Trained:
        kind = DatasetKind.CLASSIFICATION
        data = write_rows(tmp_path / f"{name}.jsonl", label_rows(48) if rows is None else rows, kind)
        other = None if held_out is None else write_rows(tmp_path / f"{name}-held.jsonl", held_out, kind)
        settings = {"adapter": "full", "learning_rate": 3e-3, "epochs": 1, "batch_size": 16} | config
        spec = make_spec(bases[architecture], data, held_out=other, **settings)
        assert spec.config.method is Method.CLASSIFY
        if base is not None:
            spec = spec.model_copy(update={"model": base})
        directory = make_run(tmp_path / name, spec)
        assert run.main(directory) == code, (directory / "events.jsonl").read_text()
        return directory, events_of(directory)

    return train


def ended(events: list[dict[str, Any]]) -> dict[str, Any]:
    return events[-1]


def rendered(base: Path, rows: list[dict[str, str]]) -> list[Rendered]:
    renderer = LabelRenderer(AutoTokenizer.from_pretrained(base), max_length=64)
    found = [renderer.render(Classification(row["text"], row["label"]), n) for n, row in enumerate(rows, 1)]
    return [row for row in found if isinstance(row, Rendered)]


def tfidf_accuracy(train: list[dict[str, str]], held_out: list[dict[str, str]]) -> float:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000))
    pipeline.fit([row["text"] for row in train], [row["label"] for row in train])
    return float(pipeline.score([row["text"] for row in held_out], [row["label"] for row in held_out]))


# -- learning


@pytest.mark.parametrize(
    ("architecture", "adapter", "rate"),
    [("bert", "full", 5e-3), ("taught bert", "lora", 1e-2), ("llama", "full", 3e-3), ("gpt2", "lora", 1e-2)],
)
def test_it_learns_what_word_counts_cannot(
    train: Callable[..., Trained], bases: dict[str, Path], architecture: str, adapter: str, rate: float
) -> None:
    """Above chance and above the simple baseline, on rows it never saw; loaded back, it says the same."""
    rows = label_rows(288)
    directory, events = train(
        rows, held_out=HELD_OUT, architecture=architecture, adapter=adapter, learning_rate=rate, epochs=5,
        early_stopping_patience=1000,
    )  # fmt: skip
    steps = [event["loss"] for event in events if event["type"] == "step"]
    assert sum(steps[-4:]) < 0.3 * sum(steps[:4])
    card = ended(events)["evaluation"]
    assert card["base_metrics"]["accuracy"] < 0.6
    baseline = tfidf_accuracy(rows, HELD_OUT)
    assert baseline < 0.7
    assert card["metrics"]["accuracy"] > 0.9 > baseline
    assert card["metrics"]["loss"] < 0.5 * card["base_metrics"]["loss"]
    assert ended(events)["model"]["labels"] == sorted(ANIMALS)

    model = checkpoints.load_base(
        result(directory, bases[architecture], Method.CLASSIFY), directory, model_class=CLASSIFY.MODEL_CLASS
    ).eval()
    measured = CLASSIFY.measure(model, rendered(bases[architecture], HELD_OUT))
    assert measured.tallies["accuracy"].value == pytest.approx(card["metrics"]["accuracy"])
    assert measured.tallies["loss"].value == pytest.approx(card["metrics"]["loss"], rel=1e-3)
    assert measured.outputs is not None
    assert np.mean([row["label"] == given for row, given in zip(HELD_OUT, measured.outputs, strict=True)]) > 0.9


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
@pytest.mark.parametrize(("architecture", "adapter"), [("bert", "lora"), ("gpt2", "full")])
def test_the_result_is_a_classifier_for_anyone(
    train: Callable[..., Trained], bases: dict[str, Path], architecture: str, adapter: str
) -> None:
    """Loaded with transformers and PEFT alone, as its README says, it gives the same labels."""
    directory, _ = train(architecture=architecture, adapter=adapter)
    readme = next((directory / "artifacts").glob("*/README.md")).read_text()
    code = readme.split("```python\n")[1].split("```")[0].replace('"adapter', f'"{directory}/artifacts/adapter')
    code = code.replace('"model"', f'"{directory}/artifacts/model"')
    scope: dict[str, Any] = {"BASE": str(bases[architecture])}
    exec(code, scope)
    model, tokenizer = scope["model"].eval(), scope["tokenizer"]
    assert sorted(model.config.id2label.values()) == sorted(ANIMALS)
    said = []
    for row in HELD_OUT[:12]:
        with torch.inference_mode():
            best = model(**tokenizer(row["text"], return_tensors="pt")).logits.argmax().item()
        said.append(model.config.id2label[best])
    reference = result(directory, bases[architecture], Method.CLASSIFY)
    ours = checkpoints.load_base(reference, directory, model_class=CLASSIFY.MODEL_CLASS).eval()
    assert said == CLASSIFY.measure(ours, rendered(bases[architecture], HELD_OUT[:12])).outputs


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_padding_changes_nothing(bases: dict[str, Path], architecture: str) -> None:
    """A decoder reads its answer at the last token that is not padding, however long its neighbours are."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        bases[architecture], id2label=dict(enumerate(ANIMALS)), label2id={a: n for n, a in enumerate(ANIMALS)},
        pad_token_id=AutoTokenizer.from_pretrained(bases[architecture]).eos_token_id,
    ).eval()  # fmt: skip
    rows = rendered(bases[architecture], [{"text": "cat " * size + "dog", "label": "cat"} for size in (1, 9, 3)])
    together = CLASSIFY.measure(model, rows).tallies["loss"].top
    alone = [CLASSIFY.measure(model, [row]).tallies["loss"].value for row in rows]
    assert together == pytest.approx(alone, rel=1e-4)


# -- labels


def test_one_label_is_nothing_to_learn(train: Callable[..., Trained]) -> None:
    rows = [{"text": f"{a} cat", "label": "cat"} for a in ("the", "a", "my")] * 4
    _, events = train(rows, code=run.FAILED)
    assert (ended(events)["code"], ended(events)["fault"]) == ("nothing_to_learn", "user")
    assert "'cat'" in ended(events)["message"]
    assert not [event for event in events if event["type"] == "step"]


def test_a_label_that_was_never_trained_counts_as_wrong(train: Callable[..., Trained]) -> None:
    held_out = [*label_rows(6), {"text": "the two big one", "label": "two"}]
    _, events = train(held_out=held_out)
    (warned,) = [event for event in events if event["type"] == "warned" and event["code"] == "labels_unseen"]
    assert "1 held-out rows" in warned["message"]
    assert "'two'" in warned["message"]
    card = ended(events)["evaluation"]
    assert card["rows_scored"] == 7
    assert card["metrics"]["accuracy"] * 7 == pytest.approx(round(card["metrics"]["accuracy"] * 7))
    assert card["metrics"]["accuracy"] <= 6 / 7


def test_a_row_without_a_trained_label_has_no_loss(bases: dict[str, Path]) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        bases["bert"], id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1}
    ).eval()
    known, unknown = rendered(bases["bert"], [{"text": "a", "label": "cat"}, {"text": "a", "label": "two"}])
    both = CLASSIFY.measure(model, [known, unknown]).tallies
    alone = CLASSIFY.measure(model, [known]).tallies
    assert both["loss"].value == pytest.approx(alone["loss"].value)
    assert both["accuracy"].value == alone["accuracy"].value / 2
    inputs = CLASSIFY.collate([known, unknown], pad_id=0, config=model.config)
    assert int(inputs["units"]) == 1
    assert CLASSIFY.loss_sum(model, inputs).item() == pytest.approx(alone["loss"].value)


def test_held_out_rows_hold_each_label_in_its_share(bases: dict[str, Path]) -> None:
    rows = [row | {"text": f"{row['text']} {word}"} for row in label_rows(100) for word in ("one", "two", "three")]
    found = rendered(bases["bert"], [row | {"label": "cat" if n < 270 else "dog"} for n, row in enumerate(rows)])
    rest, held = split_held_out(found, fraction=0.1, seed=1, stratified=True)
    counts = {label: sum(row.expected == label for row in held) for label in ("cat", "dog")}
    assert counts == {"cat": 27, "dog": 3}
    assert {row.line for row in rest}.isdisjoint(row.line for row in held)
    assert len(rest) + len(held) == 300
    assert split_held_out(found, fraction=0.1, seed=1, stratified=True) == (rest, held)
    assert split_held_out(found, fraction=0.1, seed=2, stratified=True) != (rest, held)
    assert {row.expected for row in held[-3:]} != {"dog"}, "in a seeded order, not label by label"


def test_a_label_of_one_row_is_learned_and_never_held_out_whole(bases: dict[str, Path]) -> None:
    rows = rendered(bases["bert"], [*label_rows(12), {"text": "one two", "label": "rare"}])
    for seed in range(5):
        rest, held = split_held_out(rows, fraction=0.5, seed=seed, stratified=True)
        assert "rare" in {row.expected for row in rest}
        assert held


def test_few_rows_still_hold_one_out(bases: dict[str, Path]) -> None:
    rest, held = split_held_out(rendered(bases["bert"], label_rows(6)), fraction=0.1, seed=0, stratified=True)
    assert (len(rest), len(held)) == (5, 1)


# -- going on


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_classifier_learns_further_with_its_own_labels(
    train: Callable[..., Trained], bases: dict[str, Path], adapter: str
) -> None:
    first, events = train(adapter=adapter, name="first", epochs=3, held_out=HELD_OUT)
    base = result(first, bases["bert"], Method.CLASSIFY)
    # Two of its three labels: the third keeps its place.
    some = [row for row in label_rows(48) if row["label"] != "dog"]
    second, again = train(some, adapter=adapter, name="second", base=base, held_out=HELD_OUT, learning_rate=1e-5)
    before, after = ended(events)["evaluation"], ended(again)["evaluation"]
    assert after["base_metrics"]["loss"] == pytest.approx(before["metrics"]["loss"], rel=1e-3)
    assert ended(again)["model"]["labels"] == sorted(ANIMALS)
    third = result(second, bases["bert"], Method.CLASSIFY)
    if adapter == "lora":
        third = third.model_copy(update={"adapters": (*base.adapters, *third.adapters)})
    model = checkpoints.load_base(third, second, model_class=CLASSIFY.MODEL_CLASS).eval()
    measured = CLASSIFY.measure(model, rendered(bases["bert"], HELD_OUT)).tallies
    assert measured["loss"].value == pytest.approx(after["metrics"]["loss"], rel=1e-3)


def test_other_labels_are_refused_with_both_named(train: Callable[..., Trained], bases: dict[str, Path]) -> None:
    first, _ = train(name="first")
    rows = [{"text": f"{a} {b}", "label": b} for a in ("the", "my") for b in ("cat", "two")]
    base = result(first, bases["bert"], Method.CLASSIFY)
    _, events = train(rows, name="second", base=base, code=run.FAILED)
    assert (ended(events)["code"], ended(events)["fault"]) == ("data_unusable", "user")
    assert "'bird', 'cat', 'dog'" in ended(events)["message"]
    assert "'two'" in ended(events)["message"]


def test_a_classifier_does_not_continue_prompts(
    train: Callable[..., Trained], bases: dict[str, Path], tmp_path: Path
) -> None:
    first, _ = train(name="first", architecture="llama", adapter="lora")
    data = write_rows(tmp_path / "rows.jsonl", [{"prompt": "red", "completion": "cat"}] * 4)
    model = result(first, bases["llama"], Method.CLASSIFY)
    directory = make_run(tmp_path / "second", make_spec(bases["llama"], data).model_copy(update={"model": model}))
    assert run.main(directory) == run.FAILED
    (failed,) = events_of(directory, "failed")
    assert failed["code"] == "model_unsupported"
    assert "trained by classify" in failed["message"]


def test_a_model_tuned_to_talk_can_learn_to_classify(
    train: Callable[..., Trained], bases: dict[str, Path], tmp_path: Path
) -> None:
    """The adapter of another method is merged under a new head."""
    data = write_rows(tmp_path / "talk.jsonl", [{"prompt": "red", "completion": "cat"}] * 8)
    talk = make_run(tmp_path / "talk", make_spec(bases["qwen2"], data, epochs=1))
    assert run.main(talk) == run.FINISHED
    base = result(talk, bases["qwen2"], Method.SFT)
    directory, events = train(architecture="qwen2", base=base, adapter="lora")
    assert ended(events)["model"]["base_model"]["adapters"] == 1
    head = json.loads((directory / "artifacts/adapter" / checkpoints.HEAD).read_text())
    assert sorted(head["label2id"]) == sorted(ANIMALS)


def test_somebody_elses_classifier_gets_a_new_head(
    train: Callable[..., Trained], bases: dict[str, Path], tmp_path: Path
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(bases["bert"], num_labels=5)
    model.save_pretrained(tmp_path / "theirs")
    AutoTokenizer.from_pretrained(bases["bert"]).save_pretrained(tmp_path / "theirs")
    base = ModelRef(model_id="t", name="Theirs", path=str(tmp_path / "theirs"))
    directory, events = train(base=base, adapter="lora")
    saved = json.loads((directory / "artifacts/adapter/adapter_config.json").read_text())["modules_to_save"]
    assert "classifier" in saved
    assert ended(events)["model"]["labels"] == sorted(ANIMALS)


# -- rows


def test_a_long_text_is_cut_inside_its_marks(bases: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bases["bert"])
    renderer = LabelRenderer(tokenizer, max_length=8)
    long = renderer.render(Classification("cat " * 20, "cat"), 1)
    exact = renderer.render(Classification("cat " * 6, "cat"), 2)
    assert isinstance(long, Rendered)
    assert isinstance(exact, Rendered)
    assert (long.truncated, exact.truncated) == (True, False)
    assert long.input_ids == exact.input_ids == [2, *[tokenizer.vocab["cat"]] * 6, 3]
    assert (long.learned, long.size, long.expected) == (1, 8, "cat")
    assert [piece.learned for piece in renderer.pieces(long)] == [False] * 8


def test_what_cannot_be_labelled_is_dropped_with_a_reason(bases: dict[str, Path]) -> None:
    renderer = LabelRenderer(AutoTokenizer.from_pretrained(bases["bert"]), max_length=8)
    assert renderer.render(Text("cat"), 3) == Dropped(3, "It has no label.")
    assert renderer.render(Classification(" ", "cat"), 4) == Dropped(4, "It is too short.")
