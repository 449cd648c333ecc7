"""`slm.run` on tiny models of three architectures: what is learned and said, and that it is the same twice."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import (
    ARCHITECTURES,
    base_folder,
    events_of,
    make_run,
    make_spec,
    task_rows,
    taught_folder,
    tiny_model,
    write_rows,
)

from slm import run
from slm.spec import DatasetKind, ModelRef

LEARNS: dict[str, Any] = {"epochs": 10, "learning_rate": 4e-3, "early_stopping_patience": None, "batch_size": 8}
Trained = tuple[Path, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return {architecture: taught_folder(folder, architecture) for architecture in ARCHITECTURES}


@pytest.fixture
def train(tmp_path: Path, bases: dict[str, Path]) -> Callable[..., Trained]:
    """Trains in this process; returns the run directory and its events. Names keep several runs of a test apart."""

    def train(
        rows: list[dict[str, Any]] | None = None,
        *,
        name: str = "run",
        architecture: str = "llama",
        kind: DatasetKind = DatasetKind.PROMPT_COMPLETION,
        held_out: list[dict[str, Any]] | None = None,
        base: ModelRef | None = None,
        code: int = run.FINISHED,
        **config: Any,
    ) -> Trained:
        data = write_rows(tmp_path / f"{name}-train.jsonl", task_rows(80) if rows is None else rows, kind)
        other = None if held_out is None else write_rows(tmp_path / f"{name}-held-out.jsonl", held_out, kind)
        spec = make_spec(bases[architecture], data, held_out=other, **config)
        if base is not None:
            spec = spec.model_copy(update={"model": base})
        directory = make_run(tmp_path / name, spec)
        assert run.main(directory) == code, (directory / "events.jsonl").read_text()
        return directory, events_of(directory)

    return train


def last(events: list[dict[str, Any]], kind: str = "finished") -> dict[str, Any]:
    found = [event for event in events if event["type"] == kind]
    assert found, [event["type"] for event in events]
    return found[-1]


def losses(events: list[dict[str, Any]]) -> list[float]:
    return [event["loss"] for event in events if event["type"] == "step"]


def warnings(events: list[dict[str, Any]]) -> dict[str, str]:
    return {event["code"]: event["message"] for event in events if event["type"] == "warned"}


def weights(directory: Path) -> bytes:
    (found,) = (directory / "artifacts").glob("*/*.safetensors")
    return found.read_bytes()


# -- learning


@pytest.mark.parametrize("adapter", ["lora", "full"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_it_learns_the_task(train: Callable[..., Trained], architecture: str, adapter: str) -> None:
    """Loss falls; unseen rows are answered; the base, scored on the same rows, could not; the verdict says so."""
    rate = 4e-3 if adapter == "lora" else 2e-3
    directory, events = train(
        task_rows(160), architecture=architecture, adapter=adapter, eval_fraction=0.2, generate_max_rows=16,
        **LEARNS | {"learning_rate": rate},
    )  # fmt: skip
    curve = losses(events)
    assert sum(curve[-5:]) < 0.2 * sum(curve[:5])
    card = last(events)["evaluation"]
    assert card["rows_scored"] == 32
    assert card["metrics"]["loss"] < 0.2 * card["base_metrics"]["loss"]
    assert card["metrics"]["perplexity"] == pytest.approx(torch.tensor(card["metrics"]["loss"]).exp().item(), rel=1e-4)
    assert card["metrics"]["token_accuracy"] > 0.9 > 0.8 > card["base_metrics"]["token_accuracy"]
    # An exact match needs the stop token to have been learned: who does not stop says more than was expected.
    assert card["metrics"]["exact_match"] > 0.9
    assert card["base_metrics"]["exact_match"] == 0
    low, high = card["intervals"]["loss"]["difference"]
    assert low <= high < 0
    assert "better" in card["verdict"]
    statistics = card["training_statistics"]
    assert statistics["final_val_loss"] == min(card["loss_curve"]["val_loss"])
    # The held-out loss of the weights that were kept, counted by another piece of code on the same rows.
    assert card["metrics"]["loss"] == pytest.approx(statistics["final_val_loss"], rel=1e-4)
    samples = [json.loads(line) for line in (directory / "artifacts/samples.jsonl").read_text().splitlines()]
    assert len(samples) == 16
    right = [sample["tuned_output"] == sample["expected"] for sample in samples]
    assert sum(right) / 16 == pytest.approx(card["metrics"]["exact_match"])


def test_conversations_are_learned_at_every_answer(train: Callable[..., Trained]) -> None:
    names = {"red": "cat", "blue": "dog"}
    talks = [
        {
            "messages": [
                {"role": "user", "content": f"{first} {n}"},
                {"role": "assistant", "content": names[first]},
                {"role": "user", "content": f"{second} {n}"},
                {"role": "assistant", "content": names[second]},
            ]
        }
        for n in range(24)
        for first, second in (("red", "blue"), ("blue", "red"))
    ]
    _, events = train(talks, kind=DatasetKind.MESSAGES, eval_fraction=0.2, max_length=128, **LEARNS)
    prepared = last(events, "prepared")
    tokens = len(names["red"].split()) + 1
    assert prepared["learned_tokens"] >= prepared["train_examples"] * 2 * tokens
    card = last(events)["evaluation"]
    assert card["metrics"]["token_accuracy"] > 0.9
    assert card["metrics"]["exact_match"] > card["base_metrics"]["exact_match"]


def test_text_is_learned_whole(train: Callable[..., Trained]) -> None:
    texts = [{"text": f"the {n % 7} red cat and the {n} blue bird are {n % 7} animals"} for n in range(60)]
    _, events = train(texts, kind=DatasetKind.TEXT, **LEARNS)
    prepared = last(events, "prepared")
    # All but the first token of each text.
    assert prepared["learned_tokens"] == prepared["tokens"] - prepared["train_examples"]
    card = last(events)["evaluation"]
    assert card["metrics"]["loss"] < 0.6 * card["base_metrics"]["loss"]
    assert card["rows_generated"] == 0
    assert "exact_match" not in card["metrics"]


def test_a_tuned_model_is_tuned_again(train: Callable[..., Trained], bases: dict[str, Path], tmp_path: Path) -> None:
    """The second training starts where the first ended, and keeps what it does not touch."""
    first, events = train(task_rows(160), name="first", eval_fraction=0.2, **LEARNS)
    before = last(events)["evaluation"]["metrics"]["loss"]
    base = ModelRef(
        model_id="tuned", name="Tuned", path=str(bases["llama"]), adapters=(str(first / "artifacts/adapter"),)
    )
    second, again = train(
        task_rows(160), name="second", eval_fraction=0.2, base=base, **LEARNS | {"learning_rate": 1e-4, "epochs": 1}
    )
    card = last(again)["evaluation"]
    assert card["base_metrics"]["loss"] == pytest.approx(before, rel=1e-3)
    assert last(again)["model"]["base_model"] == {"id": "tuned", "name": "Tuned", "adapters": 1}
    assert "earlier adapter" in (second / "artifacts/adapter/README.md").read_text()


# -- what the words mean


def test_batch_size_is_the_effective_batch(train: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is cut for the machine, a step learns from `batch_size` rows and its loss is theirs."""
    monkeypatch.setattr("slm.events.BEAT_INTERVAL", 0)
    whole, events = train(task_rows(44), name="whole", per_device_train_batch_size=8, **LEARNS | {"epochs": 1})
    _, cut = train(task_rows(44), name="cut", per_device_train_batch_size=3, **LEARNS | {"epochs": 1})
    prepared = last(events, "prepared")
    assert (prepared["train_examples"], prepared["steps_per_epoch"]) == (40, 5)
    assert len(losses(events)) == len(losses(cut)) == 5
    assert losses(cut) == pytest.approx(losses(events), rel=1e-3)
    assert (last(events, "started")["micro_batch"], last(events, "started")["accumulation"]) == (8, 1)
    assert (last(cut, "started")["micro_batch"], last(cut, "started")["accumulation"]) == (3, 3)
    beats = [event for event in cut if event["type"] == "beat" and event["phase"] == "training"]
    assert {event["micro_steps"] for event in beats} == {3}
    assert whole.is_dir()


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_the_same_spec_gives_the_same_curve_and_weights(train: Callable[..., Trained], adapter: str) -> None:
    config = LEARNS | {"epochs": 2, "adapter": adapter, "lora_dropout": 0.1}
    one, other, another = (
        train(name=name, seed=seed, **config) for name, seed in (("one", 3), ("other", 3), ("another", 4))
    )
    assert losses(one[1]) == losses(other[1]) != losses(another[1])
    assert weights(one[0]) == weights(other[0]) != weights(another[0])


def test_the_loss_is_that_of_the_answer_alone(train: Callable[..., Trained]) -> None:
    """Noise in the question costs nothing once the answer is known; learned as text, it costs for ever."""
    dice = random.Random(0)
    rows = [{"prompt": " ".join(dice.choice("abcdefghij") for _ in range(8)), "completion": "cat"} for _ in range(96)]
    _, answers = train(rows, name="answers", **LEARNS)
    texts = [{"text": f"{row['prompt']} {row['completion']}"} for row in rows]
    _, everything = train(texts, name="texts", kind=DatasetKind.TEXT, **LEARNS)
    assert last(answers)["evaluation"]["metrics"]["loss"] < 0.1
    assert last(everything)["evaluation"]["metrics"]["loss"] > 0.5


def test_max_steps_ends_it(train: Callable[..., Trained]) -> None:
    _, events = train(max_steps=3, **LEARNS)
    assert len(losses(events)) == 3
    assert last(events, "prepared")["total_steps"] == 3
    curve = last(events)["evaluation"]["loss_curve"]
    assert curve["epochs"] == [round(3 / 9, 4)]
    assert last(events)["evaluation"]["training_statistics"]["total_steps"] == 3


def drawn_by_lot() -> list[dict[str, str]]:
    """Answers that can be memorised, never foretold: validation turns up."""
    dice = random.Random(1)
    words = ("cat", "dog", "bird", "one", "two")
    return [{"prompt": f"red {n}?", "completion": dice.choice(words)} for n in range(48)]


def test_without_patience_it_goes_its_whole_way(train: Callable[..., Trained]) -> None:
    config = LEARNS | {"epochs": 8, "learning_rate": 3e-2, "early_stopping_patience": None}
    _, events = train(drawn_by_lot(), eval_fraction=0.3, adapter="full", **config)
    card = last(events)["evaluation"]
    curve = card["loss_curve"]["val_loss"]
    assert curve.index(min(curve)) < len(curve) - 4, "it would have ended by the usual three"
    assert card["training_statistics"]["total_steps"] == card["training_statistics"]["planned_steps"]
    assert not card["training_statistics"]["stopped_early"]


def test_early_stopping_keeps_the_best(train: Callable[..., Trained]) -> None:
    """Training ends where validation turns up, the best is kept."""
    _, events = train(drawn_by_lot(), eval_fraction=0.3, adapter="full",
                      **LEARNS | {"epochs": 60, "learning_rate": 1e-2, "early_stopping_patience": 2})  # fmt: skip
    assert "stopped_early" in warnings(events)
    card = last(events)["evaluation"]
    statistics, curve = card["training_statistics"], card["loss_curve"]["val_loss"]
    assert statistics["stopped_early"]
    assert statistics["total_steps"] < statistics["planned_steps"]
    best = curve.index(min(curve))
    assert len(curve) == best + 3
    assert statistics["best_step"] == (best + 1) * last(events, "prepared")["steps_per_epoch"]
    assert card["metrics"]["loss"] == pytest.approx(min(curve), rel=1e-4)


# -- which rows


def test_an_evaluation_dataset_is_scored_and_nothing_is_split_off(train: Callable[..., Trained]) -> None:
    _, events = train(task_rows(40), held_out=task_rows(60)[40:], epochs=1)
    prepared = last(events, "prepared")
    assert (prepared["train_examples"], prepared["eval_examples"]) == (40, 20)
    card = last(events)["evaluation"]
    assert (card["rows_scored"], card["rows_available"], card["rows_chosen"]) == (20, 20, "all")


def test_more_rows_than_the_cap_are_drawn_by_seed_and_it_says_so(train: Callable[..., Trained]) -> None:
    _, events = train(task_rows(40), held_out=task_rows(60)[40:], epochs=1, eval_max_rows=7, seed=5)
    card = last(events)["evaluation"]
    assert (card["rows_scored"], card["rows_available"]) == (7, 20)
    assert card["rows_chosen"] == "drawn at random with seed 5"


def test_without_held_out_rows_nothing_is_claimed(train: Callable[..., Trained]) -> None:
    _, events = train(task_rows(16), eval_fraction=0, epochs=1)
    assert "no_held_out" in warnings(events)
    card = last(events)["evaluation"]
    assert (card["metrics"], card["rows_scored"]) == ({}, 0)
    assert card["verdict"] == "No rows were held out, so nothing was scored."
    assert card["loss_curve"]["val_loss"] == [None]


def test_what_is_cut_or_left_out_is_counted_with_its_lines(train: Callable[..., Trained]) -> None:
    rows = task_rows(20)
    rows[3]["completion"] = "cat " * 60  # cut inside its answer
    rows[5]["prompt"] = "dog " * 200  # nothing of its answer fits
    rows[7]["completion"] = ""
    _, events = train(rows, eval_fraction=0, epochs=1)
    prepared = last(events, "prepared")
    assert (prepared["truncated"], prepared["dropped"], prepared["train_examples"]) == (1, 2, 18)
    said = warnings(events)
    assert "1 examples" in said["truncated"] or "1 example" in said["truncated"]
    assert "line 4" in said["truncated"]
    assert "line 6" in said["dropped"]
    assert "line 8" in said["dropped"]
    statistics = last(events)["evaluation"]["training_statistics"]
    assert (statistics["truncated"], statistics["dropped"]) == (1, 2)


# -- the story it tells


def test_phases_come_in_order_and_life_shows_within_each(
    train: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slm.events.BEAT_INTERVAL", 0)
    directory, events = train()
    assert [event["phase"] for event in events if event["type"] == "phase"] == [
        "preparing", "loading", "training", "evaluating", "saving",
    ]  # fmt: skip
    assert events[-1]["type"] == "finished"
    steps = [event for event in events if event["type"] == "step"]
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    assert [step["eta_seconds"] is None for step in steps[:4]] == [True, True, False, False]
    assert steps[-1]["eta_seconds"] == 0
    assert all(step["tokens_per_second"] > 0 for step in steps)
    assert {event["phase"] for event in events_of(directory, "beat")} >= {"loading", "training"}
    assert last(events, "started")["versions"].keys() >= {"python", "torch", "transformers", "peft"}


def test_artifacts_are_listed_complete_and_name_no_path_of_the_machine(
    train: Callable[..., Trained], tmp_path: Path
) -> None:
    directory, events = train(epochs=1)
    listed = last(events)["artifacts"]
    on_disk = {
        path.relative_to(directory).as_posix() for path in (directory / "artifacts").rglob("*") if path.is_file()
    }
    assert {entry["path"] for entry in listed} == on_disk
    assert {entry["kind"] for entry in listed} >= {"adapter", "samples", "evaluation"}
    for path in on_disk:
        content = (directory / path).read_bytes()
        assert str(tmp_path).encode() not in content, path
        assert (directory / path).stat().st_mode & 0o777 == 0o644
    assert not list(directory.glob(".tmp-*"))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks transformers for it
@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_the_artifact_loads_without_us_and_answers_the_same(
    train: Callable[..., Trained], bases: dict[str, Path], adapter: str
) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory, events = train(adapter=adapter, **LEARNS | {"learning_rate": 5e-3})
    made = last(events)["model"]
    folder = directory / made["path"]
    if adapter == "lora":
        base = AutoModelForCausalLM.from_pretrained(bases["llama"])
        model = PeftModel.from_pretrained(base, folder).merge_and_unload()
        (file,) = folder.glob("*.safetensors")
        assert made["trainable_parameters"] == sum(tensor.numel() for tensor in load_file(file).values())
    else:
        model = AutoModelForCausalLM.from_pretrained(folder)
        assert made["trainable_parameters"] == made["parameters_count"]
    assert model.num_parameters() == tiny_model("llama", hidden=64).num_parameters()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    sample = json.loads((directory / "artifacts/samples.jsonl").read_text().splitlines()[0])
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": sample["prompt"]}], add_generation_prompt=True, return_tensors="pt",
        return_dict=True,
    )  # fmt: skip
    out = model.generate(**prompt, max_new_tokens=8, do_sample=False)
    answer = tokenizer.decode(out[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    assert answer.startswith(sample["tuned_output"])


# -- what cannot be


def test_a_file_without_anything_to_learn_fails_before_weights_are_loaded(train: Callable[..., Trained]) -> None:
    rows = [{"prompt": "cat " * 200, "completion": "dog"} for _ in range(4)]
    _, events = train(rows, code=run.FAILED)
    failed = last(events, "failed")
    assert failed["code"] == "nothing_to_learn"
    assert "max_length" in failed["message"]
    assert "loading" not in [event.get("phase") for event in events if event["type"] == "phase"]


def test_a_changed_file_is_not_learned_from(train: Callable[..., Trained], tmp_path: Path) -> None:
    directory, _ = train(epochs=1)
    data = Path(json.loads((directory / "run.json").read_text())["train"]["path"])
    data.write_text(data.read_text().replace("cat", "cow"))
    again = make_run(tmp_path / "again", run.load_spec(directory))  # type: ignore[arg-type]
    assert run.main(again) == run.FAILED
    assert last(events_of(again), "failed")["code"] == "data_changed"


def test_absent_weights_and_strange_models_are_refused_in_words(train: Callable[..., Trained], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    absent = ModelRef(model_id="absent", name="Absent", path=str(empty))
    _, events = train(name="absent", base=absent, code=run.FAILED)
    assert last(events, "failed")["code"] == "weights_missing"
    encoder = tmp_path / "encoder"
    base_folder(tmp_path).rename(encoder)
    config = json.loads((encoder / "config.json").read_text())
    (encoder / "config.json").write_text(json.dumps(config | {"architectures": ["Unheard"], "model_type": "unheard"}))
    strange = ModelRef(model_id="strange", name="Strange", path=str(encoder))
    _, events = train(name="strange", base=strange, code=run.FAILED)
    error = last(events, "failed")
    assert error["code"] == "model_unsupported"
    assert "Strange" in error["message"]


def test_a_second_process_on_a_held_directory_leaves_it_alone(train: Callable[..., Trained], tmp_path: Path) -> None:
    from slm.events import RunLock

    directory, events = train(epochs=1)
    lock = RunLock(directory)
    assert lock.acquire()
    try:
        assert run.main(directory) == run.TEMPORARY
    finally:
        lock.release()
    assert events_of(directory) == events
    # Free again: the attempt has ended, so there is nothing to do, and it says how it ended.
    assert run.main(directory) == run.FINISHED
    assert events_of(directory) == events


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "out_of_memory"),
        (MemoryError(), "out_of_memory"),
        (OSError(28, "No space left on device"), "disk_full"),
        (RuntimeError("unexpected file write: No space left on device"), "disk_full"),
        (ZeroDivisionError("a defect"), "unexpected"),
    ],
)
def test_what_the_machine_lacks_is_told_apart_from_a_defect(
    train: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch, error: Exception, code: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("slm.train.loop.Loop.training_step", fail)
    directory, events = train(code=run.FAILED)
    assert last(events, "failed")["code"] == code
    assert not (directory / "artifacts").exists()


def test_a_full_disk_is_told_before_training_and_while_saving(
    train: Callable[..., Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    from slm import checkpoints

    usage = checkpoints.shutil.disk_usage("/")
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    _, events = train(name="before", code=run.FAILED)
    assert last(events, "failed")["code"] == "disk_full"
    assert not losses(events)
    monkeypatch.undo()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints, "_sync", full)
    directory, events = train(name="while", code=run.FAILED)
    assert last(events, "failed")["code"] == "disk_full"
    assert list((directory / "checkpoints").iterdir()) == []
