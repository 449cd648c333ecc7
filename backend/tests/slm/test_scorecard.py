"""The scorecard of a real training: both models on the same untouched rows, baselines, overlap, and a verdict."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tiny_models import base_folder, events_of, make_run, make_spec, task_rows, taught_folder, write_rows

from slm import run
from slm.metrics import METRIC_NOTES
from slm.spec import DatasetKind

LEARNS: dict[str, Any] = {"epochs": 8, "learning_rate": 4e-3, "early_stopping_patience": None, "batch_size": 8}


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught_folder(tmp_path_factory.mktemp("taught"), "llama")


def card_of(
    folder: Path,
    base: Path,
    rows: list[dict[str, Any]],
    *,
    held_out: list[dict[str, Any]] | None = None,
    kind: DatasetKind = DatasetKind.PROMPT_COMPLETION,
    **config: Any,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The evaluation of a training and its samples."""
    data = write_rows(folder / "train.jsonl", rows, kind)
    other = write_rows(folder / "held-out.jsonl", held_out, kind) if held_out is not None else None
    directory = make_run(folder / "run", make_spec(base, data, held_out=other, **config))
    assert run.main(directory) == run.FINISHED, (directory / "events.jsonl").read_text()
    (ended,) = events_of(directory, "finished")
    lines = (directory / "artifacts" / "samples.jsonl").read_text().splitlines()
    return ended["evaluation"], [json.loads(line) for line in lines]


def test_answers_are_scored_beside_the_base_and_few_shot_prompting(taught: Path, tmp_path: Path) -> None:
    rows = task_rows(110)
    card, samples = card_of(
        tmp_path, taught, rows[:80], held_out=rows[80:], generate_max_rows=20, max_new_tokens=12, **LEARNS
    )
    answered = {"exact_match", "token_f1", "f1", "rouge_l", "chrf"}
    assert set(card["metrics"]) == {"loss", "perplexity", "token_accuracy"} | answered
    assert set(card["base_metrics"]) == set(card["metrics"]) == set(card["intervals"])
    assert set(card["metric_notes"]) == set(card["metrics"]) <= set(METRIC_NOTES)
    for name, bounds in card["intervals"].items():
        assert bounds["tuned"][0] <= card["metrics"][name] <= bounds["tuned"][1]
        difference = card["metrics"][name] - card["base_metrics"][name]
        assert bounds["difference"][0] <= difference <= bounds["difference"][1]
    assert (card["rows_scored"], card["rows_generated"], card["rows_chosen"]) == (30, 20, "all")
    assert (card["per_class"], card["confusion"]) == (None, None)
    few_shot = card["baselines"]["few_shot"]
    assert set(few_shot["metrics"]) == set(few_shot["differences"]) == set(few_shot["intervals"]) == answered
    assert few_shot["note"] == "The base asked with 4 training examples before each question."
    assert card["overlap"]["rows"] == 30
    assert card["overlap"]["metrics_without"] is None
    # The base was taught another task: each answer it gives is the next animal's.
    assert card["metrics"]["exact_match"] > 0.9 > 0.1 > card["base_metrics"]["exact_match"]
    assert card["verdict"].startswith("The tuned model is better than its base: token F1 0.000 → ")
    assert len(samples) == 20
    for sample in samples:
        assert sample["prompt"] == rows[79 + sample["row"]]["prompt"]
        assert sample["expected"] == rows[79 + sample["row"]]["completion"]
        assert {"base_output", "tuned_output", "few_shot_output"} < set(sample)
        assert {"loss", "exact_match", "rouge_l"} <= set(sample["scores"]["tuned"])
        right = float(sample["tuned_output"] == sample["expected"])
        assert sample["scores"]["tuned"]["exact_match"] == right
    assert sum(sample["scores"]["tuned"]["loss"] for sample in samples) > 0


def test_rows_that_were_learned_are_found_and_the_rest_is_scored_again(taught: Path, tmp_path: Path) -> None:
    rows = task_rows(110)
    dressed = [row | {"prompt": row["prompt"].upper().replace("?", " ?!")} for row in rows[:3]]
    card, _ = card_of(
        tmp_path, taught, rows[:80], held_out=[*dressed, *rows[78:100]], generate_max_rows=64, max_steps=2
    )
    overlap = card["overlap"]
    assert (overlap["exact"], overlap["normalised"], overlap["near"], overlap["rows"]) == (2, 3, 0, 25)
    assert overlap["share"] == 0.2
    assert {"row": 1, "training_row": 1, "kind": "normalised"} in overlap["examples"]
    assert {"row": 4, "training_row": 79, "kind": "exact"} in overlap["examples"]
    assert overlap["rows_without"] == overlap["rows_generated_without"] == 20
    assert set(overlap["metrics_without"]) == set(card["metrics"])
    assert overlap["metrics_without"]["loss"] != card["metrics"]["loss"]
    assert set(overlap["baselines_without"]["few_shot"]["differences"]) == set(card["baselines"]["few_shot"]["metrics"])
    assert "5 of 25 rows are training rows" in card["verdict"]
    assert "on 20 rows that were not learned from" in card["verdict"]


def test_training_rows_as_evaluation_rows_measure_memory(taught: Path, tmp_path: Path) -> None:
    rows = task_rows(40)
    card, _ = card_of(tmp_path, taught, rows, held_out=rows, **LEARNS)
    assert card["overlap"]["exact"] == 40
    assert card["overlap"]["metrics_without"] == {}
    assert card["overlap"]["rows_without"] == 0
    assert card["verdict"].startswith("Memory was measured, not learning: 40 of 40 rows are training rows; ")
    assert "better" not in card["verdict"]


def test_a_split_off_part_does_not_overlap_with_itself(taught: Path, tmp_path: Path) -> None:
    card, samples = card_of(tmp_path, taught, task_rows(60), eval_fraction=0.3, max_steps=1)
    overlap = card["overlap"]
    assert overlap["exact"] == overlap["normalised"] == 0
    assert overlap["rows"] == card["rows_available"] == 18
    assert len(samples) == card["rows_generated"] == 2


def test_text_is_compared_with_the_frequencies_of_its_tokens(tmp_path: Path) -> None:
    dice = random.Random(3)
    rows = [{"text": f"the {dice.choice(['red', 'blue'])} cat sat on the {dice.choice(['mat', 'rug'])}"}
            for _ in range(60)]  # fmt: skip
    card, samples = card_of(
        tmp_path, base_folder(tmp_path), rows, kind=DatasetKind.TEXT, adapter="full", eval_fraction=0.3,
        **LEARNS | {"learning_rate": 5e-3},
    )  # fmt: skip
    assert set(card["metrics"]) == {"loss", "perplexity", "token_accuracy"}
    unigram = card["baselines"]["unigram"]
    assert set(unigram["metrics"]) == {"loss", "perplexity"}
    assert card["metrics"]["perplexity"] < unigram["metrics"]["perplexity"] < card["base_metrics"]["perplexity"]
    assert unigram["differences"]["loss"][1] < 0
    assert card["rows_generated"] == 0
    assert len(samples) == card["rows_scored"]
    assert samples[0]["prompt"] == rows[samples[0]["row"] - 1]["text"]
    assert samples[0]["tuned_output"] is None
    assert samples[0]["scores"]["tuned"]["loss"] < samples[0]["scores"]["base"]["loss"]


def test_numbers_are_scored_by_how_close_they_are(taught: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{n}?", "completion": str(n % 5)} for n in range(40)]
    card, _ = card_of(tmp_path, taught, rows, eval_fraction=0.3, generate_max_rows=12, max_steps=1)
    assert "numeric_closeness" in card["metrics"]
    assert "closeness of numbers" in card["verdict"]


def test_more_rows_than_asked_for_are_drawn_and_the_card_says_so(taught: Path, tmp_path: Path) -> None:
    rows = task_rows(100)
    card, samples = card_of(
        tmp_path, taught, rows[:40], held_out=rows[40:], eval_max_rows=12, generate_max_rows=3, max_steps=1, seed=7
    )
    assert (card["rows_scored"], card["rows_generated"], card["rows_available"]) == (12, 3, 60)
    assert card["rows_chosen"] == "drawn at random with seed 7"
    assert card["overlap"]["rows"] == 60  # a look at a row costs nothing
    assert len(samples) == 3
