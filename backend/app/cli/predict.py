"""`slm predict`: run a model over a dataset and fetch the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from app.cli import connect, data, tables
from app.cli.shell import Code, Stop, print_json, say
from app.cli.training import PATIENCE, dataset_of

if TYPE_CHECKING:
    from slm_client import Client, Run


def predict(
    which: str,
    wanted: str,
    *,
    output: Path | None,
    mapping: str | None,
    max_new_tokens: int,
    as_json: bool,
    url: str | None,
    key: str | None,
) -> None:
    """Ask, watch, download. Ctrl-C cancels the run. Raises `Stop` where it fails."""
    with connect.client(url, key) as client:
        model = connect.model(client, which)
        dataset = dataset_of(client, wanted, "evaluation", quiet=as_json or Path(wanted).is_file())
        run = client.models.predict(
            model.id, dataset.id, mapping=data.parse_mapping(mapping), max_new_tokens=max_new_tokens
        )
        run = _watched(client, run, f"{model.name} reads {dataset.name}", quiet=as_json)
        if run.result is None:
            raise _reason(run)
        path = output or Path(f"{dataset.name}-{connect.short(run.id)}.jsonl".replace("/", "-"))
        with data.progress_bar(f"Fetching {path.name}", quiet=as_json) as on_progress:
            client.artifacts.download(str(run.result["artifact_id"]), path, on_progress)
    if as_json:
        print_json({**run.result, "path": str(path)})
        return
    skipped = run.result["skipped"]
    left = f", {skipped:,} could not be answered (their `fault` says why)" if skipped else ""
    say(f"{path}: {run.result['predicted']:,} of {run.result['rows']:,} rows answered{left}")


def _watched(client: Client, run: Run, title: str, *, quiet: bool) -> Run:
    """A line that moves where a person watches, a line for each tenth elsewhere."""
    out = tables.console(stderr=True)
    moving = tables.live(out) and not quiet
    said = ""
    try:
        for run in client.runs.watch(run.id, patience=PATIENCE):  # noqa: B020 - the last look is what counts
            state = run.progress
            percent = int(state.percent) if state and state.percent is not None else 0
            line = f"{title}: {(state.phase if state else None) or run.state} {percent} %"
            if moving:
                out.print(line, end="\r")
            elif not quiet and line[:-4] + str(percent // 10) != said:
                said = line[:-4] + str(percent // 10)
                say(line, quiet=True)
    except KeyboardInterrupt:
        client.runs.cancel(run.id)
        raise Stop("Cancelled; nothing was written.", Code.CANCELLED) from None
    return run


def _reason(run: Run) -> Stop:
    if run.state == "cancelled":
        return Stop("The prediction was cancelled; nothing was written.", Code.CANCELLED)
    return Stop(f"{run.error.message}\n{run.error.hint}".strip() if run.error else "It failed.")
