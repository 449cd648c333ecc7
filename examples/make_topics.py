#!/usr/bin/env python3
"""Generate the topics task: a short message in, one of five topics out. Standard library only.

Run `python examples/make_topics.py` to write `topics-train.csv` and `topics-eval.csv` beside this file. The result
depends on nothing but `SEED` and the word lists below. No word that tells a topic occurs in both files: who has only
counted words (TF-IDF) is left with guessing, who knows what words mean (a pretrained encoder) is not.
"""

from __future__ import annotations

import random

from writing import as_csv, write

SEED = 31
TRAIN_ROWS = 240
EVAL_ROWS = 100

TRAIN: dict[str, tuple[str, ...]] = {
    "travel": ("flight", "hotel", "passport", "suitcase", "airport", "cruise", "visa", "train ticket", "hostel",
               "itinerary", "boarding pass", "tourist guide"),
    "food": ("recipe", "soup", "bakery", "cheese", "dinner", "spices", "noodles", "chocolate cake", "salad",
             "frying pan", "breakfast", "tomato sauce"),
    "sport": ("football", "marathon", "goalkeeper", "tennis racket", "coach", "league", "swimming race", "stadium",
              "referee", "training match", "medal", "sprint"),
    "health": ("doctor", "fever", "vaccine", "headache", "pharmacy", "blood pressure", "surgery", "allergy", "bandage",
               "hospital", "cough", "prescription"),
    "money": ("bank account", "loan", "salary", "invoice", "mortgage", "tax return", "credit card", "savings", "budget",
              "insurance fee", "shares", "interest rate"),
}  # fmt: skip
EVAL: dict[str, tuple[str, ...]] = {
    "travel": (
        "luggage",
        "sightseeing tour",
        "airline",
        "beach resort",
        "backpacking trip",
        "layover",
        "departure gate",
    ),
    "food": ("pizza", "roasted chicken", "restaurant menu", "bread dough", "fruit smoothie", "grilled fish", "dessert"),
    "sport": ("basketball", "boxing champion", "gymnast", "hockey team", "cyclist", "penalty kick", "world cup final"),
    "health": ("dentist", "flu", "painkiller", "nurse", "broken leg", "infection", "physiotherapy"),
    "money": ("pension", "debt", "stock market", "cash withdrawal", "refund of taxes", "inflation", "dividend"),
}
"""What the messages are about; the two lists share no word."""

TRAIN_FRAMES = (
    "Do you know anything about the {0}?",
    "I wrote to them about the {0} yesterday.",
    "My sister keeps talking of the {0} and the {1}.",
    "We should discuss the {0} before Friday.",
    "Please remind me of the {0}, and of the {1} too.",
    "There was a long article on the {0}.",
    "I am not sure what to do about the {0}.",
    "The {0} was better than the {1}.",
)
EVAL_FRAMES = (
    "Could someone help me with the {0}?",
    "Everybody in the office mentions the {0} today.",
    "It is all about the {0} and the {1} again.",
    "I have a question concerning the {0}.",
    "Her letter describes the {0} in detail.",
)


def rows(words: dict[str, tuple[str, ...]], frames: tuple[str, ...], count: int, seed: int) -> list[tuple[str, str]]:
    """(text, label) pairs: topics in equal shares, no text twice."""
    dice = random.Random(seed)
    labels = list(words)
    found: dict[str, str] = {}
    while len(found) < count:
        label = labels[len(found) % len(labels)]
        first, second = dice.sample(words[label], 2)
        found.setdefault(dice.choice(frames).format(first, second), label)
    pairs = list(found.items())
    dice.shuffle(pairs)
    return pairs


def files() -> dict[str, bytes]:
    """Both files by name."""
    return {
        "topics-train.csv": as_csv(("text", "label"), rows(TRAIN, TRAIN_FRAMES, TRAIN_ROWS, SEED)),
        "topics-eval.csv": as_csv(("text", "label"), rows(EVAL, EVAL_FRAMES, EVAL_ROWS, SEED + 1)),
    }


if __name__ == "__main__":
    write(files())
