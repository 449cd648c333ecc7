"""A scorecard in the terminal: every number that counts, labels, baselines, overlap, and the verdict last."""

from __future__ import annotations

from typing import Any

import pytest
from slm_client import EvaluationDetail

from app.cli.scorecards import print_scorecard


def shown(capsys: pytest.CaptureFixture[str], **fields: Any) -> str:
    wire = {
        "id": "e", "experiment_id": "x", "created_at": "2026-01-01T00:00:00Z", "simulated": False,
        "metrics": {"accuracy": 0.75, "f1": 0.7}, "base_metrics": {"accuracy": 0.5, "f1": 0.4},
        "intervals": {"accuracy": {"base": [0.4, 0.6], "tuned": [0.7, 0.8], "difference": [0.1, 0.4]}},
        "rows_scored": 40, "rows_available": 40, "verdict": "The tuned model is better.",
    }  # fmt: skip
    print_scorecard(EvaluationDetail.read(wire | fields))
    return capsys.readouterr().out


def test_base_and_tuned_with_the_interval_of_the_difference(capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(capsys).splitlines()
    assert said[0].split() == ["metric", "base", "tuned", "difference", "(95", "%)"]
    assert ["accuracy", "0.5", "0.75", "+0.1", "to", "+0.4"] in [line.split() for line in said]
    assert said[-2:] == ["Scored on 40 rows.", "The tuned model is better."]


def test_baselines_stand_beside_the_model(capsys: pytest.CaptureFixture[str]) -> None:
    baselines = {"tfidf_logreg": {"metrics": {"accuracy": 0.74}, "differences": {"accuracy": [-0.1, 0.12]}}}
    lines = [line.split() for line in shown(capsys, baselines=baselines).splitlines()]
    assert ["tfidf", "logreg", "accuracy", "0.74", "0.75", "-0.1", "to", "+0.12"] in lines


def test_labels_the_commonest_first(capsys: pytest.CaptureFixture[str]) -> None:
    scores = {"precision": 0.5, "recall": 0.25, "f1": 0.33}
    rows = [{"label": name, "support": support, "base": scores, "tuned": scores | {"f1": 0.6}}
            for name, support in (("rare", 2), ("common", 30))]  # fmt: skip
    lines = [line.split() for line in shown(capsys, per_class=rows).splitlines()]
    first = lines.index(["common", "30", "0.5", "0.25", "0.6", "0.33"])
    assert lines[first + 1] == ["rare", "2", "0.5", "0.25", "0.6", "0.33"]


def test_overlap_is_told_by_kind(capsys: pytest.CaptureFixture[str]) -> None:
    overlap = {"exact": 2, "normalised": 0, "near": 3, "rows": 40, "rows_without": 35}
    assert "Overlap with the training rows: 2 exact, 3 near of 40; 35 scored rows are without." in shown(
        capsys, overlap=overlap
    )
    none = {"exact": 0, "normalised": 0, "near": 0, "rows": 40, "rows_without": None}
    assert "Overlap with the training rows: none among 40." in shown(capsys, overlap=none)
    assert "Overlap" not in shown(capsys)


def test_a_base_alone_shows_its_own_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(capsys, base_metrics={})
    assert ["accuracy", "0.75", "0.7", "to", "0.8"] in [line.split() for line in said.splitlines()]


def test_how_the_rows_were_chosen_and_that_it_is_made_up(capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(capsys, rows_available=90, rows_chosen="drawn at random with seed 3", rows_generated=8, simulated=True)
    assert "Scored on 40 of 90 rows, drawn at random with seed 3; 8 were answered in words." in said
    assert said.endswith("Simulated: these numbers are made up.\n")


def test_nothing_measured_is_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, metrics={}, base_metrics={}, rows_scored=None, verdict=None) == ""
