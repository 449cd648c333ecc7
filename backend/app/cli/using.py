"""Commands that use a model; like `commands`, words and options only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.shell import Json, Key, Url

_Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name, id, or the first or last characters of the id.")]


def chat(
    model: _Model,
    prompt: Annotated[
        str | None, typer.Argument(help="What to ask; left out, a conversation begins.", show_default=False)
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="Let the base of a fine-tuned model answer too.")] = False,
    system: Annotated[str | None, typer.Option(help="A system prompt.", show_default=False)] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=8192, help="Longest answer in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, max=2, help="0 takes the likeliest word each time.")] = 0.7,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest tokens that reach this chance.")] = 0.95,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The same seed gives the same answer.", show_default=False)
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="A text that ends the answer; may be repeated.", show_default=False)
    ] = None,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Talk to a model. Ctrl-C stops an answer, Ctrl-D ends the conversation."""
    from app.cli.chat import Wanted, chat

    wanted = Wanted(
        compare=compare,
        system=system,
        sampling={
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "seed": seed,
            "stop": stop or None,
        },
    )
    chat(model, prompt, wanted, as_json=as_json, url=url, key=key)


def predict(
    model: _Model,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A file to upload, or a dataset's name or id.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file to write; left out, named after the data.", show_default=False),
    ] = None,
    mapping: Annotated[
        str | None,
        typer.Option(help="Which column is asked: prompt=question, or text=review.", show_default=False),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, max=8192, help="Longest answer in tokens.")] = 256,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Run a model over a whole dataset: every row, with its answer or its fault, in one JSONL file."""
    from app.cli.predict import predict

    predict(
        model, data, output=output, mapping=mapping, max_new_tokens=max_new_tokens, as_json=as_json, url=url, key=key
    )


def add_to(app: typer.Typer) -> None:
    """Make the commands part of the tree."""
    panel = "Use a model"
    app.command(rich_help_panel=panel, epilog='Example: slm chat Tickets "Where is my parcel?" --compare')(chat)
    app.command(rich_help_panel=panel, epilog="Example: slm predict Tickets new.csv -o answers.jsonl")(predict)
