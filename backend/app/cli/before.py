"""Commands that look before anything is trained; like `commands`, words and options only."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli import asking
from app.cli.shell import Json, Key, Url


def preview(
    data: Annotated[str, typer.Argument(metavar="DATA", help=asking.DATA)],
    model: asking.Base = None,
    method: asking.MethodName = None,
    max_length: asking.MaxLength = None,
    rows: Annotated[int, typer.Option(min=1, max=200, help="So many rows are shown.")] = 5,
    offset: Annotated[int, typer.Option(min=0, help="The first row that is shown.")] = 0,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Show what would be learned, token by token, before anything is trained."""
    from app.cli.preview import preview

    preview(
        data,
        model=model,
        method=method,
        max_length=max_length,
        rows=rows,
        offset=offset,
        as_json=as_json,
        url=url,
        key=key,
    )


def plan(
    data: asking.Data,
    evaluation: asking.Evaluation = None,
    model: asking.Base = None,
    method: asking.MethodName = None,
    epochs: asking.Epochs = None,
    learning_rate: asking.LearningRate = None,
    batch_size: asking.BatchSize = None,
    adapter: asking.AdapterName = None,
    max_steps: asking.MaxSteps = None,
    max_length: asking.MaxLength = None,
    settings: asking.Settings = None,
    executor: asking.ExecutorName = None,
    measure: Annotated[bool, typer.Option("--measure", help="Take a few real steps and measure them.")] = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Say what a training would take: steps, tokens, time, memory, every setting and why. Nothing is started."""
    from app.cli.planning import plan
    from app.cli.training import Wanted

    wanted = Wanted.of(
        data,
        evaluation,
        model,
        executor,
        settings,
        method=method,
        adapter=adapter,
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        max_steps=max_steps,
        max_length=max_length,
    )
    plan(wanted, measure=measure, as_json=as_json, url=url, key=key)


def add_to(app: typer.Typer) -> None:
    """Make the commands part of the tree."""
    app.command(
        rich_help_panel="Data and models", epilog="Example: slm preview tickets.csv --model smollm2 --max-length 128"
    )(preview)
    app.command(rich_help_panel="Training", epilog="Example: slm plan --data tickets.csv --model smollm2 --measure")(
        plan
    )
