"""The scorecard of a classifier: tables by label, the baselines to beat, and the same again when scored later."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tiny_models import encoder_folder, events_of, label_rows, make_run, make_spec, result, write_rows

from slm import run
from slm.spec import DatasetKind, DatasetRef, EvaluateSpec, Method, ModelRef, Scoring

ROWS = label_rows(192)
HELD_OUT = label_rows(60, start=288)


def reference(path: Path, rows: list[dict[str, str]]) -> DatasetRef:
    return write_rows(path, rows, DatasetKind.CLASSIFICATION)


@pytest.fixture(scope="module", params=["full", "lora"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """(run directory, base, scorecard) of a training on an encoder."""
    folder = tmp_path_factory.mktemp(request.param)
    base = encoder_folder(folder, hidden=48, layers=1)
    rate = {"full": 5e-3, "lora": 1e-2}[request.param]
    spec = make_spec(
        base, reference(folder / "train.jsonl", ROWS), held_out=reference(folder / "held-out.jsonl", HELD_OUT),
        adapter=request.param, learning_rate=rate, epochs=4, batch_size=16, early_stopping_patience=None,
    )  # fmt: skip
    directory = make_run(folder / "run", spec)
    assert run.main(directory) == run.FINISHED, (directory / "events.jsonl").read_text()
    (ended,) = events_of(directory, "finished")
    return directory, base, ended["evaluation"]


def test_a_classifier_is_told_label_by_label(trained: tuple[Path, Path, Any]) -> None:
    directory, _, card = trained
    assert set(card["metrics"]) == {"accuracy", "f1", "loss"} == set(card["base_metrics"]) == set(card["metric_notes"])
    truth = [row["label"] for row in HELD_OUT]
    assert {row["label"]: row["support"] for row in card["per_class"]} == Counter(truth)
    assert {"precision", "recall", "f1"} == set(card["per_class"][0]["base"]) == set(card["per_class"][0]["tuned"])
    mean = sum(row["tuned"]["f1"] for row in card["per_class"]) / len(card["per_class"])
    assert card["metrics"]["f1"] == pytest.approx(mean)
    confusion = card["confusion"]
    for side, metrics in (("base", card["base_metrics"]), ("tuned", card["metrics"])):
        assert sum(map(sum, confusion[side])) == 60
        assert [sum(line) for line in confusion[side]] == [truth.count(label) for label in confusion["labels"]]
        right = sum(confusion[side][at][at] for at in range(len(confusion["labels"])))
        assert metrics["accuracy"] == pytest.approx(right / 60)
    assert (card["rows_scored"], card["rows_generated"]) == (60, 0)
    samples = [json.loads(line) for line in (directory / "artifacts" / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 60
    for sample in samples:
        row = HELD_OUT[sample["row"] - 1]
        assert (sample["prompt"], sample["expected"]) == (row["text"], row["label"])
        assert sample["scores"]["tuned"]["accuracy"] == float(sample["tuned_output"] == row["label"])
        assert sample["base_output"] in confusion["labels"]


def test_it_is_compared_with_what_anyone_should_beat(trained: tuple[Path, Path, Any]) -> None:
    _, _, card = trained
    assert list(card["baselines"]) == ["majority", "tfidf_logreg"]
    truth = Counter(row["label"] for row in HELD_OUT)
    counts = Counter(row["label"] for row in ROWS)
    commonest = min(counts, key=lambda label: (-counts[label], label))
    assert card["baselines"]["majority"]["metrics"]["accuracy"] == pytest.approx(truth[commonest] / 60)
    for found in card["baselines"].values():
        assert set(found["metrics"]) == set(found["intervals"]) == set(found["differences"]) == {"accuracy", "f1"}
        low, high = found["differences"]["accuracy"]
        assert low <= card["metrics"]["accuracy"] - found["metrics"]["accuracy"] <= high
    assert "accuracy" in card["verdict"]
    low, high = card["intervals"]["accuracy"]["difference"]
    assert ("better" in card["verdict"]) == (low > 0)


def scored_later(directory: Path, base: Path, rows: list[dict[str, str]], tmp_path: Path) -> Any:
    """The scorecard of the trained model on other rows."""
    spec = EvaluateSpec(
        run_id="run", attempt=1, model=result(directory, base, Method.CLASSIFY), method=Method.CLASSIFY,
        base=ModelRef(model_id="base", name="Base", path=str(base)),
        dataset=reference(tmp_path / "rows.jsonl", rows), train=reference(tmp_path / "train.jsonl", ROWS),
        scoring=Scoring(max_length=64), threads=1,
    )  # fmt: skip
    again = tmp_path / "run"
    again.mkdir()
    (again / "run.json").write_text(spec.model_dump_json())
    assert run.main(again) == run.FINISHED, (again / "events.jsonl").read_text()
    (ended,) = events_of(again, "finished")
    return ended["evaluation"]


def test_scored_later_it_is_the_same(trained: tuple[Path, Path, Any], tmp_path: Path) -> None:
    directory, base, card = trained
    found = scored_later(directory, base, HELD_OUT, tmp_path)
    for key in ("metrics", "base_metrics"):
        assert found[key] == pytest.approx(card[key], abs=1e-4), key
    for key in ("per_class", "confusion", "overlap", "verdict"):
        assert found[key] == card[key], key


def test_baselines_are_compared_on_the_rows_that_were_not_learned(
    trained: tuple[Path, Path, Any], tmp_path: Path
) -> None:
    """With forty training rows among them, the verdict and its baselines are those of the sixty others alone."""
    directory, base, card = trained
    found = scored_later(directory, base, [*HELD_OUT, *ROWS[:40]], tmp_path)
    assert (found["overlap"]["exact"], found["overlap"]["rows_without"]) == (40, 60)
    for name, baseline in card["baselines"].items():
        left = found["overlap"]["baselines_without"][name]
        assert left["metrics"] == baseline["metrics"]
        assert left["differences"]["accuracy"] == baseline["differences"]["accuracy"]
        # Rows stand in another order, so that the bootstrap draws others.
        assert left["differences"]["f1"] == pytest.approx(baseline["differences"]["f1"], abs=0.05)
    majority = (made["baselines"]["majority"]["metrics"]["accuracy"] for made in (card, found))
    assert len(set(majority)) == 2, "all rows tell something else"
    alone, beside = (made["verdict"].rstrip(".").split("; ") for made in (card, found))
    assert [clause for clause in beside if "baseline" in clause or "beats" in clause] == alone[1:]
    assert beside[-1] == "40 of 100 rows are training rows"
