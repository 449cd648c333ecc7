"""`slm plan`: what a training would take, as a table, before it is started."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from app.cli import connect, tables
from app.cli.shell import print_json, say
from app.cli.training import Wanted

if TYPE_CHECKING:
    from slm_client import Plan
    from slm_client.plans import Figure


_InWords = Callable[[float], str | None]


def plan(wanted: Wanted, *, measure: bool, as_json: bool, url: str | None, key: str | None) -> None:
    """Say what the training would take."""
    with connect.client(url, key) as client:
        learned, base, request = wanted.found(client, quiet=True)
        if measure:
            say("Taking a few steps; this may take a minute or two.", quiet=True)
        found = client.experiments.plan(**request, measure=measure)
    if as_json:
        print_json(found.wire)
        return
    say(f"{base.name} on {learned.name}: {found.method} with {found.adapter}. {found.executor_reason}")
    _say_figures(found)
    _say_settings(found, asked=wanted.config)
    if found.overlap is not None:
        matches = sum(int(found.overlap.get(kind) or 0) for kind in ("exact", "normalised", "near"))
        say(f"overlap: {matches} of {found.overlap.get('rows')} evaluation rows are like training rows")
    for warning in found.warnings:
        say(f"note: {warning}")


def _say_figures(found: Plan) -> None:
    shown: list[tuple[str, Figure | None, _InWords]] = [
        ("steps", found.steps, lambda value: f"{value:,.0f}"),
        ("tokens", found.tokens, lambda value: f"{value:,.0f}"),
        ("time", found.seconds, tables.duration),
        ("CPU time", found.cpu_seconds, tables.duration),
        ("memory", found.memory_bytes, tables.size),
        ("disk for checkpoints", found.checkpoint_bytes, tables.size),
    ]
    rows = [
        (name, say_it(figure.value), _between(figure, say_it), figure.basis)
        for name, figure, say_it in shown
        if figure is not None
    ]
    tables.print_table(("it takes", "", "between", "by"), rows, right=("", "between"))
    say(f"learned from {found.train_examples:,} rows, scored on {found.eval_examples:,}")


def _between(figure: Figure, say_it: _InWords) -> str:
    """The least and the most; nothing for a figure that is exact."""
    if figure.low is None or figure.high is None or figure.low == figure.high:
        return ""
    return f"{say_it(figure.low)} – {say_it(figure.high)}"


def _say_settings(found: Plan, *, asked: Container[str]) -> None:
    """The values that were chosen, by whoever asked or for a reason; the rest are the same for every training."""
    rows = [
        (name, value, found.reasons.get(name, "as asked for").rstrip("."))
        for name, value in found.training_config.items()
        if name in found.reasons or name in asked
    ]
    tables.print_table(("setting", "value", "why"), rows)
