"""A conversation with a model, and with its base beside it; kept in the visitor's session."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import streamlit as st
from slm_client import SlmError

import service
from components import states, words

TUNED, BASE = "tuned", "base"


@dataclass
class Exchange:
    """A question and what each side answered."""

    question: str
    answers: dict[str, str] = field(default_factory=dict)
    figures: dict[str, str] = field(default_factory=dict)


@dataclass
class Conversation:
    exchanges: list[Exchange] = field(default_factory=list)

    def messages(self, question: str, system: str = "") -> list[dict[str, str]]:
        """What is sent: the tuned model's side of everything before, then the question."""
        sent = [{"role": "system", "content": system}] if system.strip() else []
        for exchange in self.exchanges:
            if exchange.answers.get(TUNED):
                sent.append({"role": "user", "content": exchange.question})
                sent.append({"role": "assistant", "content": exchange.answers[TUNED]})
        return [*sent, {"role": "user", "content": question}]


def conversation(model_id: str) -> Conversation:
    """The visitor's own conversation with this model."""
    kept: dict[str, Conversation] = st.session_state.setdefault("conversations", {})
    return kept.setdefault(model_id, Conversation())


def figures(answer: Mapping[str, Any]) -> str:
    """Tokens, speed and why it stopped, in one line."""
    usage = answer.get("usage") or {}
    parts = [words.count(usage.get("completion_tokens"), "token")]
    if answer.get("tokens_per_second") is not None:
        parts.append(f"{words.number(answer['tokens_per_second'])} tokens/s")
    if answer.get("finish_reason") == "length":
        parts.append("cut at the limit")
    return " · ".join(parts)


def show(model_id: str, *, can_compare: bool, base_name: str) -> None:
    """The whole conversation, the settings, and the box to ask in."""
    talk = conversation(model_id)
    with st.container(horizontal=True, vertical_alignment="center"):
        compare = can_compare and st.toggle(
            "Base beside it", value=True, key="chat_compare", help="Both answer from one loaded base, at once."
        )
        with st.popover("Settings", icon=":material/tune:", type="tertiary"):
            system = st.text_area("System prompt", key="chat_system", help="Said before the conversation.")
            temperature = st.slider(
                "Temperature", 0.0, 2.0, 0.0, 0.1, key="chat_temperature", help="0 is always the same."
            )
            limit = st.slider("Longest answer (tokens)", 16, 1024, 256, 16, key="chat_limit")
        if talk.exchanges and st.button(
            "New conversation", icon=":material/refresh:", type="tertiary", key="chat_clear"
        ):
            talk.exchanges.clear()
            st.rerun()
    for exchange in talk.exchanges:
        _drawn(exchange, base_name, compare=compare)
    question = st.chat_input("Ask the model", key="chat_question")
    if question:
        asked = {"messages": talk.messages(question, system), "temperature": temperature, "max_new_tokens": limit}
        _ask(model_id, talk, question, asked, base_name, compare=compare)


def _sides(base_name: str, *, compare: bool) -> dict[str, str]:
    return {BASE: base_name, TUNED: "Tuned"} if compare else {TUNED: ""}


def _drawn(exchange: Exchange, base_name: str, *, compare: bool) -> None:
    with st.chat_message("user"):
        st.text(exchange.question)
    sides = _sides(base_name, compare=compare)
    for column, (side, title) in zip(st.columns(len(sides)), sides.items(), strict=True):
        with column, st.chat_message("assistant"):
            if title:
                st.caption(words.plain(title))
            st.text(exchange.answers.get(side) or words.UNKNOWN)
            if exchange.figures.get(side):
                st.caption(exchange.figures[side])


def _ask(
    model_id: str, talk: Conversation, question: str, asked: Mapping[str, Any], base_name: str, *, compare: bool
) -> None:
    """Ask, and show both answers while they arrive; leaving the page or stopping ends the generation."""
    with st.chat_message("user"):
        st.text(question)
    sides = _sides(base_name, compare=compare)
    slots: dict[str, Any] = {}
    for column, (side, title) in zip(st.columns(len(sides)), sides.items(), strict=True):
        with column, st.chat_message("assistant"):
            if title:
                st.caption(words.plain(title))
            slots[side] = st.empty()
            slots[side].caption("…")
    exchange = Exchange(question)
    try:
        events = service.client().models.chat_stream(model_id, compare=compare, **asked)
        take(exchange, events, slots)
    except SlmError as error:
        states.refused(error)
        return
    finally:
        if exchange.answers:  # an answer without a word is one too
            talk.exchanges.append(exchange)
    st.rerun()


def take(exchange: Exchange, events: Iterable[Any], slots: Mapping[str, Any]) -> None:
    """Fill in an exchange from a stream; each side's text grows in its slot."""
    for event in events:
        if event.kind == "token":
            exchange.answers[event.side] = exchange.answers.get(event.side, "") + event.text
            if event.side in slots:
                slots[event.side].text(exchange.answers[event.side])
        elif event.kind == "done":
            whole: Mapping[str, Any] = event.answer.wire
            for side, answer in ((TUNED, whole), (BASE, whole.get("base"))):
                if answer:
                    exchange.answers[side] = str(answer.get("text", ""))
                    exchange.figures[side] = figures(answer)
