"""What a page knows of one run: curves and events, brought up to date by deltas. Pure; the caller asks the service.

A later attempt starts again at a checkpoint. Its `started` event says at which step, and what earlier attempts told
beyond it is forgotten, so that the picture is the same however often a page was opened meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from slm_client import Curve, Event

from components import words
from components.curves import thin

SOURCES = {"train_loss": ("step", "loss"), "val_loss": ("evaluated", "val_loss")}
"""Curve → (type of the event that tells it, field)."""
TOLD = (
    "started", "phase", "prepared", "warned", "evaluated", "checkpointed", "finished", "failed", "cancelled",
    "interrupted",
)  # fmt: skip
"""Types of events that people read; `step` is what the curves are for."""
KEPT_POINTS = 20_000
"""Points of a curve held for a visitor; a longer one is thinned to half of it, keeping lowest and highest values."""
KEPT_EVENTS = 500


@dataclass
class Column:
    """Steps and values, equally long; steps rise."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, step: int, value: float) -> None:
        """Take a point in; one that is known already is not doubled, one that is told again is replaced."""
        while self.steps and self.steps[-1] >= step:
            self.steps.pop()
            self.values.pop()
        self.steps.append(step)
        self.values.append(value)
        if len(self.steps) > KEPT_POINTS:
            self.steps, self.values = thin(self.steps, self.values, KEPT_POINTS // 2)

    def forget_beyond(self, step: int) -> None:
        keep = next((place for place, known in enumerate(self.steps) if known > step), len(self.steps))
        del self.steps[keep:], self.values[keep:]

    @property
    def last(self) -> float | None:
        return self.values[-1] if self.values else None


@dataclass
class History:
    """Curves by name, events for people (oldest first), and the number after which the next delta begins."""

    since: int = 0
    train_loss: Column = field(default_factory=Column)
    val_loss: Column = field(default_factory=Column)
    events: list[Event] = field(default_factory=list)

    @classmethod
    def opened(cls, curves: Mapping[str, Curve], events: Sequence[Event], *, since: int) -> History:
        """From the curves and events as they are when the page is opened. `since` was asked for before them: what
        came in between comes once more, and does no harm."""
        columns = {name: Column([*curve.step], [*curve.value]) for name, curve in curves.items() if name in SOURCES}
        return cls(since=since, events=[event for event in events if event.id <= since], **columns)

    def take(self, delta: Iterable[Event]) -> bool:
        """Take in events after `since`, in order; whether there was any news."""
        news = False
        for event in delta:
            if event.id <= self.since:
                continue
            news, self.since = True, event.id
            if event.type == "started" and event.attempt > 1:
                begin = event.payload.get("resumed_from_step")
                for name in SOURCES:
                    self.column(name).forget_beyond(begin if isinstance(begin, int) else 0)
            for name, (source, value) in SOURCES.items():
                told, step = event.payload.get(value), event.payload.get("step")
                if event.type == source and isinstance(told, int | float) and isinstance(step, int):
                    self.column(name).add(step, float(told))
            if event.type in TOLD:
                self.events.append(event)
        del self.events[:-KEPT_EVENTS]
        return news

    def column(self, name: str) -> Column:
        column: Column = getattr(self, name)
        return column

    def curves(self) -> dict[str, Column]:
        """Those that have points, by the names that people read."""
        named = {"training": self.train_loss, "validation": self.val_loss}
        return {name: column for name, column in named.items() if column.steps}


def sentence(event: Event) -> str:
    """What an event says, as people would."""
    told = event.payload
    match event.type:
        case "started":
            begin = told.get("resumed_from_step")
            went_on = f" Goes on from step {begin:,}." if isinstance(begin, int) and begin else ""
            attempt = f"Attempt {event.attempt} started" if event.attempt > 1 else "Started"
            machine = ", ".join(dict.fromkeys(str(told[key]) for key in ("device", "precision") if told.get(key)))
            return f"{attempt}{' on ' if machine else ''}{machine}.{went_on}"
        case "phase":
            return f"Now {told.get('phase', 'working')}."
        case "prepared":
            examples = told.get("train_examples")
            return f"Data prepared: {examples:,} examples to learn from." if examples else "Data prepared."
        case "evaluated":
            best = ", the best so far" if told.get("best") else ""
            return f"Validation loss {words.number(told.get('val_loss'))} at step {_step(told)}{best}."
        case "checkpointed":
            return f"Checkpoint at step {_step(told)}."
        case "finished":
            return "Finished."
        case "cancelled":
            return f"Stopped at step {_step(told)}." if told.get("step") else "Stopped."
        case _:
            return str(told.get("message") or event.type.capitalize() + ".")


def _step(told: Mapping[str, object]) -> str:
    step = told.get("step")
    return f"{step:,}" if isinstance(step, int) else words.UNKNOWN
