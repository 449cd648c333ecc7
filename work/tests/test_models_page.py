"""The page of models in each of its states, against a recording."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

import recorded
from components.chat import Conversation, Exchange
from opening import Open, links, text_of
from recorded import Recorded
from views.models import self_test

TUNED = {"model_type": "fine_tuned", "base_model_id": "m1", "experiment_id": "e1", "source": None,
         "metadata": {"weights": "present", "training_config": {"epochs": 2}}}  # fmt: skip
TEST = {"checked": 812, "max_logit_difference": 0.0, "same_text": True, "same_top_token": 1.0,
        "loaders": ["transformers"], "template_equal": True, "stop_tokens_equal": True}  # fmt: skip


@pytest.fixture
def tuned(api: Recorded) -> Recorded:
    return api.add("models", recorded.model(), recorded.model("m2", "Tickets", **TUNED))


def export(identity: str, state: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": identity, "model_id": "m2", "run_id": identity, "format": "gguf-q8_0", "state": state,
        "created_at": recorded.stamp(), "size_bytes": None, "self_test": None, "files": [], "error": None, **changes,
    }  # fmt: skip


def test_the_list_tells_bases_from_what_was_made_of_them(tuned: Recorded, open_page: Open) -> None:
    tuned.add("models", recorded.model("m3", "Imitation", model_type="fine_tuned", simulated=True))
    frame = open_page("models").dataframe[0].value
    assert [[*cell] for cell in frame["kind"]] == [["fine-tuned", "SIMULATED"], ["fine-tuned"], ["base"]]
    frame = open_page("models", kind="base").dataframe[0].value
    assert [*frame["name"]] == ["SmolLM2 135M Instruct"]


def test_absent_weights_say_what_that_means_and_are_fetched_at_a_press(api: Recorded, open_page: Open) -> None:
    api.add("models", recorded.model(metadata={"weights": "absent"}))
    pulling = recorded.run("r5", "pull", "running", progress=recorded.progress(phase="downloading", percent=40.0))
    api.add("runs", pulling)

    def pull(_request: httpx2.Request) -> Any:
        api.rows["models"]["m1"]["metadata"] = {"weights": "pulling", "pull": {"run_id": "r5"}}
        return pulling

    api.on("POST", "/models/m1/pull", pull)
    page = open_page("models", id="m1")
    assert "would be simulated" in page.info[0].value
    page.button(key="pull").click().run()
    assert not page.exception
    assert page.button(key="cancel_r5")


def test_a_simulated_model_has_neither_chat_nor_exports(api: Recorded, open_page: Open) -> None:
    api.add("models", recorded.model("m3", "Imitation", **TUNED | {"simulated": True}))
    page = open_page("models", id="m3", part="chat")
    assert "Made-up numbers" in page.warning[0].value
    assert not page.chat_input


def stream(request: httpx2.Request) -> httpx2.Response:
    asked = json.loads(request.content)
    answer = {"model_id": "m2", "text": "late", "finish_reason": "stop", "seconds": 0.2, "tokens_per_second": 5.0,
              "usage": {"prompt_tokens": 3, "completion_tokens": 1}}  # fmt: skip
    whole = {**answer, "base": {**answer, "text": "Hello!"} if asked["compare"] else None}
    events = [("token", {"side": "tuned", "text": "la"}), ("token", {"side": "base", "text": "Hello!"})]
    events += [("token", {"side": "tuned", "text": "te"}), ("done", whole)]
    body = "".join(f"event: {kind}\ndata: {json.dumps(data)}\n\n" for kind, data in events)
    return httpx2.Response(200, content=body, headers={"Content-Type": "text/event-stream"})


def test_base_and_tuned_answer_side_by_side_and_the_conversation_goes_on(tuned: Recorded, open_page: Open) -> None:
    tuned.on("POST", "/models/m2/chat", stream)
    page = open_page("models", id="m2", part="chat")
    page.chat_input(key="chat_question").set_value("Where is it?").run()
    assert not page.exception
    texts = [text.value for text in page.text]
    assert texts[-3:] == ["Where is it?", "Hello!", "late"]
    page.chat_input(key="chat_question").set_value("And now?").run()
    first, second = tuned.sent("POST", "/models/m2/chat")
    assert first["compare"] is True
    assert first["messages"] == [{"role": "user", "content": "Where is it?"}]
    assert second["messages"] == [
        {"role": "user", "content": "Where is it?"},
        {"role": "assistant", "content": "late"},
        {"role": "user", "content": "And now?"},
    ]


def test_a_base_answers_alone(api: Recorded, open_page: Open) -> None:
    api.add("models", recorded.model()).on("POST", "/models/m1/chat", stream)
    page = open_page("models", id="m1", part="chat")
    page.chat_input(key="chat_question").set_value("Hi").run()
    assert api.sent("POST", "/models/m1/chat")[0]["compare"] is False
    assert [text.value for text in page.text][-2:] == ["Hi", "late"]


def test_a_refused_chat_says_why(tuned: Recorded, open_page: Open) -> None:
    tuned.refuse("POST", "/models/m2/chat", 503, "Too many are waiting; try again in 5 s.")
    page = open_page("models", id="m2", part="chat")
    page.chat_input(key="chat_question").set_value("Hi").run()
    assert "Too many are waiting; try again in 5 s." in text_of(page)


def test_a_conversation_sends_a_system_prompt_first_and_leaves_out_what_was_not_answered() -> None:
    talk = Conversation([Exchange("a", {"tuned": "b"}), Exchange("lost", {"base": "x"})])
    assert [turn["content"] for turn in talk.messages("c", "Be brief.")] == ["Be brief.", "a", "b", "c"]


def test_an_export_is_started_followed_and_offered_with_its_self_test(tuned: Recorded, open_page: Open) -> None:
    exports: list[dict[str, Any]] = []
    running = recorded.run("x1", "export", "running", finished_at=None)

    def start(_request: httpx2.Request) -> Any:
        exports.append(export("x1", "running"))
        return running

    tuned.add("runs", running).on("GET", "/models/m2/exports", lambda _: exports).on(
        "POST", "/models/m2/exports", start
    )
    page = open_page("models", id="m2", part="exports")
    page.radio(key="export_format").set_value("gguf-q8_0")
    page.button(key="export_start").click().run()
    assert tuned.sent("POST", "/models/m2/exports") == [{"format": "gguf-q8_0"}]
    assert "it is loaded again and compared before it counts" in text_of(page)
    file = {"artifact_id": "a1", "name": "tickets.gguf", "size_bytes": 145_000_000, "sha256": "ab" * 32}
    exports[:] = [export("x1", "completed", size_bytes=145_000_000, self_test=TEST, files=[file])]
    page = open_page("models", id="m2", part="exports")
    assert "same first choice on 100.0 % of 812 tokens" in text_of(page)
    (link,) = page.get("link_button")
    assert link.proto.url == "/api/artifacts/a1/download"
    exports[:] = [export("x1", "failed", error=recorded.error(message="The export differs.", hint="Export again."))]
    assert "The export differs. Export again." in open_page("models", id="m2", part="exports").error[0].value


def test_the_self_test_is_a_sentence() -> None:
    assert self_test(TEST) == (
        "Loaded again by transformers; same first choice on 100.0 % of 812 tokens; "
        "scores of tokens differ by 0 at most; the same answers."
    )
    assert self_test(TEST | {"same_text": False}).endswith("; answers not the same to the letter.")


def test_card_and_lineage_are_shown(tuned: Recorded, open_page: Open) -> None:
    text = "---\nlicense: apache-2.0\n---\n# Tickets\n\nAn honest card.\n"
    tuned.on(
        "GET", "/models/m2/card", lambda _: httpx2.Response(200, text=text, headers={"Content-Type": "text/markdown"})
    )
    graph = {"nodes": [{"id": "m2", "type": "model", "name": "Tickets", "details": {}, "missing": False}], "edges": []}
    tuned.on("GET", "/models/m2/lineage", graph)
    page = open_page("models", id="m2", part="card")
    assert "An honest card." in text_of(page)
    assert page.code[0].value == "license: apache-2.0"
    assert links(page)["Train it further"] == "base=m2"
    page = open_page("models", id="m2", part="lineage")
    assert not page.exception
    assert [link.proto.label for link in page.get("page_link")]


def test_predictions_are_started_and_their_file_offered(tuned: Recorded, open_page: Open) -> None:
    done = recorded.run("p1", "predict", result={"artifact_id": "a7", "rows": 5, "predicted": 4, "skipped": 1})
    tuned.add("datasets", recorded.dataset()).add("runs", done).on("POST", "/models/m2/predictions", done)
    page = open_page("models", id="m2", part="predictions")
    page.button(key="predict_start").click().run()
    assert tuned.sent("POST", "/models/m2/predictions") == [{"dataset_id": "d1"}]
    assert "4 records answered, 1 skipped." in text_of(page)
    assert page.get("link_button")[0].proto.url == "/api/artifacts/a7/download"


def test_a_model_that_others_need_is_not_deleted_and_the_reason_is_read(tuned: Recorded, open_page: Open) -> None:
    tuned.refuse("DELETE", "/models/m2", 409, "The model belongs to the experiment 'Tickets'; delete that first.")
    page = open_page("models", id="m2")
    page.button(key="delete_model").click().run()
    assert page.error[0].value == "The model belongs to the experiment 'Tickets'; delete that first."


def test_a_model_is_renamed_and_a_base_registered(tuned: Recorded, open_page: Open) -> None:
    page = open_page("models", id="m2")
    page.text_input(key="edit_name").set_value("Better name")
    page.text_input(key="edit_tags").set_value("prod, ours")
    next(button for button in page.button if button.label == "Save").click().run()
    assert tuned.rows["models"]["m2"]["name"] == "Better name"
    assert tuned.rows["models"]["m2"]["tags"] == ["prod", "ours"]
    tuned.on("POST", "/models", recorded.model("m9", "Own"))
    tuned.add("models", recorded.model("m9", "Own"))
    page = open_page("models")
    page.text_input(key="register_name").set_value("Own")
    page.text_input(key="register_hub").set_value("org/own")
    next(button for button in page.button if button.label == "Add it").click().run()
    assert tuned.sent("POST", "/models")[0]["source"] == {"hub": "org/own"}
    assert page.query_params["id"] == "m9"


def test_an_answer_without_a_word_is_shown_as_one(tuned: Recorded, open_page: Open) -> None:
    def silent(request: httpx2.Request) -> httpx2.Response:
        whole = {"model_id": "m2", "text": "", "finish_reason": "stop", "seconds": 0.1, "tokens_per_second": 0.0,
                 "usage": {"prompt_tokens": 3, "completion_tokens": 0}, "base": None}  # fmt: skip
        body = f"event: done\ndata: {json.dumps(whole)}\n\n"
        return httpx2.Response(200, content=body, headers={"Content-Type": "text/event-stream"})

    tuned.on("POST", "/models/m2/chat", silent)
    page = open_page("models", id="m2", part="chat")
    page.chat_input(key="chat_question").set_value("Where is it?").run()
    assert page.text[0].value == "Where is it?"
    assert "0 tokens" in text_of(page)


def test_a_classifier_is_not_offered_for_a_talk(api: Recorded, open_page: Open) -> None:
    api.add(
        "models", recorded.model("m4", "Topics", **TUNED | {"metadata": {"training_config": {"method": "classify"}}})
    )
    page = open_page("models", id="m4", part="chat")
    assert not page.exception
    assert not page.chat_input


def test_several_evaluations_are_one_link_to_all_of_them(tuned: Recorded, open_page: Open) -> None:
    tuned.rows["models"]["m2"]["linked_evaluations"] = ["v1", "v2"]
    assert links(open_page("models", id="m2"))["2 evaluations"] == "of=m2"
