"""Chat through the client: what is sent, what comes back word for word, and how it ends badly."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx2
import pytest

from slm_client import Client, Conflict, ServiceUnreachable, Unavailable
from slm_client.chat import Sampling

ANSWER = {
    "model_id": "m", "text": "a b", "finish_reason": "stop", "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    "seconds": 0.5, "tokens_per_second": 4.0, "base": {"model_id": "b", "text": "c", "finish_reason": "length"},
}  # fmt: skip
PROBLEM = {"status": 503, "detail": "It died.", "code": "serving_died"}


def answering(body: str | bytes, *, status: int = 200, kind: str = "text/event-stream", **headers: str) -> Client:
    """A client of a service that answers this, and whose `seen` holds what it was sent."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(status, headers={"content-type": kind, **headers}, content=body)

    seen: list[httpx2.Request] = []
    client = Client("http://localhost:1", transport=httpx2.MockTransport(answer))
    client.seen = seen  # type: ignore[attr-defined]
    return client


def sent(client: Client) -> dict[str, object]:
    request: httpx2.Request = client.seen[-1]  # type: ignore[attr-defined]
    assert request.url.path == "/models/m%20m/chat" or request.url.raw_path == b"/models/m%20m/chat"
    document: dict[str, object] = json.loads(request.content)
    return document


def events(*told: tuple[str, object]) -> str:
    return ": alive\n\n" + "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in told)


def test_only_what_is_given_is_sent() -> None:
    client = answering(json.dumps(ANSWER), kind="application/json")
    answer = client.models.chat("m m", "Why?", temperature=0, stop=["x"])
    assert sent(client) == {"prompt": "Why?", "temperature": 0, "stop": ["x"], "compare": False, "stream": False}
    assert (answer.text, answer.usage["completion_tokens"], answer.tokens_per_second) == ("a b", 2, 4.0)
    assert answer.base is not None
    assert (answer.base.text, answer.base.finish_reason) == ("c", "length")
    client.models.chat("m m", messages=[{"role": "user", "content": "Why?"}], compare=True)
    assert sent(client)["messages"] == [{"role": "user", "content": "Why?"}]


def test_both_ways_of_asking_ask_the_same() -> None:
    whole, streamed = (answering(json.dumps(ANSWER), kind="application/json"), answering(events(("done", ANSWER))))
    sampling = Sampling(max_new_tokens=9, temperature=0.5, top_p=0.9, seed=1, stop=("x", "y"))
    whole.models.chat("m m", "Why?", compare=True, **sampling)
    list(streamed.models.chat_stream("m m", "Why?", compare=True, **sampling))
    assert sent(whole) | {"stream": True} == sent(streamed)
    assert {**sampling, "stop": ["x", "y"]}.items() <= sent(whole).items()


def test_what_is_none_is_the_services_default() -> None:
    client = answering(json.dumps(ANSWER), kind="application/json")
    client.models.chat("m m", "Why?", seed=None, stop=None)
    assert sent(client) == {"prompt": "Why?", "compare": False, "stream": False}


def test_a_word_that_is_not_known_is_refused_at_once() -> None:
    client = answering(json.dumps(ANSWER), kind="application/json")
    with pytest.raises(TypeError, match=r"no temperatur; sampling is max_new_tokens, temperature"):
        client.models.chat("m m", "Why?", temperatur=0.5)  # type: ignore[call-arg]
    assert client.seen == []  # type: ignore[attr-defined]


def test_words_come_one_by_one_and_the_answer_last() -> None:
    tokens = [("token", {"side": "tuned", "text": "a"}), ("token", {"side": "base", "text": "c"})]
    client = answering(events(*tokens, ("done", ANSWER)))
    found = list(client.models.chat_stream("m m", "Why?", seed=3))
    assert [(event.kind, event.side, event.text) for event in found] == [
        ("token", "tuned", "a"), ("token", "base", "c"), ("done", "", ""),
    ]  # fmt: skip
    assert found[-1].answer is not None
    assert found[-1].answer.text == "a b"
    assert sent(client) == {"prompt": "Why?", "seed": 3, "compare": False, "stream": True}


@pytest.mark.parametrize(
    ("client", "error", "words"),
    [
        (lambda: answering(events(("token", {"side": "tuned", "text": "a"}), ("error", PROBLEM))), Unavailable, "died"),
        (lambda: answering(events(("token", {"side": "tuned", "text": "a"}))), ServiceUnreachable, "broke off"),
        (lambda: answering(json.dumps({"status": 409, "detail": "No weights."}), status=409), Conflict, "No weights"),
    ],
)
def test_what_ends_badly_says_why(client: Callable[[], Client], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        list(client().models.chat_stream("m m", "Why?"))


def test_a_full_line_says_when_to_come_back() -> None:
    body = json.dumps({"status": 503, "detail": "Full.", "code": "chat_queue_full"})
    client = answering(body, status=503, kind="application/problem+json", **{"retry-after": "5"})
    with pytest.raises(Unavailable) as caught:
        client.models.chat("m m", "Why?")
    assert (caught.value.retry_after, caught.value.code) == (5.0, "chat_queue_full")


def test_a_prediction_is_asked_for() -> None:
    run = {"id": "r", "task": "predict", "state": "queued", "result": None}

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == "/models/m/predictions"
        assert json.loads(request.content) == {"dataset_id": "d", "mapping": {"text": "review"}}
        return httpx2.Response(202, json=run)

    with Client("http://localhost:1", transport=httpx2.MockTransport(answer)) as client:
        assert client.models.predict("m", "d", mapping={"text": "review"}).task == "predict"
