"""`dpo` on tiny models: it turns a preference around, and its numbers are those of the reference implementation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import base_folder, events_of, make_run, make_spec, result, task_rows, taught_folder, write_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from slm import checkpoints, run
from slm.data.examples import Message, Preference, PromptCompletion
from slm.data.render import IGNORED, Dropped, Rendered
from slm.methods import METHODS
from slm.methods.dpo import PairRenderer
from slm.spec import DatasetKind, Method

DPO = METHODS[Method.DPO]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return base_folder(tmp_path_factory.mktemp("base"))


def pairs(count: int, *, start: int = 0) -> list[dict[str, str]]:
    """Another animal than the taught base's own, which is the worse answer."""
    right, base = task_rows(start + count), task_rows(start + count, turned=1)
    rows = [
        {"prompt": good["prompt"], "chosen": good["completion"], "rejected": bad["completion"]}
        for good, bad in zip(right, base, strict=True)
    ]
    return rows[start:]


def rendered(base: Path, examples: list[Preference], *, max_length: int = 64) -> list[Rendered]:
    renderer = PairRenderer(AutoTokenizer.from_pretrained(base), max_length=max_length)
    found = [renderer.render(example, line) for line, example in enumerate(examples, 1)]
    return [row for row in found if isinstance(row, Rendered)]


def preference(prompt: str, chosen: str, rejected: str) -> Preference:
    return Preference((Message("user", prompt),), chosen, rejected)


def model_of(base: Path, *, shaken: float = 0.0) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(shaken * torch.randn_like(parameter))
    return model


# -- learning


@pytest.mark.parametrize("adapter", ["lora", "full"])
def test_a_preference_is_turned_around(tmp_path: Path, adapter: str) -> None:
    """On prompts it never saw: above chance, above the shorter answer, and above the base, which prefers the other."""
    base = taught_folder(tmp_path, "llama")
    held_out = pairs(40, start=160)
    data = write_rows(tmp_path / "pairs.jsonl", pairs(160), DatasetKind.PREFERENCE)
    other = write_rows(tmp_path / "held.jsonl", held_out, DatasetKind.PREFERENCE)
    rate = {"lora": 5e-3, "full": 2e-3}[adapter]
    config = {"adapter": adapter, "learning_rate": rate, "epochs": 4, "batch_size": 8}
    spec = make_spec(base, data, held_out=other, **config)
    assert spec.config.method is Method.DPO
    directory = make_run(tmp_path / "run", spec)
    assert run.main(directory) == run.FINISHED
    steps = [event["loss"] for event in events_of(directory, "step")]
    assert steps[0] == pytest.approx(math.log(2), abs=1e-4), "before it has learned it is its own base"
    assert sum(steps[-5:]) < 0.7 * sum(steps[:5])
    (ended,) = events_of(directory, "finished")
    card = ended["evaluation"]
    shorter = sum(len(row["chosen"]) < len(row["rejected"]) for row in held_out) / len(held_out)
    assert card["base_metrics"]["preference_accuracy"] < 0.2
    assert card["metrics"]["preference_accuracy"] > max(0.9, shorter)
    assert card["base_metrics"]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert card["base_metrics"]["reward_margin"] == pytest.approx(0, abs=1e-4)
    assert card["base_metrics"]["reward_accuracy"] == 0.5
    assert card["metrics"]["reward_margin"] > 0.5
    assert card["metrics"]["reward_accuracy"] > 0.9
    # The result, loaded back and compared with its base, is as good as it was said to be.
    rows = rendered(base, [preference(row["prompt"], row["chosen"], row["rejected"]) for row in held_out])
    rows = DPO.refer(AutoModelForCausalLM.from_pretrained(base).eval(), rows, beta=0.1)
    tuned = checkpoints.load_base(result(directory, base, Method.DPO), directory).eval()
    assert DPO.measure(tuned, rows).tallies["loss"].value == pytest.approx(card["metrics"]["loss"], rel=1e-2)


# -- its numbers


EXAMPLES = [
    preference("What is red?", "cat", "The answer is dog."),
    preference("What is the colour of blue? " * 3, "The answer is three animal", "two"),
    preference("one", "red green blue cat", "bird"),
    Preference(
        (Message("user", "one"), Message("assistant", "two"), Message("user", "three")), "number", "animal animal"
    ),
]


@pytest.mark.filterwarnings("ignore")  # those of another library are not ours to mend
def test_loss_and_metrics_are_those_of_trl(llama: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    base, policy, beta = model_of(llama), model_of(llama, shaken=0.05), 0.3
    rows = DPO.refer(base, rendered(llama, EXAMPLES), beta=beta)
    measured = DPO.measure(policy, rows).tallies
    inputs = DPO.collate(rows, pad_id=2)
    loss = DPO.loss_sum(policy, inputs).item() / len(rows)

    arguments = DPOConfig(
        output_dir=str(tmp_path), beta=beta, use_cpu=True, bf16=False, gradient_checkpointing=False, report_to=[],
        precompute_ref_log_probs=False, max_length=None,
    )  # fmt: skip
    trainer = DPOTrainer(
        model=policy, ref_model=base, args=arguments, processing_class=AutoTokenizer.from_pretrained(llama),
        train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
    )  # fmt: skip
    policy.eval()
    order = torch.tensor([*range(0, 2 * len(rows), 2), *range(1, 2 * len(rows), 2)])  # chosen first, then rejected
    theirs = {
        "input_ids": inputs["input_ids"][order],
        "attention_mask": inputs["attention_mask"][order],
        "completion_mask": (inputs["labels"][order] != IGNORED).long(),
    }
    with torch.no_grad():
        their_loss = trainer._compute_loss(trainer.model, theirs, return_outputs=False)
    said = trainer._metrics["eval"]
    assert loss == pytest.approx(their_loss.item(), abs=1e-5)
    assert measured["loss"].value == pytest.approx(their_loss.item(), abs=1e-5)
    assert measured["reward_margin"].value == pytest.approx(said["rewards/margins"][0], abs=1e-5)
    assert measured["reward_accuracy"].value == pytest.approx(said["rewards/accuracies"][0], abs=1e-5)
    assert max(abs(measured["reward_margin"].top)) > 0.1


def test_a_batch_that_shares_its_prompts_gives_the_same_loss(llama: Path) -> None:
    policy = model_of(llama, shaken=0.05)
    rows = DPO.refer(model_of(llama), rendered(llama, EXAMPLES[:3]), beta=0.1)
    plain = DPO.loss_sum(policy, DPO.collate(rows, pad_id=2)).item()
    width = DPO.sharing_width(policy.config, device="cpu")
    shared = DPO.collate(rows, pad_id=2, share=width)
    assert "owners" in shared
    assert DPO.loss_sum(policy, shared).item() == pytest.approx(plain, rel=1e-5)


def test_only_the_answers_count(llama: Path) -> None:
    (row,) = rendered(llama, EXAMPLES[3:])
    tokenizer = AutoTokenizer.from_pretrained(llama)
    assert row.rejected is not None
    for side, answer in ((row, "number"), (row.rejected, "animal animal")):
        learned = [token for token, label in zip(side.input_ids, side.labels, strict=True) if label != IGNORED]
        assert tokenizer.decode(learned) == f"{answer}<|im_end|>"
    assert row.size == len(row.input_ids) + len(row.rejected.input_ids)
    assert row.prompt_ids == row.rejected.prompt_ids


def test_the_base_of_its_own_has_no_margin(llama: Path) -> None:
    measured = DPO.measure(model_of(llama), rendered(llama, EXAMPLES)).tallies
    assert measured["reward_margin"].value == 0
    assert measured["reward_accuracy"].value == 0.5
    assert measured["loss"].value == pytest.approx(math.log(2))


# -- rows


def test_pairs_that_cannot_be_compared_are_dropped_with_a_reason(llama: Path) -> None:
    renderer = PairRenderer(AutoTokenizer.from_pretrained(llama), max_length=48)
    alike = renderer.render(preference("one", "red " * 60 + "cat", "red " * 60 + "dog"), 1)
    assert alike == Dropped(1, "The two answers differ only beyond max_length.")
    long = renderer.render(preference("one " * 60, "cat", "dog"), 2)
    assert isinstance(long, Dropped)
    assert "prompt alone fills max_length" in long.reason
    assert isinstance(renderer.render(PromptCompletion("a", "b"), 3), Dropped)


def test_two_texts_without_a_prompt_are_compared_whole(llama: Path) -> None:
    (row,) = rendered(llama, [Preference((), "red cat", "blue dog")])
    assert row.rejected is not None
    assert row.learned == row.size - 2


def test_the_base_is_asked_once_in_a_runs_life(tmp_path: Path, llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_rows(tmp_path / "pairs.jsonl", pairs(16), DatasetKind.PREFERENCE)
    directory = make_run(tmp_path / "run", make_spec(llama, data, epochs=1, max_steps=1))
    assert run.main(directory) == run.FINISHED
    kept = json.loads((directory / "references.json").read_text())
    assert len(kept["train"]) + len(kept["held_out"]) == 16

    def refer(*_arguments: Any, **_keywords: Any) -> Any:
        raise AssertionError("asked again")

    monkeypatch.setattr(type(DPO), "refer", refer)
    again = make_run(tmp_path / "again", make_spec(llama, data, epochs=1, max_steps=1))
    (again / "references.json").write_bytes((directory / "references.json").read_bytes())
    assert run.main(again) == run.FINISHED
