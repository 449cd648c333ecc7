"""`slm chat`: one question, or a conversation at the terminal; base and tuned one above the other."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from app.cli import connect
from app.cli.shell import Code, Stop, print_json, say

if TYPE_CHECKING:
    from slm_client import ChatAnswer, Client, ModelDetail


@dataclass
class Wanted:
    """How to ask, and what was said so far. After `compare` the tuned model's words go on as the conversation."""

    compare: bool
    system: str | None
    sampling: Mapping[str, Any]
    turns: list[dict[str, str]] = field(default_factory=list)

    def asked(self, prompt: str) -> dict[str, Any]:
        """The client's arguments for the next question. A first one without a system prompt is a plain prompt."""
        if not self.turns and self.system is None:
            return {"prompt": prompt, "compare": self.compare, **self.sampling}
        system = [{"role": "system", "content": self.system}] if self.system else []
        messages = [*system, *self.turns, {"role": "user", "content": prompt}]
        return {"messages": messages, "compare": self.compare, **self.sampling}


def chat(which: str, prompt: str | None, wanted: Wanted, *, as_json: bool, url: str | None, key: str | None) -> None:
    """Ask once, or again and again until the input ends. Raises `Stop`."""
    with connect.client(url, key) as client:
        model = connect.model(client, which)
        if prompt is None and not sys.stdin.isatty():
            prompt = sys.stdin.read().strip()
            if not prompt:
                raise Stop("There is nothing to ask: give a prompt, or write one to standard input.", Code.USAGE)
        if prompt is None:
            _converse(client, model, wanted)
        elif as_json:
            print_json(client.models.chat(model.id, **wanted.asked(prompt)).wire)
        else:
            _answer(client, model, wanted, prompt)


def _converse(client: Client, model: ModelDetail, wanted: Wanted) -> None:
    say(f"{model.name}. Ctrl-C stops an answer, Ctrl-D ends the conversation.")
    while True:
        try:
            prompt = input("> ").strip()
        except EOFError:
            say("")
            return
        if not prompt:
            continue
        try:
            answer = _answer(client, model, wanted, prompt)
        except KeyboardInterrupt:
            say("\n(stopped)")
            continue
        wanted.turns += [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer.text or " "}]


def _answer(client: Client, model: ModelDetail, wanted: Wanted, prompt: str) -> ChatAnswer:
    """Say the answer as it comes. Of two sides the tuned one is said first, the base's whole after it."""
    answer = None
    for event in client.models.chat_stream(model.id, **wanted.asked(prompt)):
        if event.kind == "done":
            answer = event.answer
        elif event.side == "tuned":
            typer.echo(event.text, nl=False)
            sys.stdout.flush()
    if answer is None:
        raise Stop("The answer broke off; ask again.")
    say("")
    if answer.base is not None:
        say(f"\nbase:\n{answer.base.text}")
    if answer.finish_reason == "length":
        say(f"(cut off after {answer.usage.get('completion_tokens')} tokens; --max-new-tokens allows more)", quiet=True)
    return answer
