#!/usr/bin/env python3
"""Generate the replies task: pairs of a considerate and a cold answer to a customer. Standard library only.

Run `python examples/make_replies.py` to write `replies-train.jsonl` and `replies-eval.jsonl` beside this file (with
`prompt`, `chosen`, `rejected`). The result depends on nothing but `SEED` and the lists below. The better answer says
sorry and what comes next; the worse one, as long, is cold. No product, problem or phrasing of the held-out file occurs
in the training file.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from writing import as_jsonl, write

SEED = 59
TRAIN_ROWS = 120
EVAL_ROWS = 40


@dataclass(frozen=True)
class Pool:
    """Words and phrasings of one file; `{thing}` is filled in."""

    things: tuple[str, ...]
    problems: tuple[str, ...]
    sorry: tuple[str, ...]
    next_step: tuple[str, ...]
    cold: tuple[str, ...]
    brush_off: tuple[str, ...]


TRAIN = Pool(
    things=(
        "kettle",
        "lamp",
        "bicycle",
        "printer",
        "jacket",
        "phone",
        "desk",
        "heater",
        "camera",
        "backpack",
        "watch",
        "fan",
    ),
    problems=(
        "My {thing} arrived broken.",
        "The {thing} I ordered has not come yet.",
        "The {thing} is the wrong colour.",
        "I want to give the {thing} back.",
        "You charged me twice for the {thing}.",
        "The {thing} makes a strange noise.",
    ),
    sorry=(
        "I am sorry about the trouble with your {thing}.",
        "We apologise that the {thing} disappointed you.",
        "Thank you for telling us about the {thing}, and I am sorry for it.",
    ),
    next_step=(
        "Please send me your order number, and I will arrange a solution today.",
        "If you tell us your order number, a new one leaves tomorrow.",
        "I have opened a case, and a colleague will call you this afternoon.",
    ),
    cold=(
        "What you write about the {thing} is of no interest to us.",
        "Other people are quite content with their {thing}.",
        "You should have read the manual of the {thing} first.",
    ),
    brush_off=(
        "Do not write to us again about this matter.",
        "There is nothing that we could or would do.",
        "Ask someone else, we have more important work here.",
    ),
)
EVAL = Pool(
    things=("toaster", "tent", "laptop", "armchair", "scooter", "vacuum cleaner"),
    problems=(
        "Half of the parts are missing from my {thing}.",
        "Why does the {thing} switch itself off?",
        "The parcel with the {thing} was open.",
        "Your {thing} stopped working after a week.",
    ),
    sorry=(
        "I regret the inconvenience with the {thing}.",
        "That should not have happened with your {thing}, please excuse us.",
    ),
    next_step=(
        "May I have the order number, so that I can put it right?",
        "We will replace it free of charge; where should we send it?",
    ),
    cold=(
        "Nobody else complains about that {thing}.",
        "A {thing} at this price is no miracle, as everyone knows.",
    ),
    brush_off=(
        "You will have to live with it, as others do.",
        "This conversation is over, and so is our patience.",
    ),
)


def rows(pool: Pool, count: int, seed: int) -> list[dict[str, str]]:
    """Pairs over problems in equal shares; none twice."""
    dice = random.Random(seed)
    found: dict[str, dict[str, str]] = {}
    while len(found) < count:
        thing = dice.choice(pool.things)
        prompt = pool.problems[len(found) % len(pool.problems)].format(thing=thing)
        chosen = f"{dice.choice(pool.sorry).format(thing=thing)} {dice.choice(pool.next_step)}"
        rejected = f"{dice.choice(pool.cold).format(thing=thing)} {dice.choice(pool.brush_off)}"
        row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        found.setdefault(json.dumps(row), row)
    pairs = list(found.values())
    dice.shuffle(pairs)
    return pairs


def files() -> dict[str, bytes]:
    """Both files by name."""
    return {
        "replies-train.jsonl": as_jsonl(rows(TRAIN, TRAIN_ROWS, SEED)),
        "replies-eval.jsonl": as_jsonl(rows(EVAL, EVAL_ROWS, SEED + 1)),
    }


if __name__ == "__main__":
    write(files())
