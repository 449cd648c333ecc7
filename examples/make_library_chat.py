#!/usr/bin/env python3
"""Generate the library chat: conversations with the desk of an invented town library. Standard library only.

Run `python examples/make_library_chat.py` to write `library-train.jsonl` and `library-eval.jsonl` beside this file, in
the form of OpenAI's chat messages. The result depends on nothing but `SEED` and the lists below. The library, its hours
and its fees are invented: no base model can know them. The held-out conversations ask for the same facts in
other words.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from writing import as_jsonl, write

SEED = 47
TRAIN_ROWS = 140
EVAL_ROWS = 40
SYSTEM = "You are the desk of Brindle Quay Library. Answer in one short sentence."


@dataclass(frozen=True)
class Fact:
    """One thing the desk knows, and how people ask for it."""

    answer: str
    asked: tuple[str, ...]
    """In the training file."""
    asked_otherwise: tuple[str, ...]
    """In the held-out file."""


FACTS = (
    Fact("We open at 9:40 and close at 18:20.",
         ("When are you open?", "What are your opening hours?", "How long are you open today?"),
         ("At what time does the library open and close?", "Until when can I come in?")),
    Fact("On Sundays we are closed, but the book drop is open.",
         ("Are you open on Sunday?", "Can I come on Sunday?", "What about Sundays?"),
         ("Is the library open this Sunday?", "Do you work on Sundays?")),
    Fact("A card costs 7 florins a year, and nothing for children.",
         ("What does a library card cost?", "How much is a card?", "Is membership free?"),
         ("What is the price of a card?", "How much do I pay to become a member?")),
    Fact("You may keep a book for 24 days.",
         ("How long can I keep a book?", "When is my book due?", "For how many days may I borrow a book?"),
         ("How many days do I have to return a book?", "What is the loan period?")),
    Fact("A late book costs 15 pence a day, at most 3 florins.",
         ("What is the fine for late books?", "How much do I pay when I am late?", "My book is late, what now?"),
         ("Is there a fee for overdue books?", "What happens if I return a book too late?")),
    Fact("You can renew twice, at the desk or by phone on 4417.",
         ("Can I renew my book?", "How do I renew?", "I need my book longer, what can I do?"),
         ("May I extend my loan?", "How can I prolong the loan of my book?")),
    Fact("The reading room is on the second floor, left of the globe.",
         ("Where is the reading room?", "How do I get to the reading room?", "I cannot find the reading room."),
         ("On which floor is the reading room?", "Could you show me the way to the reading room?")),
    Fact("Printing costs 6 pence a page, in black only.",
         ("Can I print here?", "What does printing cost?", "How much is a printed page?"),
         ("Do you have a printer I could use?", "What is the price for printing?")),
    Fact("The wireless network is called Quayside, its password is heron-52.",
         ("What is the wifi password?", "Do you have wifi?", "How do I get on the internet?"),
         ("How can I use the wireless network?", "Which network do I join with my laptop?")),
    Fact("Story hour is every Thursday at 16:10 in the blue room.",
         ("When is story hour?", "Is there anything for children?", "What day is story hour?"),
         ("At what time do you read stories to children?", "When can I bring my kids for a story?")),
)  # fmt: skip
GREETINGS = ("", "Hello! ", "Hi, ", "Good morning. ")
GREETINGS_OTHERWISE = ("", "Excuse me, ", "Good evening. ")
THANKS = ("Thank you.", "Thanks, that helps.", "Great, thanks!")


def conversation(dice: random.Random, facts: list[Fact], *, held_out: bool) -> list[dict[str, str]]:
    """A greeting with a question, its answer, and another question where there are two facts."""
    messages = [{"role": "system", "content": SYSTEM}]
    for turn, fact in enumerate(facts):
        question = dice.choice(fact.asked_otherwise if held_out else fact.asked)
        lead = dice.choice(GREETINGS_OTHERWISE if held_out else GREETINGS) if turn == 0 else f"{dice.choice(THANKS)} "
        messages += [{"role": "user", "content": lead + question}, {"role": "assistant", "content": fact.answer}]
    return messages


def rows(count: int, seed: int, *, held_out: bool) -> list[dict[str, list[dict[str, str]]]]:
    """Conversations over facts in equal shares, half of them with a second question; none twice."""
    dice = random.Random(seed)
    found: dict[str, list[dict[str, str]]] = {}
    while len(found) < count:
        first = FACTS[len(found) % len(FACTS)]
        others = [fact for fact in FACTS if fact is not first]
        facts = [first, dice.choice(others)] if dice.random() < 0.5 else [first]
        messages = conversation(dice, facts, held_out=held_out)
        found.setdefault(json.dumps(messages), messages)
    conversations = list(found.values())
    dice.shuffle(conversations)
    return [{"messages": messages} for messages in conversations]


def files() -> dict[str, bytes]:
    """Both files by name."""
    return {
        "library-train.jsonl": as_jsonl(rows(TRAIN_ROWS, SEED, held_out=False)),
        "library-eval.jsonl": as_jsonl(rows(EVAL_ROWS, SEED + 1, held_out=True)),
    }


if __name__ == "__main__":
    write(files())
