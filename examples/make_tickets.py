#!/usr/bin/env python3
"""Generate the support-ticket task: a short e-mail in, one line of JSON out. Standard library only.

Run `python examples/make_tickets.py` to write `tickets-train.csv` and `tickets-eval.csv` beside this file. The result
depends on nothing but `SEED` and the word lists below. No customer name, product or phrasing of the held-out file
occurs in the training file, so whoever answers it well has learned the task and not the sentences.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

from writing import as_csv, write

SEED = 20
TRAIN_ROWS = 240
EVAL_ROWS = 64
INSTRUCTION = "Ticket to JSON with name, product, issue (broken, late, refund, login), priority (normal, high): "


@dataclass(frozen=True)
class Pool:
    """Words and phrasings of one file. `{name}` and `{product}` are filled in."""

    first_names: tuple[str, ...]
    last_names: tuple[str, ...]
    products: tuple[str, ...]
    openings: tuple[str, ...]
    closings: tuple[str, ...]
    issues: dict[str, tuple[str, ...]]
    priorities: dict[str, tuple[str, ...]]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TRAIN = Pool(
    first_names=_words(
        "Anna Ben Carla David Elena Frank Grace Henry Irene Jonas Karen Liam Maria Noah Olga Peter Rosa Simon "
        "Tara Victor Wendy Yusuf Zoe Amir Bella Chen Diego Emma Felix Gita"
    ),
    last_names=_words(
        "Adams Baker Costa Diaz Evans Fischer Garcia Hansen Ivanov Jensen Kim Lopez Meyer Novak Olsen Patel "
        "Quinn Rossi Silva Tanaka Usman Vogel Weber Young Zhang Brown Clark Dubois Ferrari Gupta"
    ),
    products=(
        "Aero kettle",
        "Bolt drill",
        "Cedar desk",
        "Delta phone",
        "Echo speaker",
        "Fern lamp",
        "Glide scooter",
        "Halo router",
        "Ion battery",
        "Jade watch",
        "Kite tablet",
        "Luma camera",
        "Mira mirror",
        "Nova printer",
        "Orbit fan",
        "Pixel monitor",
        "Quill keyboard",
        "Ridge backpack",
        "Sonic toothbrush",
        "Terra heater",
        "Ultra blender",
        "Vista projector",
        "Wave mixer",
        "Zen headset",
    ),
    openings=(
        "Hello, I am {name}.",
        "This is {name}.",
        "My name is {name}.",
        "{name} here.",
        "Hi, {name} writing.",
        "Good morning, it's {name}.",
    ),
    closings=("Regards, {name}", "Thanks, {name}", "Best wishes, {name}", "Kind regards, {name}"),
    issues={
        "broken": (
            "My {product} stopped working.",
            "The {product} does not turn on.",
            "The {product} is cracked.",
            "My {product} makes smoke.",
            "A part of the {product} fell off.",
            "The {product} is defective.",
            "My {product} is damaged.",
            "The {product} switches itself off.",
        ),
        "late": (
            "My {product} has not arrived.",
            "I am still waiting for the {product}.",
            "Where is my {product}?",
            "The {product} was due last week.",
            "The delivery of my {product} is delayed.",
            "The tracking of my {product} has not moved.",
            "I ordered the {product} a month ago and got nothing.",
            "The courier never brought the {product}.",
        ),
        "refund": (
            "I want my money back for the {product}.",
            "Please refund the {product}.",
            "I returned the {product} and was not paid back.",
            "I would like to return the {product}.",
            "You charged me twice for the {product}.",
            "I cancelled the {product}, please pay me back.",
            "Reimburse me for the {product}.",
            "I was billed too much for the {product}.",
        ),
        "login": (
            "I cannot log in to my {product}.",
            "The {product} rejects my password.",
            "My {product} account is locked.",
            "I forgot the password of my {product}.",
            "The {product} app says my user is unknown.",
            "I am locked out of the {product}.",
            "The sign-in code for the {product} never works.",
            "The {product} does not accept my PIN.",
        ),
    },
    priorities={
        "high": (
            "This is urgent.",
            "I need help today.",
            "Please answer at once.",
            "It is an emergency.",
            "Act immediately, please.",
            "I cannot wait any longer.",
            "This must be solved right now.",
            "Please hurry.",
        ),
        "normal": (
            "There is no hurry.",
            "Take your time.",
            "Whenever you can.",
            "It is not urgent.",
            "No rush at all.",
            "Next week is fine.",
            "Answer when it suits you.",
            "It can wait.",
        ),
    },
)

EVAL = Pool(
    first_names=_words("Oscar Priya Marta Hugo Nina Tobias Leila Marcus Sofia Viktor Aisha Gordon Ingrid Paulo"),
    last_names=_words("Almeida Berg Castillo Dvorak Eriksen Farah Greco Hoffman Iyer Kowalski Lindqvist Moreau"),
    products=(
        "Atlas vacuum",
        "Comet toaster",
        "Dune tent",
        "Ember stove",
        "Frost fridge",
        "Lotus chair",
        "Maple shelf",
        "Onyx laptop",
        "Polar freezer",
        "Spark charger",
        "Tidal pump",
        "Willow crib",
    ),
    openings=("Dear team, I'm {name}.", "{name} speaking.", "Hey, {name} again.", "You are reading {name}."),
    closings=("Cheers, {name}", "Yours, {name}", "Sincerely, {name}"),
    issues={
        "broken": (
            "Since Monday the {product} is dead.",
            "The {product} came with a broken hinge.",
            "My {product} no longer starts.",
            "Sparks come out of the {product}.",
        ),
        "late": (
            "No sign of the {product} I ordered.",
            "The parcel with my {product} is overdue.",
            "When will the {product} be delivered?",
            "My {product} should have come ten days ago.",
        ),
        "refund": (
            "Kindly give me back what I paid for the {product}.",
            "The {product} is not for me, refund it.",
            "I sent the {product} back and still have no refund.",
            "My card was charged two times for the {product}.",
        ),
        "login": (
            "My {product} says wrong password.",
            "Logging in to the {product} fails.",
            "The {product} will not let me sign in.",
            "I need a new password for my {product}.",
        ),
    },
    priorities={
        "high": ("It is really urgent!", "Fix it now.", "I need an answer within the hour.", "Immediately, please!"),
        "normal": ("There is plenty of time.", "I am not in a hurry.", "Any day is fine.", "No need to rush."),
    },
)


def rows(pool: Pool, count: int, seed: int) -> list[tuple[str, str]]:
    """(prompt, completion) pairs: issues and priorities in equal shares, the rest drawn; no prompt twice."""
    dice = random.Random(seed)
    issues, priorities = list(pool.issues), list(pool.priorities)
    found: dict[str, str] = {}
    while len(found) < count:
        at = len(found)
        name = f"{dice.choice(pool.first_names)} {dice.choice(pool.last_names)}"
        product = dice.choice(pool.products)
        issue, priority = issues[at % len(issues)], priorities[at // len(issues) % len(priorities)]
        body = f"{dice.choice(pool.issues[issue])} {dice.choice(pool.priorities[priority])}"
        if dice.random() < 0.5:
            ticket = f"{dice.choice(pool.openings)} {body}"
        else:
            ticket = f"{body} {dice.choice(pool.closings)}"
        record = {"name": name, "product": product, "issue": issue, "priority": priority}
        found.setdefault(INSTRUCTION + ticket.format(name=name, product=product), json.dumps(record))
    pairs = list(found.items())
    dice.shuffle(pairs)
    return pairs


def files() -> dict[str, bytes]:
    """Both files by name."""
    return {
        "tickets-train.csv": as_csv(("prompt", "completion"), rows(TRAIN, TRAIN_ROWS, SEED)),
        "tickets-eval.csv": as_csv(("prompt", "completion"), rows(EVAL, EVAL_ROWS, SEED + 1)),
    }


if __name__ == "__main__":
    write(files())
