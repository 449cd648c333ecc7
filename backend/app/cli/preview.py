"""`slm preview`: what would be learned, coloured on a terminal, in brackets elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from app.cli import connect, tables
from app.cli.shell import print_json, say
from app.cli.training import dataset_of, ready_model

if TYPE_CHECKING:
    from rich.text import Text
    from slm_client import Preview, PreviewExample

LEARNED, READ, CUT = "bold green", "bright_black", "red strike"
_OPENING, _CLOSING = "⟦", "⟧"
_CUT_OPENING, _CUT_CLOSING = "✂", "✂"


def preview(
    data: str,
    *,
    model: str | None,
    method: str | None,
    max_length: int | None,
    rows: int,
    offset: int,
    as_json: bool,
    url: str | None,
    key: str | None,
) -> None:
    """Upload what is a file, and show what a training would learn from it."""
    with connect.client(url, key) as client:
        dataset = dataset_of(client, data, "training", quiet=as_json or Path(data).is_file())
        base = connect.model(client, model) if model else ready_model(client)
        found = client.datasets.preview(
            dataset.id, base_model_id=base.id, method=method, max_length=max_length, limit=rows, offset=offset
        )
    if as_json:
        print_json(found.wire)
        return
    coloured = tables.live(tables.console())
    say(f"{dataset.name} as {base.name} would learn it ({found.method}, at most {found.max_length} tokens a row)")
    say(f"  {LEGEND_COLOURED if coloured else LEGEND_PLAIN}")
    for example in found.examples:
        tables.console().print(_heading(example), style="bold" if coloured else "", markup=False)
        if example.dropped is None:
            tables.console().print(coloured_text(example) if coloured else plain_text(example), soft_wrap=True)
    _say_figures(found)


LEGEND_COLOURED = "green is learned, grey is only read, red is cut off by max_length"
LEGEND_PLAIN = f"{_OPENING}learned{_CLOSING}, the rest is only read; {_CUT_OPENING}cut off by max_length{_CUT_CLOSING}"


def _heading(example: PreviewExample) -> str:
    place = f"line {example.line}" + (f", {example.side}" if example.side else "")
    if example.dropped is not None:
        return f"\n{place}: not learned. {example.dropped}"
    label = f", label {example.label}" if example.label is not None else ""
    cut = f", {example.cut_tokens:,} cut off" if example.cut_tokens else ""
    return f"\n{place}{label}: {example.tokens:,} tokens, {example.learned_tokens:,} learned{cut}"


def coloured_text(example: PreviewExample) -> Text:
    """The row in one piece, each token in the colour of what becomes of it."""
    from rich.text import Text

    text = Text()
    for piece in example.pieces:
        text.append(piece.text, style=LEARNED if piece.learned else READ)
    for piece in example.cut:
        text.append(piece.text, style=CUT)
    if len(example.cut) < example.cut_tokens:
        text.append("…", style=CUT)
    return text


def plain_text(example: PreviewExample) -> Text:
    """The row in one piece, what is learned and what is cut off in brackets of their own."""
    from rich.text import Text

    parts: list[str] = []
    inside = False
    for piece in example.pieces:
        if piece.learned != inside:
            parts.append(_OPENING if piece.learned else _CLOSING)
            inside = piece.learned
        parts.append(piece.text)
    parts.append(_CLOSING if inside else "")
    if example.cut:
        more = "…" if len(example.cut) < example.cut_tokens else ""
        parts += [_CUT_OPENING, *(piece.text for piece in example.cut), more, _CUT_CLOSING]
    return Text("".join(parts))


def _say_figures(found: Preview) -> None:
    counts, lengths = found.counts, found.lengths
    of = f"{found.rows_read:,} rows" if found.rows_read == found.rows_total else (
        f"{found.rows_read:,} of {found.rows_total:,} rows"
    )  # fmt: skip
    say("")
    say(
        f"{of}: {counts.get('examples', 0):,} learned from, {counts.get('dropped', 0):,} not, "
        f"{counts.get('truncated', 0):,} cut; {counts.get('tokens', 0):,} tokens, "
        f"{counts.get('learned_tokens', 0):,} learned"
    )
    say(f"tokens a row: half up to {lengths.get('p50')}, 95 % up to {lengths.get('p95')}, longest {lengths.get('max')}")
    for warning in found.warnings:
        say(f"note: {warning}")
