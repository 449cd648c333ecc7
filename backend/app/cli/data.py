"""`slm upload`, `split`, `list`, `show`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli import connect, tables
from app.cli.shell import Code, Stop, print_json, say

if TYPE_CHECKING:
    from slm_client import Client, DatasetDetail

FILE_TYPES = (".csv", ".json", ".jsonl")
SHOWN_FAULTS = 5


def upload(
    file: Path,
    *,
    name: str | None,
    dataset_type: str,
    mapping: str | None,
    description: str,
    encoding: str | None,
    as_json: bool,
    url: str | None,
    key: str | None,
) -> None:
    """Send a file and say what was found in it."""
    if not file.is_file():
        raise Stop(f"There is no file {file}.", Code.USAGE)
    roles = parse_mapping(mapping)
    with connect.client(url, key) as client, progress_bar(f"Sending {file.name}", quiet=as_json) as on_progress:
        dataset = client.datasets.upload(
            file,
            name=name,
            dataset_type=dataset_type,
            mapping=roles,
            description=description,
            encoding=encoding,
            on_progress=on_progress,
        )
    if as_json:
        print_json(dataset.wire)
        return
    describe(dataset)


def split(
    which: str, *, fraction: float, seed: int, stratify: bool, as_json: bool, url: str | None, key: str | None
) -> None:
    """Make two datasets out of one and say what is in each."""
    with connect.client(url, key) as client:
        source = connect.dataset(client, which)
        parts = client.datasets.split(source.id, fraction=fraction, seed=seed, stratify=stratify)
    if as_json:
        print_json([dataset.wire for dataset in parts])
        return
    for dataset in parts:
        describe(dataset)
        say(f"  for      {dataset.dataset_type}")


def describe(dataset: DatasetDetail) -> None:
    """What the service found in a file, in a few lines."""
    kind = dataset.kind.replace("_", "/") if dataset.kind else "not understood yet"
    say(f"{dataset.name}: {dataset.row_count:,} rows, {kind} ({tables.size(dataset.size_bytes)})")
    say(f"  id       {dataset.id}")
    if dataset.columns:
        say(f"  columns  {', '.join(dataset.columns)}")
    if dataset.kind is None and dataset.kind_reason:
        say(f"  {dataset.kind_reason}")
    if dataset.faults.count:
        say(f"  {dataset.faults.count:,} rows cannot be used:")
        for fault in dataset.faults.first[:SHOWN_FAULTS]:
            say(f"    line {fault.line}: {fault.message}")
        if dataset.faults.count > SHOWN_FAULTS:
            say(f"    … and {dataset.faults.count - SHOWN_FAULTS:,} more")


def parse_mapping(text: str | None) -> dict[str, str] | None:
    """`role=column,role=column`, or a JSON object. Raises `Stop` (usage)."""
    if text is None:
        return None
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise Stop(f"--mapping is not valid JSON: {error}.", Code.USAGE) from None
        return {str(role): str(column) for role, column in found.items()}
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(role.strip() and equals and column.strip() for role, equals, column in pairs):
        raise Stop("--mapping is role=column, for example prompt=question,completion=answer.", Code.USAGE)
    return {role.strip(): column.strip() for role, _, column in pairs}


@contextmanager
def progress_bar(title: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar of bytes where a person watches; elsewhere nothing."""
    out = tables.console(stderr=True)
    if quiet or not tables.live(out):
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def on_progress(done: int, total: int) -> None:
            # All bytes sent: the service still looks into the file.
            said = title if done < total or not total else f"{title}: checking"
            bar.update(task, completed=done, total=total or None, description=said)

        yield on_progress


def listing(noun: str, *, limit: int | None, as_json: bool, url: str | None, key: str | None) -> None:
    """Print one list."""
    with connect.client(url, key) as client:
        rows: Sequence[Any] = getattr(client, noun).list(limit=limit)
        if as_json:
            print_json([row.wire for row in rows])
            return
        if not rows:
            say(_EMPTY[noun])
            return
        _TABLES[noun](client, rows)


_EMPTY = {
    "experiments": "No experiments yet. `slm train --data FILE` makes one.",
    "datasets": "No datasets yet. `slm upload FILE` adds one.",
    "models": "No models.",
    "evaluations": "No evaluations yet; every completed training makes one.",
}


def _experiments(_client: Client, rows: Sequence[Any]) -> None:
    shown = [
        (
            connect.short(row.id),
            row.name,
            row.status + (" (simulated)" if row.simulated else ""),
            f"{row.method} {row.adapter}".strip(),
            tables.duration((row.finished_at - row.started_at).total_seconds())
            if row.started_at and row.finished_at
            else None,
            tables.ago(row.created_at),
        )
        for row in rows
    ]
    tables.print_table(("id", "name", "status", "method", "took", "created"), shown, right=("took",))


def _datasets(_client: Client, rows: Sequence[Any]) -> None:
    shown = [
        (connect.short(row.id), row.name, row.dataset_type, f"{row.row_count:,}", tables.ago(row.created_at))
        for row in rows
    ]
    tables.print_table(("id", "name", "type", "rows", "created"), shown, right=("rows",))


def _models(client: Client, rows: Sequence[Any]) -> None:
    # Whether weights are here stands in the detail only; bases are few.
    weights = {row.id: client.models.get(row.id).weights for row in rows if row.model_type == "base"}
    shown = [
        (
            connect.short(row.id),
            row.name,
            row.model_type.replace("_", "-"),
            row.version,
            tables.count(row.parameters_count),
            weights.get(row.id) or ("none (simulated)" if row.simulated else "present"),
        )
        for row in rows
    ]
    tables.print_table(("id", "name", "type", "version", "parameters", "weights"), shown, right=("parameters",))


def _evaluations(client: Client, rows: Sequence[Any]) -> None:
    names = {row.id: row.name for row in client.experiments.iterate(page_size=1000)}
    shown = [
        (
            connect.short(row.id),
            names.get(row.experiment_id),
            "simulated" if row.simulated else "measured",
            tables.ago(row.created_at),
        )
        for row in rows
    ]
    tables.print_table(("id", "experiment", "numbers", "created"), shown)


_TABLES: dict[str, Callable[[Client, Sequence[Any]], None]] = {
    "experiments": _experiments,
    "datasets": _datasets,
    "models": _models,
    "evaluations": _evaluations,
}


def show(wanted: str, *, as_json: bool, url: str | None, key: str | None) -> None:
    """Print one thing in full."""
    with connect.client(url, key) as client:
        noun, found = connect.anything(client, wanted)
    if as_json:
        print_json({"type": noun, **found.wire})
        return
    say(f"{noun} {getattr(found, 'name', found.id)}")
    for name, value in found.wire.items():
        if value not in (None, "", [], {}):
            _print_field(name, value)


def _print_field(name: str, value: object) -> None:
    if isinstance(value, Mapping):
        say(f"  {name}:")
        for inner, content in value.items():
            if content not in (None, "", [], {}):
                text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)
                say(f"    {inner}: {text[:300]}")
    elif isinstance(value, list):
        say(f"  {name}: {', '.join(str(item) for item in value)[:500]}")
    else:
        say(f"  {name}: {value}")
