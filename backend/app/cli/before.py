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


def add_to(app: typer.Typer) -> None:
    """Make the commands part of the tree."""
    app.command(
        rich_help_panel="Data and models", epilog="Example: slm preview tickets.csv --model smollm2 --max-length 128"
    )(preview)
