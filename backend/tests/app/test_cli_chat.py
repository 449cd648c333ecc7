"""The conversation at the terminal: what was said goes on being asked, Ctrl-C stops one answer, Ctrl-D all."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from slm_client import ChatAnswer, ChatEvent, Run, RunError, SideAnswer

from app.cli import chat as module
from app.cli import predict
from app.cli.chat import Wanted, chat
from app.cli.shell import Code, Stop


class Models:
    """Answers in capitals, and remembers what it was asked."""

    def __init__(self, *, interrupted: bool = False) -> None:
        self.asked: list[dict[str, Any]] = []
        self.interrupted = interrupted

    def chat_stream(self, model_id: str, **asked: Any) -> Iterator[ChatEvent]:
        self.asked.append(asked)
        last = asked.get("prompt") or asked["messages"][-1]["content"]
        yield ChatEvent(kind="token", side="tuned", text=last.upper())
        if self.interrupted:
            self.interrupted = False
            raise KeyboardInterrupt
        yield ChatEvent(kind="token", side="base", text="hm")
        base = SideAnswer(model_id="b", text="hm") if asked["compare"] else None
        yield ChatEvent(kind="done", answer=ChatAnswer(model_id="m", text=last.upper(), base=base))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A terminal at which these lines are typed, then Ctrl-D."""

    def typed(models: Models, *lines: str) -> None:
        left = list(lines)

        def read(prompt: str) -> str:
            if not left:
                raise EOFError
            return left.pop(0)

        client = SimpleNamespace(models=models)
        monkeypatch.setattr(module.connect, "client", lambda url, key: Opened(client))
        monkeypatch.setattr(module.connect, "model", lambda client, which: SimpleNamespace(id="m", name="Tickets"))
        monkeypatch.setattr("builtins.input", read)
        monkeypatch.setattr(module.sys, "stdin", SimpleNamespace(isatty=lambda: True))

    return typed


class Opened:
    def __init__(self, client: Any) -> None:
        self.client = client

    def __enter__(self) -> Any:
        return self.client

    def __exit__(self, *error: object) -> None:
        return None


def wanted(**changes: Any) -> Wanted:
    return Wanted(**({"compare": False, "system": None, "sampling": {"seed": 1}} | changes))


def converse(asked: Wanted) -> None:
    chat("Tickets", None, asked, as_json=False, url=None, key=None)


def test_a_conversation_goes_on_with_what_was_said(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    models = Models()
    terminal(models, "red", "", "blue")
    converse(wanted())
    assert models.asked[0] == {"prompt": "red", "compare": False, "seed": 1}
    turns = [("user", "red"), ("assistant", "RED"), ("user", "blue")]
    assert [(turn["role"], turn["content"]) for turn in models.asked[1]["messages"]] == turns
    said = capsys.readouterr().out
    assert "RED\n" in said
    assert "hm" not in said


def test_a_system_prompt_stands_first(terminal: Any) -> None:
    models = Models()
    terminal(models, "red")
    converse(wanted(system="Be kind."))
    assert [turn["role"] for turn in models.asked[0]["messages"]] == ["system", "user"]


def test_the_base_is_said_after_the_tuned(terminal: Any, capsys: pytest.CaptureFixture[str]) -> None:
    terminal(Models(), "red")
    converse(wanted(compare=True))
    assert "RED\n\nbase:\nhm\n" in capsys.readouterr().out


def test_an_interrupted_answer_is_not_part_of_the_conversation(
    terminal: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    models = Models(interrupted=True)
    terminal(models, "red", "blue")
    converse(wanted())
    assert models.asked[1] == {"prompt": "blue", "compare": False, "seed": 1}
    assert "(stopped)" in capsys.readouterr().out


def test_why_a_prediction_did_not_end_well() -> None:
    failed = Run(id="r", task="predict", state="failed", error=RunError(code="x", message="No.", hint="Do."))
    assert (predict._reason(failed).message, predict._reason(failed).code) == ("No.\nDo.", Code.FAILED)
    cancelled = predict._reason(Run(id="r", task="predict", state="cancelled"))
    assert isinstance(cancelled, Stop)
    assert cancelled.code is Code.CANCELLED
