"""Commands that look before anything is trained; like `commands`, words and options only."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.shell import Json, Key, Url


def preview(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A file to upload, or a dataset's name or id.")],
    model: Annotated[
        str | None, typer.Option(help="Base model; left out, the first whose weights are here.", show_default=False)
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="sft, pretrain, classify, mask or dpo; left out, what suits the data.", show_default=False),
    ] = None,
    max_length: Annotated[int | None, typer.Option(help="Longest row in tokens.", show_default=False)] = None,
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
    data: Annotated[str, typer.Option("--data", help="A file to upload, or a dataset's name or id.")],
    evaluation: Annotated[
        str | None, typer.Option("--eval", help="The same, to score on; else a part of the data is held out.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Base model; left out, the first whose weights are here.", show_default=False)
    ] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data.", show_default=False)] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.", show_default=False)] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples per step.", show_default=False)] = None,
    adapter: Annotated[str | None, typer.Option(help="lora or full.", show_default=False)] = None,
    max_steps: Annotated[int | None, typer.Option(help="End after so many steps.", show_default=False)] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any further hyperparameter, as name=value.", show_default=False),
    ] = None,
    executor: Annotated[str | None, typer.Option(help="auto, local or simulation.", show_default=False)] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Take a few real steps and measure them.")] = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Say what a training would take: steps, tokens, time, memory, every setting and why. Nothing is started."""
    from app.cli.planning import plan
    from app.cli.training import Wanted

    config = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "adapter": adapter,
        "max_steps": max_steps,
    }
    wanted = Wanted(
        data=data, evaluation=evaluation, model=model, name=None, config=config, settings=set_ or [], executor=executor
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
