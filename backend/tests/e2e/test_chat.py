"""Talking to models through a real service: whole and streamed, side by side, refused, hung up on, killed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import psutil
import pytest
from service import Service, rows, running, until
from slm_client import ChatAnswer, ChatEvent, Conflict, Invalid, NotFound, Unavailable

pytestmark = pytest.mark.e2e
ASK = "red one two?"
GREEDY: dict[str, Any] = {"temperature": 0, "max_new_tokens": 12}
SLOW = {"hidden": 512, "layers": 8}
"""About 10 ms a token, so that there is a middle of an answer."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("chat"), chat_queue=2) as found:
        yield found


@pytest.fixture(scope="module")
def base(service: Service) -> str:
    return service.base("llama")


@pytest.fixture(scope="module")
def slow(service: Service) -> str:
    return service.base("qwen2", **SLOW)


@pytest.fixture(scope="module")
def tuned(service: Service, base: str) -> str:
    """The base taught by LoRA to answer in words it would never say by itself."""
    return teach(service, "taught", base)


def teach(service: Service, name: str, base: str, **config: Any) -> str:
    dataset = service.upload(rows(60), name=name)
    made = service.ended(service.experiment(name, base, dataset, epochs=1, **config).id)
    assert made.status == "completed", made.error
    assert made.resulting_model_id
    return made.resulting_model_id


def streamed(service: Service, model: str, **options: Any) -> tuple[dict[str, str], ChatAnswer]:
    """What was said by each side, piece by piece joined, and the answer at the end."""
    said: dict[str, str] = {}
    answer = None
    for event in service.client.models.chat_stream(model, ASK, **options):
        assert isinstance(event, ChatEvent)
        if event.kind == "token":
            said[event.side] = said.get(event.side, "") + event.text
        else:
            answer = event.answer
    assert answer is not None
    return said, answer


def test_a_base_answers_whole_and_word_for_word(service: Service, base: str) -> None:
    whole = service.client.models.chat(base, ASK, **GREEDY)
    assert whole.model_id == base
    assert whole.usage["completion_tokens"] <= 12
    assert whole.usage["prompt_tokens"] > 10
    assert whole.finish_reason in {"stop", "length"}
    assert whole.tokens_per_second
    assert whole.base is None
    said, answer = streamed(service, base, **GREEDY)
    assert said.get("tuned", "") == answer.text == whole.text


def test_a_prompt_is_a_conversation_of_one_turn(service: Service, base: str) -> None:
    turns = [{"role": "user", "content": ASK}]
    assert (
        service.client.models.chat(base, messages=turns, **GREEDY).text
        == service.client.models.chat(base, ASK, **GREEDY).text
    )


@pytest.mark.parametrize("sampling", [GREEDY, {"temperature": 1.0, "seed": 11, "max_new_tokens": 30}])
def test_base_and_tuned_side_by_side_are_what_each_says_alone(
    service: Service, base: str, tuned: str, sampling: dict[str, Any]
) -> None:
    alone = [service.client.models.chat(model, ASK, **sampling) for model in (tuned, base)]
    both = service.client.models.chat(tuned, ASK, compare=True, **sampling)
    assert both.base is not None
    assert both.base.model_id == base
    assert [both.text, both.base.text] == [answer.text for answer in alone]
    assert [both.usage, both.base.usage] == [answer.usage for answer in alone]
    said, answer = streamed(service, tuned, compare=True, **sampling)
    assert answer.base is not None
    assert said.get("tuned", "") == answer.text == both.text
    assert said.get("base", "") == answer.base.text == both.base.text
    assert len(service.speakers()) == 1  # one loaded base for both, and for every question above


def test_the_same_seed_says_the_same(service: Service, tuned: str) -> None:
    sampled = {"temperature": 1.2, "max_new_tokens": 12}
    first, again, other = (service.client.models.chat(tuned, ASK, seed=seed, **sampled).text for seed in (5, 5, 6))
    assert first == again != other
    assert service.client.models.chat(tuned, ASK, compare=True, seed=5, **sampled).text == first


def test_stop_texts_end_the_answer_and_are_not_in_it(service: Service, tuned: str) -> None:
    sampling = {"temperature": 1.2, "seed": 4, "max_new_tokens": 40}
    whole = service.client.models.chat(tuned, ASK, **sampling).text
    middle = whole[len(whole) // 2 :][:3]
    said, answer = streamed(service, tuned, stop=[middle], **sampling)
    assert answer.text == said.get("tuned", "") == whole[: whole.index(middle)].strip()
    assert answer.finish_reason == "stop"


def test_all_weights_trained_means_two_sets_of_weights(service: Service) -> None:
    base = service.base("gpt2")
    full = teach(service, "full", base, adapter="full")
    both = service.client.models.chat(full, ASK, compare=True, **GREEDY)
    assert both.base is not None
    assert both.text == service.client.models.chat(full, ASK, **GREEDY).text
    said, answer = streamed(service, full, compare=True, **GREEDY)
    assert answer.base is not None
    assert said.get("tuned", "") == answer.text == both.text
    assert said.get("base", "") == answer.base.text == both.base.text


def test_a_chain_of_adapters_answers_with_the_earlier_ones_merged(service: Service, tuned: str) -> None:
    second = teach(service, "second", tuned)
    both = service.client.models.chat(second, ASK, compare=True, **GREEDY)
    assert both.base is not None
    assert both.base.model_id == tuned
    assert both.base.text == service.client.models.chat(tuned, ASK, **GREEDY).text


def test_refusals_come_before_the_first_byte(service: Service, base: str) -> None:
    ask = f"{service.url}/models/{base}/chat"
    long = {"prompt": "red cat " * 200, "stream": True}
    answer = httpx2.post(ask, json=long, timeout=60)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "context_too_long"
    assert "tokens" in answer.json()["detail"]
    absent = next(model for model in service.client.models.list() if model.name == "GPT-2 Small")
    with pytest.raises(Conflict, match=f"POST /models/{absent.id}/pull"):
        next(service.client.models.chat_stream(absent.id, ASK))
    with pytest.raises(NotFound):
        service.client.models.chat("nothing", ASK)
    with pytest.raises(Invalid, match="user's"):
        service.client.models.chat(base, messages=[{"role": "assistant", "content": "Hello"}])


def cpu_seconds(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(float(spent.user + spent.system) for spent in times)


def test_hanging_up_stops_the_answer(service: Service, slow: str) -> None:
    """Counted in the processor time of all serving processes: an abandoned answer costs far less than a whole one."""
    long = {"temperature": 1.5, "max_new_tokens": 200, "seed": 3}
    service.client.models.chat(slow, ASK, **GREEDY)
    speakers = service.speakers()
    before = cpu_seconds(speakers)
    whole = service.client.models.chat(slow, ASK, **long)
    assert whole.usage["completion_tokens"] > 100
    cost = cpu_seconds(speakers) - before
    before = cpu_seconds(speakers)
    events = service.client.models.chat_stream(slow, ASK, **long)
    assert next(events).kind == "token"
    events.close()
    service.client.models.chat(slow, ASK, temperature=0, max_new_tokens=1)  # answered after the abandoned one
    assert cpu_seconds(speakers) - before < cost / 2
    before = cpu_seconds(speakers)
    with pytest.raises(httpx2.TimeoutException):
        httpx2.post(f"{service.url}/models/{slow}/chat", json={"prompt": ASK, **long}, timeout=0.3)
    service.client.models.chat(slow, ASK, temperature=0, max_new_tokens=1)
    assert cpu_seconds(speakers) - before < cost * 0.8


def test_whoever_is_too_many_is_told_when_to_come_back(service: Service, slow: str) -> None:
    """One is answered and two wait, in the order of asking; the fourth is refused and a later one is answered."""
    answered: list[str] = []
    open_streams = service.client.models.chat_stream(slow, ASK, temperature=1.5, max_new_tokens=200, seed=3)
    assert next(open_streams).kind == "token"

    def wait(name: str) -> None:
        service.client.models.chat(slow, ASK, **GREEDY)
        answered.append(name)

    url = f"{service.url}/models/{slow}/chat"
    threads = [threading.Thread(target=wait, args=(name,)) for name in ("second", "third")]
    for thread in threads:
        thread.start()

    def full() -> httpx2.Response | None:
        found = httpx2.post(url, json={"prompt": ASK, "max_new_tokens": 1}, timeout=60)
        return found if found.status_code == 503 else None

    refused = until(full, what="a full line")
    assert refused.headers["retry-after"]
    assert refused.json()["code"] == "chat_queue_full"
    for _ in open_streams:
        pass
    for thread in threads:
        thread.join()
    assert sorted(answered) == ["second", "third"]
    assert service.client.models.chat(slow, ASK, **GREEDY).text


def test_a_killed_server_gives_one_sentence_and_the_next_question_a_fresh_one(service: Service, slow: str) -> None:
    stream = service.client.models.chat_stream(slow, ASK, temperature=1.5, max_new_tokens=200, seed=3)
    assert next(stream).kind == "token"
    killed = service.speakers()
    for process in killed:
        process.kill()
    with pytest.raises(Unavailable, match="ended in mid-answer"):
        list(stream)
    assert service.client.models.chat(slow, ASK, **GREEDY).usage["completion_tokens"] > 0
    assert {process.pid for process in service.speakers()}.isdisjoint({process.pid for process in killed})


def test_no_server_outlives_its_service(tmp_path_factory: pytest.TempPathFactory) -> None:
    with running(tmp_path_factory.mktemp("orphans"), warm_process=True) as service:
        base = service.base("qwen2")
        assert service.client.models.chat(base, ASK, **GREEDY).text is not None
        serving = list((service.data_dir / "serving").glob("*/address.json"))
        process = psutil.Process(json.loads(serving[0].read_bytes())["pid"])
        assert serving[0].stat().st_mode & 0o777 == 0o600
        service.kill()
        until(lambda: not process.is_running(), seconds=10, what="the end of the serving process")


def test_a_model_that_nobody_talks_to_is_unloaded_and_loaded_again_on_demand(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with running(tmp_path_factory.mktemp("idle"), chat_idle_seconds=0.5) as service:
        base = service.base("llama")
        first = service.client.models.chat(base, ASK, **GREEDY)
        until(lambda: not service.speakers(), seconds=30, what="the end of the idle process")
        assert service.client.models.chat(base, ASK, **GREEDY).text == first.text
