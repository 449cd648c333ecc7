"""Commands that look at a model that is there already; like `commands`, words and options only."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.shell import Json, Key, NoWatch, Url


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model's name or id, base or fine-tuned.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="A file to upload, or a dataset's name or id.")],
    no_watch: NoWatch = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Score a model on any data that suit it, beside its base, and show the scorecard."""
    from app.cli.scoring import evaluate

    evaluate(model, data, watching=not no_watch, as_json=as_json, url=url, key=key)


def add_to(app: typer.Typer) -> None:
    """Make the commands part of the tree."""
    app.command(rich_help_panel="Training", epilog="Example: slm evaluate Tickets unseen.csv")(evaluate)
