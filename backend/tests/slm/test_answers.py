"""Scores of answers by their published definitions, in any script, without the network."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm import answers


@pytest.mark.parametrize(
    ("expected", "output", "score"),
    [
        ("The cat sat.", "cat sat", 1.0),  # articles, case and punctuation do not count
        ("a red cat", "a blue cat", 0.5),
        ("red cat", "red cat red cat", 2 / 3),  # repeated words are matched once each
        ("cat", "dog", 0.0),
        ("", "", 1.0),
        ("cat", "", 0.0),
        ("the", "a", 1.0),  # both are without words
    ],
)
def test_token_f1_is_squads(expected: str, output: str, score: float) -> None:
    assert answers.token_f1(expected, output) == pytest.approx(score)


def test_exact_match_forgives_only_blanks_around() -> None:
    assert answers.exact_match("Yes.", " Yes.\n") == 1.0
    assert answers.exact_match("Yes.", "yes.") == 0.0
    assert answers.exact_match("a b", "a  b") == 0.0


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", '"text"', "null", '{"a": NaN}', '{"a": Infinity}', '{"a": 1} and more', '```json\n{"a": 1}\n```',
     "[" * 100_000, '{"a":' * 100_000],
)  # fmt: skip
def test_only_a_whole_object_is_json(text: str) -> None:
    assert answers.json_object(text) is None


def test_json_fields_and_records() -> None:
    wanted = {"name": "Ann", "age": 3, "ok": True}

    def score(output: str) -> tuple[float, float, float, float]:
        found = answers.json_score(wanted, output)
        return found.valid, found.fields_right, found.fields, found.record

    assert score('{"age": 3, "ok": true, "name": "Ann"}') == (1, 3, 3, 1)  # order is free
    assert score('{"name": "Ann", "age": "3", "ok": true}') == (1, 2, 3, 0)  # a number is not a text
    assert score('{"name": "Ann", "age": 3, "ok": 1}') == (1, 2, 3, 0)  # nor is 1 true
    assert score('{"name": "Ann"}') == (1, 1, 3, 0)
    assert score('{"name": "Ann", "age": 3, "ok": true, "more": 1}') == (1, 3, 3, 0)  # nothing may be added
    assert score("Ann") == (0, 0, 3, 0)
    assert answers.json_score({"a": {"b": [1, {"c": 2}]}}, '{"a": {"b": [1, {"c": 2}]}}').record == 1


def test_json_scores_need_every_expected_answer_to_be_an_object() -> None:
    scores = answers.score_answers(['{"a": 1}', "plain"], ['{"a": 1}', "plain"])
    assert all("json_valid" not in row for row in scores)
    assert all("json_valid" not in row for row in answers.score_answers(["{}"], ["{}"]))  # no field to be right about
    assert answers.answer_tallies([]) == {}


def test_field_accuracy_weighs_fields_not_rows() -> None:
    scores = answers.score_answers(['{"a": 1}', '{"a": 1, "b": 2, "c": 3}'], ['{"a": 1}', '{"a": 9, "b": 9, "c": 9}'])
    values = {name: tally.value for name, tally in answers.answer_tallies(scores).items()}
    assert values["json_field_accuracy"] == 0.25
    assert values["json_record_accuracy"] == 0.5
    assert values["json_valid"] == 1.0
    assert values["f1"] == values["token_f1"]
    assert "accuracy" not in values


@pytest.mark.parametrize(
    ("text", "value"),
    [("42", 42.0), (" -3.5\n", -3.5), ("1,234,567.5", 1234567.5), ("+.5", 0.5), ("6.02e23", 6.02e23), ("7.", 7.0)],
)
def test_numbers_are_read(text: str, value: float) -> None:
    assert answers.number(text) == value


@pytest.mark.parametrize(
    "text", ["", ".", "+", "42 apples", "1,23", "12%", "nan", "inf", "1e999", "1_000", "4 2", "e5"]
)
def test_what_is_not_one_number_is_none(text: str) -> None:
    assert answers.number(text) is None


def test_numeric_closeness_by_its_definition() -> None:
    assert answers.numeric_closeness(100.0, "100") == 1.0
    assert answers.numeric_closeness(100.0, "90") == pytest.approx(0.9)
    assert answers.numeric_closeness(-10.0, "-11") == pytest.approx(0.9)
    assert answers.numeric_closeness(10.0, "20") == answers.numeric_closeness(10.0, "1e300") == 0.0
    assert answers.numeric_closeness(10.0, "ten") == 0.0
    assert answers.numeric_closeness(0.0, "0") == 1.0
    assert answers.numeric_closeness(0.0, "0.001") == 0.0


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
@settings(deadline=None)
def test_closeness_lies_between_nothing_and_all(expected: float, given_: float) -> None:
    assert 0.0 <= answers.numeric_closeness(expected, repr(given_)) <= 1.0


def test_closeness_needs_every_expected_answer_to_be_a_number() -> None:
    assert "numeric_closeness" in answers.score_answers(["1", "2.5"], ["1", "x"])[0]
    assert "numeric_closeness" not in answers.score_answers(["1", "two"], ["1", "2"])[0]
    values = {name: tally.value for name, tally in answers.answer_tallies(answers.score_answers(["10"], ["9"])).items()}
    assert values["numeric_closeness"] == pytest.approx(0.9)
    assert "json_valid" not in values


def test_rouge_l_is_that_of_rouge_score() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    pairs = [("the cat sat on the mat", "the mat sat on the cat"), ("A b, c. D", "b C d e"), ("x", "y"), ("x y", "")]
    wanted, said = zip(*pairs, strict=True)
    theirs = [RougeScorer(["rougeL"]).score(*pair)["rougeL"].fmeasure for pair in pairs]
    assert answers.rouge_l(wanted, said) == theirs
    assert theirs[0] == pytest.approx(4 / 6)


def test_rouge_l_reads_any_script_and_signs_alone() -> None:
    assert answers.rouge_l(["кот сидел", "das Mädchen"], ["кот сидел", "das Madchen"]) == [1.0, 0.5]
    assert answers.rouge_l(["!!!", "!!!"], ["!!!", "?"]) == [1.0, 0.0]


def test_chrf_is_sacrebleus_for_each_row() -> None:
    from sacrebleu import sentence_chrf

    wanted, said = ["the cat sat on the mat", "Straße", "a"], ["the cat sits", "Strasse", "a"]
    theirs = [sentence_chrf(one, [other]).score / 100 for one, other in zip(said, wanted, strict=True)]
    assert answers.chrf(wanted, said) == pytest.approx(theirs)
    assert answers.chrf(wanted, wanted) == pytest.approx([1.0, 1.0, 1.0])
    assert answers.chrf(["a"], [""]) == [0.0]


def test_every_metric_of_answers_is_a_mean_over_rows() -> None:
    scores = answers.score_answers(["a b", "c d"], ["a b", "x y"])
    values = {name: tally.value for name, tally in answers.answer_tallies(scores).items()}
    assert set(values) == {"exact_match", "token_f1", "f1", "rouge_l", "chrf"}
    for name in ("exact_match", "token_f1", "rouge_l", "chrf"):
        assert values[name] == pytest.approx(sum(row[name] for row in scores) / 2)
    assert all(math.isfinite(value) for value in values.values())


def test_heavy_libraries_wait_until_an_answer_is_scored() -> None:
    code = "import sys, slm.answers; print(sorted({'nltk', 'rouge_score', 'sacrebleu'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
