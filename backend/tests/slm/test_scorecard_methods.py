"""Scorecards of what is neither an answer nor a label: preferences and hidden words, after a training and later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_models import base_folder, encoder_folder, events_of, make_run, make_spec, result, task_rows, write_rows

from slm import run
from slm.metrics import METRIC_NOTES
from slm.spec import DatasetKind, DatasetRef, EvaluateSpec, Method, ModelRef, Scoring

TEXTS = [{"text": f"the {one} cat and the {other} dog"} for one in ("red", "green", "blue") for other in
         ("one", "two", "three", "red", "green", "blue", "bird", "cat")]  # fmt: skip
PAIRS = [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": "colour animal"} for row in task_rows(60)]


def samples_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "artifacts" / "samples.jsonl").read_text().splitlines()]


def card_of(directory: Path) -> dict[str, Any]:
    assert run.main(directory) == run.FINISHED, (directory / "events.jsonl").read_text()
    (ended,) = events_of(directory, "finished")
    found: dict[str, Any] = ended["evaluation"]
    return found


def scored_later(
    folder: Path,
    directory: Path,
    base: Path | None,
    method: Method,
    rows: DatasetRef,
    train: DatasetRef,
    **scoring: Any,
) -> dict[str, Any]:
    spec = EvaluateSpec(
        run_id="run", attempt=1, model=result(directory, base or Path(), method), method=method, dataset=rows,
        train=train, base=ModelRef(model_id="base", name="Base", path=str(base)) if base is not None else None,
        scoring=Scoring(**{"max_length": 64} | scoring), threads=1,
    )  # fmt: skip
    folder.mkdir()
    (folder / "run.json").write_text(spec.model_dump_json())
    return card_of(folder)


def test_preferences(tmp_path: Path) -> None:
    base = base_folder(tmp_path)
    train = write_rows(tmp_path / "train.jsonl", PAIRS[:40], DatasetKind.PREFERENCE)
    held_out = write_rows(tmp_path / "held-out.jsonl", PAIRS[40:], DatasetKind.PREFERENCE)
    directory = make_run(
        tmp_path / "run", make_spec(base, train, held_out=held_out, method="dpo", max_steps=3, learning_rate=1e-3)
    )
    card = card_of(directory)
    measured = {"loss", "preference_accuracy", "reward_margin", "reward_accuracy"}
    assert set(card["metrics"]) == measured == set(card["base_metrics"]) == set(card["metric_notes"])
    assert measured <= set(METRIC_NOTES)
    assert card["baselines"] == {}
    assert "preference accuracy" in card["verdict"]
    assert (card["rows_scored"], card["rows_generated"]) == (20, 0)
    first = samples_of(directory)[0]
    row = PAIRS[39 + first["row"]]
    assert (first["prompt"], first["expected"], first["tuned_output"]) == (row["prompt"], row["chosen"], None)
    assert first["scores"]["tuned"]["preference_accuracy"] in (0.0, 1.0)
    again = scored_later(tmp_path / "again", directory, base, Method.DPO, held_out, train)
    for side in ("metrics", "base_metrics"):
        assert again[side] == pytest.approx(card[side], abs=1e-3), side


def test_hidden_words(tmp_path: Path) -> None:
    base = encoder_folder(tmp_path)
    train = write_rows(tmp_path / "train.jsonl", TEXTS[:16], DatasetKind.TEXT)
    held_out = write_rows(tmp_path / "held-out.jsonl", TEXTS[16:], DatasetKind.TEXT)
    directory = make_run(
        tmp_path / "run", make_spec(base, train, held_out=held_out, method="mask", max_steps=3, learning_rate=1e-3)
    )
    card = card_of(directory)
    assert set(card["metrics"]) == {"loss", "perplexity", "token_accuracy"}
    unigram = card["baselines"]["unigram"]
    # Whole texts, whichever words were hidden, but for the marks and the one word that the tokenizer does not know.
    assert f" {16 * 6} training tokens" in unigram["note"]
    assert set(unigram["differences"]) == {"loss", "perplexity"}
    assert len(samples_of(directory)) == card["rows_scored"] == 8
    assert samples_of(directory)[0]["prompt"] == TEXTS[15 + samples_of(directory)[0]["row"]]["text"]
    again = scored_later(tmp_path / "again", directory, base, Method.MASK, held_out, train)
    for side in ("metrics", "base_metrics"):
        assert again[side] == pytest.approx(card[side], abs=1e-3), side
    assert again["baselines"] == card["baselines"]


@pytest.mark.parametrize("config", [{}, {"packing": True}, {"from_scratch": True}], ids=str)
def test_plain_text(tmp_path: Path, config: dict[str, Any]) -> None:
    """Texts longer than the model reads at once: cut, or in pieces, later as in the training."""
    base = base_folder(tmp_path)
    texts = [{"text": " ".join(row["text"] for row in TEXTS[at : at + 3])} for at in range(20)]
    train = write_rows(tmp_path / "train.jsonl", texts[:14], DatasetKind.TEXT)
    held_out = write_rows(tmp_path / "held-out.jsonl", texts[14:], DatasetKind.TEXT)
    asked = {"method": "pretrain", "max_length": 24, "max_steps": 3, "learning_rate": 1e-3, "adapter": "full"}
    directory = make_run(tmp_path / "run", make_spec(base, train, held_out=held_out, **asked | config))
    card = card_of(directory)
    assert set(card["metrics"]) == {"loss", "perplexity", "token_accuracy"}
    assert (card["rows_scored"] > 6) == ("packing" in config), "long texts are judged in pieces"
    scratch = "from_scratch" in config
    again = scored_later(
        tmp_path / "again", directory, None if scratch else base, Method.PRETRAIN, held_out, train, max_length=24,
        packing=config.get("packing", False),
    )  # fmt: skip
    assert again["metrics"] == pytest.approx(card["metrics"], abs=1e-3)
    assert again["base_metrics"] == ({} if scratch else pytest.approx(card["base_metrics"], abs=1e-3))
    assert again["rows_scored"] == card["rows_scored"]
    assert again["baselines"]["unigram"]["metrics"] == card["baselines"]["unigram"]["metrics"]
    assert card["overlap"]["near"] > 0
    for key in ("exact", "near", "rows_without", "metrics_without"):
        assert again["overlap"][key] == pytest.approx(card["overlap"][key], abs=1e-3), key
