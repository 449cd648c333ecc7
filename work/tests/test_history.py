"""Curves and events kept up to date by deltas: the same picture as a visitor has who opens the page now."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from slm_client import Curve, Event

from components import history
from components.history import Column, History

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def event(identity: int, kind: str, *, attempt: int = 1, **payload: Any) -> Event:
    return Event(id=identity, type=kind, attempt=attempt, time=NOW, payload=payload)


def step(identity: int, number: int, loss: float, attempt: int = 1) -> Event:
    return event(identity, "step", attempt=attempt, step=number, loss=loss)


def test_a_delta_is_added_and_what_is_known_is_not_doubled() -> None:
    seen = History.opened({"train_loss": Curve(step=[1, 2, 3], value=[3.0, 2.0, 1.5])}, [event(1, "started")], since=3)
    assert seen.take([step(3, 2, 2.0), step(4, 3, 1.5), step(5, 4, 1.25)])
    assert seen.train_loss == Column([1, 2, 3, 4], [3.0, 2.0, 1.5, 1.25])
    assert seen.since == 5
    assert not seen.take([step(5, 4, 9.0)])
    assert seen.train_loss.last == 1.25
    assert [told.type for told in seen.events] == ["started"]


def test_events_after_the_number_that_was_asked_for_come_with_the_delta_alone() -> None:
    seen = History.opened({}, [event(1, "started"), event(9, "checkpointed", step=4)], since=8)
    seen.take([event(9, "checkpointed", step=4)])
    assert [told.id for told in seen.events] == [1, 9]


def test_a_resumed_attempt_supersedes_what_the_killed_one_told_beyond_its_checkpoint() -> None:
    seen = History()
    seen.take([
        event(1, "started"), *(step(1 + number, number, float(number)) for number in range(1, 9)),
        event(10, "evaluated", step=4, val_loss=0.4, best=True), event(11, "evaluated", step=8, val_loss=0.8),
    ])  # fmt: skip
    seen.take([event(12, "started", attempt=2, resumed_from_step=5)])
    assert seen.train_loss.steps == [1, 2, 3, 4, 5]
    assert seen.val_loss == Column([4], [0.4])
    seen.take([step(13, 6, 60.0, attempt=2)])
    assert seen.train_loss.values == [1, 2, 3, 4, 5, 60.0]


def test_an_attempt_that_begins_anew_forgets_everything() -> None:
    seen = History()
    seen.take([event(1, "started"), step(2, 1, 1.0), event(3, "started", attempt=2, resumed_from_step=None)])
    assert not seen.curves()


@given(st.lists(st.integers(1, 30), max_size=40), st.integers(0, 30))
def test_steps_rise_whatever_is_told(steps: list[int], begin: int) -> None:
    column = Column()
    for number in steps:
        column.add(number, float(number))
    column.forget_beyond(begin)
    assert column.steps == sorted(set(column.steps))
    assert all(known <= begin for known in column.steps)
    assert column.values == [float(known) for known in column.steps]


def test_a_run_without_end_costs_bounded_memory_and_keeps_its_spikes() -> None:
    column = Column()
    for number in range(1, 50_001):
        column.add(number, 100.0 if number == 17_000 else 1.0)
    assert len(column.steps) <= history.KEPT_POINTS
    assert (column.steps[0], column.steps[-1]) == (1, 50_000)
    assert 100.0 in column.values
    seen = History()
    seen.take(event(number, "phase", phase="training") for number in range(1, 3000))
    assert len(seen.events) == history.KEPT_EVENTS
    assert seen.events[-1].id == 2999


def test_what_is_not_a_number_is_no_point() -> None:
    seen = History()
    seen.take(
        [event(1, "step", step=1, loss=None), event(2, "step", step=None, loss=1.0), event(3, "evaluated", step=1)]
    )
    assert not seen.curves()
    assert [told.type for told in seen.events] == ["evaluated"]


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        (event(1, "started", device="cpu", precision="float32"), "Started on cpu, float32."),
        (event(1, "started", attempt=2, resumed_from_step=1200), "Attempt 2 started. Goes on from step 1,200."),
        (event(1, "phase", phase="evaluating"), "Now evaluating."),
        (event(1, "prepared", train_examples=1080), "Data prepared: 1,080 examples to learn from."),
        (
            event(1, "evaluated", step=1200, val_loss=0.512345, best=True),
            "Validation loss 0.512 at step 1,200, the best so far.",
        ),
        (event(1, "evaluated", step=8, val_loss=None), "Validation loss – at step 8."),
        (event(1, "checkpointed", step=8), "Checkpoint at step 8."),
        (event(1, "finished"), "Finished."),
        (event(1, "cancelled", step=7), "Stopped at step 7."),
        (event(1, "cancelled", step=0), "Stopped."),
        (event(1, "failed", message="The memory did not suffice."), "The memory did not suffice."),
        (event(1, "interrupted"), "Interrupted."),
    ],
)
def test_events_read_as_sentences(told: Event, sentence: str) -> None:
    assert history.sentence(told) == sentence
