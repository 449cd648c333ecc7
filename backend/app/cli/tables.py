"""How answers look to people: tables, figures, and no control codes where nobody watches."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 160


def console(*, stderr: bool = False) -> Console:
    """Rich where a person looks at a terminal; plain, wide lines elsewhere."""
    from rich.console import Console

    found = Console(stderr=stderr, highlight=False)
    if live(found):
        return found
    return Console(stderr=stderr, highlight=False, width=PLAIN_WIDTH, color_system=None, force_terminal=False)


def live(found: Console) -> bool:
    """Whether a moving display makes sense."""
    return found.is_terminal and not found.is_dumb_terminal


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Columns side by side; those named in `right` are flush right."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text("–" if cell is None else str(cell)) for cell in row))
    console().print(table)


def count(number: float | None) -> str | None:
    """124000000 → 124M."""
    if number is None:
        return None
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.0f}"


def size(number: float | None) -> str | None:
    """Bytes in decimal units."""
    if number is None:
        return None
    for unit, step in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= step:
            return f"{number / step:.1f} {unit}"
    return f"{number:.0f} B"


def duration(seconds: float | None) -> str:
    """75 → 1:15; 3700 → 1:01:40."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def ago(instant: datetime | None) -> str | None:
    """How long since, in the largest sensible unit."""
    if instant is None:
        return None
    seconds = (datetime.now(UTC) - instant).total_seconds()
    for unit, step in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= step:
            return f"{int(seconds // step)} {unit} ago"
    return "just now"


def figure(value: object) -> str:
    """A metric, with as many digits as mean something."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
