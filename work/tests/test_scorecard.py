"""What a scorecard says, and what it must never say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_client import EvaluationDetail, Sample

import recorded
from components import scorecard


def card(**changes: Any) -> EvaluationDetail:
    return EvaluationDetail.read(recorded.evaluation(**changes))


def sample(base: dict[str, float], tuned: dict[str, float]) -> Sample:
    return Sample.read({"row": 2, "scores": {"base": base, "tuned": tuned}})


@given(low=st.floats(-5, 5), width=st.floats(0, 5), name=st.sampled_from([*scorecard.METRICS]))
def test_nothing_is_called_better_while_its_interval_holds_zero(low: float, width: float, name: str) -> None:
    word = scorecard.judged(name, [low, low + width])
    assert (word == scorecard.UNCLEAR) == (low <= 0 <= low + width)


def test_less_loss_is_better_and_less_accuracy_is_worse() -> None:
    assert scorecard.judged("loss", [-1.9, -1.6]) == scorecard.BETTER
    assert scorecard.judged("accuracy", [-0.2, -0.1]) == scorecard.WORSE
    assert scorecard.judged("accuracy", None) == ""


def test_every_metric_has_base_tuned_difference_and_each_baseline() -> None:
    shots = {"metrics": {"json_valid": 0.5}, "intervals": {"json_valid": [0.4, 0.6]}}
    intervals = {"json_valid": {"base": [0.0, 0.1], "tuned": [0.9, 1.0], "difference": [0.85, 1.0]}}
    rows = scorecard.rows(card(baselines={"few_shot": shots}, intervals=intervals))
    assert [row["metric"] for row in rows] == ["Valid JSON", "Loss"]
    assert rows[0] == {
        "metric": "Valid JSON",
        "base": "0.0 %",
        "tuned": "100.0 %",
        "difference": "+85.0 % to +100.0 %",
        "judged": "better",
        "Base with examples": "50.0 %",
    }
    assert rows[1]["Base with examples"] == "–"
    assert {row["judged"] for row in scorecard.rows(card(intervals={}))} == {""}


def test_a_base_scored_alone_has_no_column_of_a_base() -> None:
    rows = scorecard.rows(card(base_metrics={}, intervals={}))
    assert all({"base", "difference", "judged"}.isdisjoint(row) for row in rows)


def test_the_task_comes_first_the_losses_last_and_f1_is_not_said_twice() -> None:
    assert scorecard.ordered(["loss", "token_f1", "f1", "brand_new", "accuracy"]) == [
        "accuracy",
        "f1",
        "loss",
        "brand_new",
    ]


def test_points_of_the_picture_carry_what_is_read_on_hover() -> None:
    points = scorecard.interval_points(card())
    loss = [point for point in points if point["metric"] == "Loss"]
    assert [(point["who"], point["low"], point["high"]) for point in loss] == [
        ("base", 1.7, 2.0),
        ("tuned", 0.05, 0.09),
    ]
    assert loss[0]["interval"] == "1.7 to 2"
    drawn = scorecard.interval_chart(loss).to_dict()
    assert [layer["mark"]["type"] for layer in drawn["layer"]] == ["rule", "point"]
    assert drawn["layer"][1]["encoding"]["x"]["axis"]["format"] == ",.3~r"
    assert drawn["layer"][1]["encoding"]["color"]["scale"]["domain"] == ["base", "tuned"]


def test_who_is_which_colour_is_said_once_and_names_are_text() -> None:
    shown = scorecard.legend(["base", "tuned", "<b>"])
    assert shown.count('class="shown"') == 3
    assert "<b>" not in shown
    assert scorecard.colour_of("majority") not in {scorecard.colour_of("base"), scorecard.colour_of("tuned")}


def test_a_confusion_matrix_has_a_cell_for_each_pair_and_numbers_while_they_can_be_read() -> None:
    drawn = scorecard.confusion_chart(["a", "b"], [[3, 1], [0, 4]]).to_dict()
    assert len(drawn["layer"]) == 2
    (cells,) = drawn["datasets"].values() if "datasets" in drawn else [drawn["data"]["values"]]
    assert {(cell["true"], cell["given"]): cell["rows"] for cell in cells} == {
        ("a", "a"): 3,
        ("a", "b"): 1,
        ("b", "a"): 0,
        ("b", "b"): 4,
    }
    many = [str(n) for n in range(30)]
    assert "layer" not in scorecard.confusion_chart(many, [[0] * 30] * 30).to_dict()


def test_differences_are_marked_and_nothing_of_an_answer_becomes_markup() -> None:
    assert scorecard.marked("refund now", "refund now") == "refund now"
    shown = scorecard.marked("priority high", "priority <b>low</b>")
    assert "<b>" not in shown
    assert '<del title="missing">high</del>' in shown
    assert "&lt;" in shown
    assert scorecard.marked("gone", "") == '<del title="missing">gone</del>'


@given(expected=st.text(max_size=60), output=st.text(max_size=60))
def test_marks_lose_no_letter_of_the_answer(expected: str, output: str) -> None:
    import html
    import re

    shown = scorecard.marked(expected, output)
    without = re.sub(r"<del[^>]*>.*?</del>", "", shown, flags=re.DOTALL)
    assert html.unescape(re.sub(r"</?ins[^>]*>", "", without)) == output


@pytest.mark.parametrize(
    ("base", "tuned", "expected"),
    [
        ({"exact_match": 1.0}, {"exact_match": 0.0}, True),
        ({"exact_match": 0.0, "token_f1": 0.9}, {"exact_match": 0.0, "token_f1": 0.2}, True),
        ({"exact_match": 0.0, "token_f1": 0.9}, {"exact_match": 1.0, "token_f1": 0.2}, False),
        ({"exact_match": 1.0}, {"exact_match": 1.0}, False),
        ({}, {}, False),
    ],
)
def test_a_row_is_lost_where_the_base_did_better(base: Any, tuned: Any, *, expected: bool) -> None:
    assert scorecard.lost(sample(base, tuned)) is expected


def test_overlap_is_said_in_words_and_only_where_there_is_some() -> None:
    none = {"exact": 0, "normalised": 0, "near": 0, "rows": 64, "rows_without": None}
    assert scorecard.overlap_sentence(none) == scorecard.overlap_sentence(None) == ""
    some = none | {"exact": 3, "near": 1, "rows_without": 60}
    assert scorecard.overlap_sentence(some) == (
        "Of 64 held-out rows, training rows repeat 3 exactly, 1 nearly. Without them 60 rows remain."
    )


def test_planned_stands_beside_actual() -> None:
    planned = {"steps": {"value": 60, "basis": "formula"}, "seconds": {"value": 100, "basis": "formula"}}
    actual = {"steps": 60, "seconds": 128.4, "memory_bytes": 1_900_000_000}
    assert scorecard.planned_rows(planned, actual) == [
        {"": "Steps", "planned": "60", "actual": "60"},
        {"": "Time", "planned": "1 min 40 s", "actual": "2 min 08 s"},
        {"": "Memory", "planned": "–", "actual": "1.9 GB"},
    ]
    assert scorecard.planned_rows(None, actual) == []


def test_labels_have_the_tuned_models_figures_beside_the_bases_f1() -> None:
    entry = {
        "label": "late",
        "support": 12,
        "base": {"f1": 0.1},
        "tuned": {"precision": 1.0, "recall": 0.5, "f1": 0.66},
    }
    assert scorecard.class_rows([entry]) == [
        {"label": "late", "rows": 12, "precision": 1.0, "recall": 0.5, "f1": 0.66, "base_f1": 0.1}
    ]
