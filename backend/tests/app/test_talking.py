"""What is heard of one or two sides: nothing before all have begun, every word once, faults as problems."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest

from app.errors import Conflict, Invalid, PlatformError, Unavailable
from app.services import generation
from app.services.generation import Accepted, Answered, Heard, Part, Question, Side, Words
from slm.serve_client import ServingFailed, Wish
from slm.spec import ModelRef

Line = dict[str, Any]
ACCEPTED: Line = {"event": "accepted"}


def words(text: str, side: int = 0) -> Line:
    return {"event": "words", "side": side, "text": text}


def done(*texts: str, seconds: float = 2.0) -> Line:
    sides = [{"text": text, "finish_reason": "stop", "tokens": 4, "seconds": seconds} for text in texts]
    return {"event": "done", "sides": sides, "prompt_tokens": 3}


class Process:
    """A serving process that says what it was given; a number lets so many other steps of the loop go first."""

    def __init__(self, *script: Line | int | Exception) -> None:
        self.script, self.wish, self.left = script, Wish(sides=()), False

    async def ask(self, wish: Wish) -> AsyncGenerator[Line, None]:
        self.wish = wish
        try:
            for line in self.script:
                if isinstance(line, Exception):
                    raise line
                if isinstance(line, int):
                    for _ in range(line):
                        await asyncio.sleep(0)
                else:
                    yield line
            await asyncio.Event().wait()
        finally:
            self.left = True


class Servers:
    """Hands out the processes in the order of asking."""

    def __init__(self, *processes: Process) -> None:
        self.processes, self.given = processes, iter(processes)
        self.talks = self.used = 0
        self.discarded: list[Process] = []

    @contextmanager
    def in_line(self) -> Iterator[None]:
        self.talks += 1
        try:
            yield
        finally:
            self.talks -= 1

    @asynccontextmanager
    async def use(self, model: ModelRef) -> AsyncIterator[Process]:
        self.used += 1
        try:
            yield next(self.given)
        finally:
            self.used -= 1

    async def discard(self, process: Process) -> None:
        self.discarded.append(process)


def part(*sides: Side) -> Part:
    return Part(ModelRef(model_id="m", name="M", path="/weights"), sides)


ONE = Question((part(Side("tuned", "t", "adapter")),), Wish(sides=()))
BESIDE = Question((part(Side("tuned", "t", "adapter"), Side("base", "b", None)),), Wish(sides=()))
TWO = Question((part(Side("tuned", "t", None)), part(Side("base", "b", None))), Wish(sides=()))


def heard(servers: Servers, question: Question, *, most: int = 100) -> list[Heard]:
    """Everything that is said, or the first few; afterwards nothing is held any more."""

    async def listen() -> list[Heard]:
        found: list[Heard] = []
        talk = generation.talk(servers, question)  # type: ignore[arg-type]
        try:
            async for event in talk:
                found.append(event)
                if len(found) == most:
                    break
        finally:
            await talk.aclose()
        return found

    try:
        return asyncio.run(asyncio.wait_for(listen(), 10))
    finally:
        assert (servers.talks, servers.used) == (0, 0)
        assert all(process.left for process in servers.processes)


def test_one_voice_says_its_words_and_sums_up() -> None:
    process = Process(ACCEPTED, words("Hel"), words("lo"), done("Hello"))
    said = heard(Servers(process), ONE)
    assert said[:3] == [Accepted(), Words("tuned", "Hel"), Words("tuned", "lo")]
    (answered,) = said[3:]
    assert isinstance(answered, Answered)
    assert answered.document == {
        "model_id": "t", "text": "Hello", "finish_reason": "stop", "seconds": 2.0, "tokens_per_second": 2.0,
        "usage": {"prompt_tokens": 3, "completion_tokens": 4}, "base": None,
    }  # fmt: skip
    assert process.wish.sides == ("adapter",)


def test_two_sides_of_one_base_are_asked_together_and_told_apart() -> None:
    process = Process(ACCEPTED, words("a", 0), words("b", 1), done("a", "b"))
    said = heard(Servers(process), BESIDE)
    assert said[1:3] == [Words("tuned", "a"), Words("base", "b")]
    assert process.wish.sides == ("adapter", None)
    assert isinstance(said[3], Answered)
    document = said[3].document
    assert (document["model_id"], document["text"]) == ("t", "a")
    assert (document["base"]["model_id"], document["base"]["text"]) == ("b", "b")


def test_nothing_is_said_before_both_models_have_begun() -> None:
    """One of two refuses late: whoever asked gets a refusal, not half an answer with a status of success."""
    quick, slow = Process(ACCEPTED, words("early"), done("early")), Process(20, ACCEPTED, words("late"), done("late"))
    said = heard(Servers(quick, slow), TWO)
    assert said[:3] == [Accepted(), Words("tuned", "early"), Words("base", "late")]
    assert isinstance(said[3], Answered)
    refusing = Process(20, {"event": "refused", "code": "too_long", "message": "Too long."})
    with pytest.raises(Invalid, match="Too long"):
        heard(Servers(Process(ACCEPTED, words("early"), done("early")), refusing), TWO, most=1)


@pytest.mark.parametrize(
    ("line", "error", "code", "discarded"),
    [
        ({"event": "refused", "code": "context_exceeded", "message": "No room."}, Invalid, "context_exceeded", False),
        (
            {"event": "failed", "fault": "user", "code": "model_unsupported", "message": "No.", "hint": "Other."},
            Conflict, "model_unsupported", True,
        ),
        (
            {"event": "failed", "fault": "system", "code": "out_of_memory", "message": "No memory.", "hint": ""},
            Unavailable, "out_of_memory", True,
        ),
        (ServingFailed("It died."), Unavailable, "serving_died", True),
    ],
    ids=lambda value: str(value)[:24],
)  # fmt: skip
@pytest.mark.parametrize("begun", [False, True])
def test_what_goes_wrong_is_a_problem_and_a_broken_process_goes(
    line: Any, error: type[PlatformError], code: str, discarded: bool, begun: bool
) -> None:
    """A question that is refused does not cost others their loaded model; a process that failed is not asked again."""
    process = Process(*([ACCEPTED, words("So")] if begun else []), line)
    servers = Servers(process)
    with pytest.raises(error) as raised:
        heard(servers, ONE)
    assert raised.value.code == code
    assert servers.discarded == ([process] if discarded else [])


@pytest.mark.parametrize("most", [1, 2])
def test_who_leaves_stops_every_side(most: int) -> None:
    servers = Servers(*(Process(ACCEPTED, *(words("on and on") for _ in range(50))) for _ in range(2)))
    assert len(heard(servers, TWO, most=most)) == most


def test_an_answer_that_took_no_time_has_no_pace() -> None:
    said = heard(Servers(Process(ACCEPTED, done("x", seconds=0))), ONE)
    assert isinstance(said[-1], Answered)
    assert said[-1].document["tokens_per_second"] is None
