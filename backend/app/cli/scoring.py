"""`slm evaluate`: score any model on any data, through the service, and show the scorecard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.cli import connect, scorecards, tables
from app.cli.shell import Code, Stop, print_json, say
from app.cli.training import PATIENCE, dataset_of

if TYPE_CHECKING:
    from slm_client import Client, Run


def evaluate(which: str, data: str, *, watching: bool, as_json: bool, url: str | None, key: str | None) -> None:
    """Upload what is a file, score, show. Raises `Stop` where it was cancelled or failed."""
    with connect.client(url, key) as client:
        model = connect.model(client, which)
        rows = dataset_of(client, data, "evaluation", quiet=as_json)
        run = client.evaluations.create(model.id, rows.id)
        say(f"Scoring {model.name} on {rows.name} (run {connect.short(run.id)}).", quiet=as_json)
        if not watching:
            if as_json:
                print_json(run.wire)
            return
        try:
            run = _watched(client, run, quiet=as_json)
        except KeyboardInterrupt:
            raise Stop(f"Left; the scoring goes on as run {run.id}.", Code.DETACHED) from None
        _require_completed(run)
        evaluation = client.evaluations.get(str((run.result or {})["evaluation_id"]))
    if as_json:
        print_json(evaluation.wire)
    else:
        scorecards.print_scorecard(evaluation)


def _watched(client: Client, run: Run, *, quiet: bool) -> Run:
    """The run once it has ended; a moving bar where a person watches, a line at each new phase elsewhere."""
    out = tables.console(stderr=quiet)
    looks = client.runs.watch(run.id, patience=PATIENCE)
    if quiet or not tables.live(out):
        said = ""
        for run in looks:
            phase = (run.progress.phase if run.progress else None) or run.state
            if phase != said:
                said = phase
                say(f"  {phase}", quiet=True)
        return run
    from rich.progress import Progress

    with Progress(console=out) as bar:
        task = bar.add_task(run.state, total=100)
        for run in looks:
            state = run.progress
            bar.update(
                task,
                description=(state.phase if state else None) or run.state,
                completed=(state.percent if state else None) or 0,
            )
        bar.update(task, description=run.state)
    return run


def _require_completed(run: Run) -> None:
    if run.state == "cancelled":
        raise Stop("The scoring was cancelled.", Code.CANCELLED)
    if run.state != "completed":
        raise Stop(f"{run.error.message}\n{run.error.hint}".strip() if run.error else f"The run is {run.state}.")
