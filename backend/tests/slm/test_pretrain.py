"""`pretrain`: plain text goes on being learned, packed without a change to the loss, or from nothing at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tiny_models import WORDS, base_folder, events_of, make_run, make_spec, tiny_model, write_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from slm import run
from slm.data.examples import PromptCompletion, Text
from slm.data.render import IGNORED, Dropped, Rendered
from slm.errors import RunFailure
from slm.methods import METHODS
from slm.methods.pretrain import TextsRenderer
from slm.plan import warnings
from slm.scratch import make, train_tokenizer
from slm.shape import SCRATCH_WORDS
from slm.spec import Adapter, DatasetKind, Method, resolve

PRETRAIN = METHODS[Method.PRETRAIN]
TEXTS = [{"text": f"{a} and {b} and then {a} and {b} once more"} for a in WORDS for b in WORDS]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(tmp_path_factory.mktemp("base"))


def trained(tmp_path: Path, base: Path, *, rows: Any = None, code: int = run.FINISHED, **config: Any) -> Path:
    data = write_rows(tmp_path / "texts.jsonl", TEXTS if rows is None else rows, DatasetKind.TEXT)
    settings = {"method": "pretrain", "adapter": "full", "learning_rate": 3e-3, "batch_size": 8} | config
    directory = make_run(tmp_path / "run", make_spec(base, data, **settings))
    assert run.main(directory) == code, (directory / "events.jsonl").read_text()
    return directory


def card_of(directory: Path) -> dict[str, Any]:
    (ended,) = events_of(directory, "finished")
    card: dict[str, Any] = ended["evaluation"]
    return card


def rendered(base: Path, texts: list[str], *, packing: bool, max_length: int = 40) -> list[Rendered]:
    renderer = TextsRenderer(AutoTokenizer.from_pretrained(base), max_length=max_length, packing=packing)
    rows = [renderer.render(Text(text), line) for line, text in enumerate(texts, 1)]
    return renderer.arrange([row for row in rows if isinstance(row, Rendered)])


# -- learning


@pytest.mark.parametrize("packing", [False, True])
def test_text_is_learned_beyond_its_frequencies(tmp_path: Path, llama: Path, packing: bool) -> None:
    directory = trained(
        tmp_path, llama, epochs=20 if packing else 5, learning_rate=1e-2, packing=packing, max_length=100
    )
    steps = [event["loss"] for event in events_of(directory, "step")]
    assert sum(steps[-4:]) < 0.5 * sum(steps[:4])
    card = card_of(directory)
    assert card["metrics"]["loss"] < 0.5 * card["base_metrics"]["loss"]
    assert card["metrics"]["loss"] < card["baselines"]["unigram"]["metrics"]["loss"]
    (prepared,) = events_of(directory, "prepared")
    assert (prepared["train_examples"] < 60) == packing, "several texts fill a sequence"
    assert prepared["eval_examples"] == 14


def test_from_scratch_a_tokenizer_and_a_model_are_made(tmp_path: Path, llama: Path) -> None:
    """It learns, it is whole and loads alone; nothing of the base is in it but its architecture."""
    directory = trained(tmp_path, llama, from_scratch=True, epochs=1, learning_rate=2e-3, max_length=48)
    card = card_of(directory)
    assert card["metrics"]["loss"] < 0.7 * card["base_metrics"]["loss"]
    assert card["metrics"]["loss"] < card["baselines"]["unigram"]["metrics"]["loss"]
    made = AutoModelForCausalLM.from_pretrained(directory / "artifacts/model")
    tokenizer = AutoTokenizer.from_pretrained(directory / "artifacts/model")
    assert made.config.model_type == "llama"
    assert made.config.vocab_size == len(tokenizer) != 512
    assert 3e6 < made.num_parameters() < 5e6
    assert tokenizer.decode(tokenizer("Größe 日本")["input_ids"]) == "Größe 日本"


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("apart", [False, True], ids=["set aside", "a file of its own"])
def test_the_tokenizer_never_sees_a_held_out_text(tmp_path: Path, llama: Path, packing: bool, apart: bool) -> None:
    """A word that every text of one side repeats becomes a token, and no token holds a word of the other side."""
    rows = [{"text": f"{a} {b} Zq{a}x{b}qZ Zq{a}x{b}qZ Zq{a}x{b}qZ Zq{a}x{b}qZ"} for a in WORDS for b in WORDS]
    held_out = write_rows(tmp_path / "judged.jsonl", rows[::9], DatasetKind.TEXT) if apart else None
    data = write_rows(
        tmp_path / "texts.jsonl", [row for row in rows if not apart or row not in rows[::9]], DatasetKind.TEXT
    )
    config = {"method": "pretrain", "from_scratch": True, "max_steps": 1, "max_length": 48, "packing": packing}
    directory = make_run(tmp_path / "run", make_spec(llama, data, held_out=held_out, **config))
    assert run.main(directory) == run.FINISHED, (directory / "events.jsonl").read_text()
    samples = [json.loads(line) for line in (directory / "artifacts/samples.jsonl").read_text().splitlines()]
    judged = [(rows[::9] if apart else rows)[sample["row"] - 1]["text"].split()[2] for sample in samples]
    learned = {row["text"].split()[2] for row in rows} - set(judged)
    words = AutoTokenizer.from_pretrained(directory / "artifacts/model").get_vocab()
    assert len(judged) >= 10
    assert any(word in words for word in (f"Ġ{name}" for name in learned)), "the words are frequent enough"
    assert not [name for name in judged if f"Ġ{name}" in words]


@pytest.mark.parametrize("model_type", ["gpt2", "qwen2", "mistral"])
def test_each_known_architecture_is_small(tmp_path: Path, model_type: str) -> None:
    make(tmp_path / "m", [text["text"] for text in TEXTS], model_type=model_type, max_length=64, seed=1)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert 2.5e6 < model.num_parameters() < 5e6
    assert PRETRAIN.refusal(model.config) is None


def test_the_same_data_and_seed_make_the_same_files(tmp_path: Path) -> None:
    texts = [text["text"] for text in TEXTS]
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        make(tmp_path / name, texts, model_type="llama", max_length=64, seed=seed)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "same", "other")]
    assert weights[0] == weights[1] != weights[2]
    assert (tmp_path / "one/tokenizer.json").read_bytes() == (tmp_path / "same/tokenizer.json").read_bytes()


def test_other_architectures_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RunFailure, match="not bloom"):
        make(tmp_path / "m", ["a"], model_type="bloom", max_length=64, seed=1)
    assert not (tmp_path / "m").exists()


def test_the_vocabulary_grows_with_the_data() -> None:
    words = [f"word{n % 997} and {n * n} things" for n in range(6000)]
    assert len(train_tokenizer(["few words"])) <= SCRATCH_WORDS[0] < len(train_tokenizer(words)) <= 4096


def test_from_scratch_decides_adapter_and_rate_and_refuses_what_makes_no_sense() -> None:
    config, reasons = resolve({"method": "pretrain", "from_scratch": True})
    assert (config.adapter, config.learning_rate) == (Adapter.FULL, 1e-3)
    assert "from scratch" in reasons["learning_rate"]
    assert not [text for text in warnings(config, None, rows=1000) if "learning_rate" in text]
    for wrong in ({"method": "sft"}, {"method": "pretrain", "adapter": "lora"}):
        with pytest.raises(ValidationError, match="from_scratch is for method pretrain"):
            resolve({"from_scratch": True} | wrong)


# -- packing


def test_packing_changes_nothing_in_what_is_learned(llama: Path) -> None:
    """Texts in one sequence do not see each other: the summed loss is that of the texts alone."""
    texts = ["red green blue", "the answer is cat", "one two three one two", "animal"]
    alone, packed = (rendered(llama, texts, packing=packing) for packing in (False, True))
    assert len(packed) < len(alone) == 4
    assert sum(row.learned for row in packed) == sum(row.learned for row in alone)
    for architecture in ("llama", "gpt2", "qwen2"):
        model = tiny_model(architecture).eval()
        width = PRETRAIN.sharing_width(model.config, device="cpu")
        one, other = (
            PRETRAIN.loss_sum(model, PRETRAIN.collate(rows, pad_id=2, share=share)).item()
            for rows, share in ((alone, None), (packed, width))
        )
        assert other == pytest.approx(one, rel=1e-5), architecture


def test_where_masks_are_not_ours_packed_texts_see_those_before_them(llama: Path) -> None:
    packed = rendered(llama, ["red green blue", "cat dog"], packing=True)
    inputs = PRETRAIN.collate(packed, pad_id=2, share=None)
    assert inputs["attention_mask"].dim() == 2
    assert "position_ids" not in inputs


def test_long_texts_are_learned_in_pieces_not_cut(llama: Path) -> None:
    text = " ".join(WORDS * 6)
    whole = rendered(llama, [text], packing=False, max_length=4000)[0]
    pieces = rendered(llama, [text, "cat"], packing=True, max_length=40)
    assert max(row.size for row in pieces) <= 40
    assert [token for row in pieces for token in row.input_ids][: whole.size] == whole.input_ids
    # Of each piece all but the first token is learned.
    assert sum(row.learned for row in pieces[:-1]) == sum(row.size - len(row.starts) for row in pieces[:-1])
    assert all(row.labels[start] == IGNORED for row in pieces for start in row.starts)
    renderer = TextsRenderer(AutoTokenizer.from_pretrained(llama), max_length=40, packing=True)
    held_out = renderer.arrange([whole, whole], held_out=True)
    assert all(len(row.starts) == 1 and row.size <= 40 for row in held_out)


def test_packing_is_the_same_twice_and_keeps_the_files_order(llama: Path) -> None:
    texts = [f"{word} {word}" for word in WORDS]
    assert rendered(llama, texts, packing=True) == rendered(llama, texts, packing=True)
    lines = [row.line for row in rendered(llama, texts, packing=True)]
    assert lines == sorted(lines)


def test_only_texts_are_pretrained_on(llama: Path) -> None:
    renderer = TextsRenderer(AutoTokenizer.from_pretrained(llama), max_length=40)
    assert isinstance(renderer.render(PromptCompletion("a", "b"), 1), Dropped)


def test_the_scratch_folder_survives_a_restart(tmp_path: Path, llama: Path) -> None:
    directory = trained(tmp_path, llama, from_scratch=True, max_steps=1, max_length=48)
    tokenizer = json.loads((directory / "scratch/tokenizer.json").read_text())
    before = (directory / "scratch/model.safetensors").stat().st_mtime_ns
    make(directory / "scratch", ["other texts"], model_type="llama", max_length=48, seed=9)
    assert json.loads((directory / "scratch/tokenizer.json").read_text()) == tokenizer
    assert (directory / "scratch/model.safetensors").stat().st_mtime_ns == before
