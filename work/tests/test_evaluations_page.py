"""The page of evaluations in each of its states, against a recording."""

from __future__ import annotations

from typing import Any

import recorded
from opening import Open, text_of
from recorded import Recorded

SAMPLES = [
    {"row": 2, "prompt": "Where is it?", "expected": "late", "base_output": "I do not know", "tuned_output": "late",
     "scores": {"base": {"exact_match": 0.0}, "tuned": {"exact_match": 1.0}}},
    {"row": 3, "prompt": "Pay me back", "expected": "refund", "base_output": "refund", "tuned_output": "broken",
     "scores": {"base": {"exact_match": 1.0}, "tuned": {"exact_match": 0.0}}},
]  # fmt: skip


def scored(api: Recorded, samples: list[dict[str, Any]] | None = None, **changes: Any) -> None:
    api.add("models", recorded.model("m2", "Tickets to JSON", model_type="fine_tuned"))
    api.add("evaluations", recorded.evaluation("v1", **changes))
    api.on("GET", "/evaluations/v1/samples", SAMPLES if samples is None else samples)


def test_the_list_names_runs_and_says_what_was_simulated(api: Recorded, open_page: Open) -> None:
    api.add("experiments", recorded.experiment("e1", "Tickets to JSON"))
    api.add("evaluations", recorded.evaluation("v1"), recorded.evaluation("v2", simulated=True, experiment_id="gone"))
    frame = open_page("evaluations").dataframe[0].value
    assert [*frame["run"]] == ["deleted", "Tickets to JSON"]
    assert [[*cell] for cell in frame["numbers"]] == [["SIMULATED"], ["measured"]]


def test_what_was_scored_by_itself_is_found_by_its_model(api: Recorded, open_page: Open) -> None:
    api.add("models", recorded.model(), recorded.model("m2", "Tickets", model_type="fine_tuned", version="1.0"))
    api.add("datasets", recorded.dataset("d7", "Other mail"))
    api.add("evaluations", recorded.evaluation("v1"), recorded.evaluation("v2", experiment_id="", dataset_id="d7"))
    page = open_page("evaluations", of="m2")
    frame = page.dataframe[0].value
    assert [*frame["data"]] == ["Other mail", "rows held out of its training data"]
    assert [*frame["rows"]] == [64, 64]
    assert "SmolLM2 135M Instruct 1.0 was not evaluated yet." in text_of(open_page("evaluations", of="m1")).replace(
        "\\", ""
    )


def test_what_was_made_here_is_offered_first_to_be_scored(api: Recorded, open_page: Open) -> None:
    api.add("models", recorded.model("m2", "Tickets", model_type="fine_tuned"), recorded.model())
    api.add("datasets", recorded.dataset())
    assert open_page("evaluations").selectbox(key="score_model").options[0].startswith("Tickets")


def test_a_scorecard_shows_verdict_metrics_and_rows(api: Recorded, open_page: Open) -> None:
    scored(api)
    page = open_page("evaluations", id="v1")
    assert not page.exception
    assert not page.error
    assert page.title[0].value.startswith("Tickets to JSON")
    words = text_of(page)
    assert "Better than the base model" in words
    assert "nothing is called better while the interval of the difference holds zero" in words
    frame = next(table.value for table in page.dataframe if "metric" in table.value)
    assert [*frame["metric"]] == ["Valid JSON", "Loss"]
    assert "Line 2" in words
    assert '<del title="missing">refund</del><ins title="not expected">broken</ins>' in words


def test_rows_that_the_tuned_model_lost_can_be_looked_at_alone(api: Recorded, open_page: Open) -> None:
    scored(api)
    page = open_page("evaluations", id="v1", rows="lost")
    assert "Line 3" in text_of(page)
    assert "Line 2" not in text_of(page)


def test_where_no_row_was_lost_that_is_said(api: Recorded, open_page: Open) -> None:
    scored(api, SAMPLES[:1])
    page = open_page("evaluations", id="v1", rows="lost")
    assert [done.value for done in page.success] == ["On no row did the base answer better than the tuned model."]


def test_simulated_numbers_are_called_made_up_before_they_are_shown(api: Recorded, open_page: Open) -> None:
    scored(api, [], simulated=True)
    page = open_page("evaluations", id="v1")
    assert page.warning[0].value == "Simulated: every number below is made up."


def test_overlap_labels_and_planned_figures_are_shown_where_there_are_some(api: Recorded, open_page: Open) -> None:
    per_class = [{"label": "late", "support": 5, "base": {"f1": 0.2}, "tuned": {"precision": 1, "recall": 1, "f1": 1}}]
    scored(
        api, [], per_class=per_class, confusion={"labels": ["late"], "base": [[1]], "tuned": [[5]]},
        overlap={"exact": 2, "normalised": 0, "near": 0, "rows": 64, "rows_without": 62},
        planned={"steps": {"value": 60, "basis": "formula"}}, actual={"steps": 60},
    )  # fmt: skip
    page = open_page("evaluations", id="v1")
    assert not page.exception
    assert "training rows repeat 2 exactly" in page.warning[0].value
    columns = [set(table.value.columns) for table in page.dataframe]
    assert any({"label", "precision", "base_f1"} <= names for names in columns)
    assert any({"planned", "actual"} <= names for names in columns)


def test_any_model_can_be_scored_on_any_data(api: Recorded, open_page: Open) -> None:
    api.add("models", recorded.model(), recorded.model("m3", "Imitation", model_type="fine_tuned", simulated=True))
    api.add("datasets", recorded.dataset("d1"), recorded.dataset("d2", "Held out"))
    queued = recorded.run("r9", "evaluate", "queued", experiment_id=None, model_id="m1", finished_at=None)
    api.add("runs", queued).on("POST", "/evaluations", queued)
    page = open_page("evaluations", model="m1", dataset="d1")
    models, datasets = page.selectbox(key="score_model"), page.selectbox(key="score_dataset")
    assert len(models.options) == 1
    assert datasets.value == "d1"
    page.button(key="score_start").click().run()
    assert api.sent("POST", "/evaluations") == [{"model_id": "m1", "dataset_id": "d1"}]
    assert page.query_params["run"] == "r9"
    assert page.title[0].value == "Scoring"
    page.button(key="cancel_r9").click().run()
    assert api.sent("POST", "/runs/r9/cancel")


def test_a_refused_scoring_says_why(api: Recorded, open_page: Open) -> None:
    api.add("models", recorded.model()).add("datasets", recorded.dataset("d1"))
    api.refuse("POST", "/evaluations", 422, "dataset_id: 'Tickets' holds preference data.")
    page = open_page("evaluations")
    page.button(key="score_start").click().run()
    assert [error.value for error in page.error] == ["dataset_id: 'Tickets' holds preference data."]


def test_a_finished_scoring_leads_to_its_card_and_a_failed_one_says_what_to_do(api: Recorded, open_page: Open) -> None:
    done = recorded.run("r1", "evaluate", result={"evaluation_id": "v1"})
    failed = recorded.run("r2", "evaluate", "failed", error=recorded.error())
    api.add("runs", done, failed)
    assert "The scorecard is ready." in text_of(open_page("evaluations", run="r1"))
    assert "Take a smaller max_length" in open_page("evaluations", run="r2").error[0].value


def test_an_evaluation_can_be_deleted(api: Recorded, open_page: Open) -> None:
    scored(api)
    page = open_page("evaluations", id="v1")
    page.button(key="delete_evaluation").click().run()
    assert "v1" not in api.rows["evaluations"]
    assert "id" not in page.query_params
