"""`slm pull`: fetch a base model's weights, through the service or, for bundled ones, without any."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from app.cli import connect, tables
from app.cli.places import running_service, settings
from app.cli.shell import Code, Stop, print_json, say
from app.config import BACKEND

if TYPE_CHECKING:
    from slm_client import Run


class Show(Protocol):
    def __call__(self, phase: str, done: int | None, total: int | None) -> None: ...


def pull(which: str, *, direct: bool, as_json: bool, url: str | None, key: str | None) -> None:
    """Fetch and say where the weights are. Raises `Stop` where that failed."""
    if direct or (url is None and _bundled(which) is not None and running_service(settings().data_dir) is None):
        _pull_directly(which, as_json=as_json)
        return
    with connect.client(url, key) as client:
        model = connect.model(client, which)
        run = client.models.pull(model.id)
        with _shown(f"Fetching {model.name}", quiet=as_json) as show:
            for seen in client.runs.watch(run.id, patience=600):
                run = seen
                if run.progress is not None and run.progress.phase:
                    show(run.progress.phase, run.progress.done, run.progress.total)
        _require_completed(run)
        found = client.models.get(model.id)
    if as_json:
        print_json(found.wire)
        return
    say(f"{found.name} is ready to train: {(found.metadata or {}).get('weights_path', 'weights are here')}")


def _require_completed(run: Run) -> None:
    if run.state == "cancelled":
        raise Stop("The pull was cancelled.", Code.CANCELLED)
    if run.state != "completed":
        reason = f"{run.error.message} {run.error.hint}".strip() if run.error else f"the run is {run.state}."
        raise Stop(f"The weights could not be fetched: {reason}")


def _bundled(which: str) -> str | None:
    """The key of the bundled model that `which` names, by its folder, its name, or the beginning of either."""
    from slm.bundled import BUNDLED

    text = "-".join(which.casefold().split())
    matches = [key for key in BUNDLED if len(text) >= 3 and key.startswith(text)]
    return matches[0] if len(matches) == 1 else None


def _pull_directly(which: str, *, as_json: bool) -> None:
    """The same run that a service would start, in a folder of its own."""
    from slm.bundled import BUNDLED
    from slm.events import SPEC, iter_events
    from slm.spec import PullSpec

    key = _bundled(which)
    if key is None:
        known = ", ".join(BUNDLED)
        raise Stop(f"Without a service only bundled models can be fetched ({known}); `slm serve` starts one.")
    destination = settings().models_dir / key
    destination.parent.mkdir(parents=True, exist_ok=True)
    spec = PullSpec(run_id="pull", attempt=1, model_id=key, name=key, source=BUNDLED[key], destination=str(destination))
    with tempfile.TemporaryDirectory(prefix="slm-pull-") as scratch:
        directory = Path(scratch)
        (directory / SPEC).write_text(spec.model_dump_json())
        _watch_process(directory, f"Fetching {key}", quiet=as_json)
        last: dict[str, Any] = {}
        for event in iter_events(directory / "events.jsonl"):
            last = event
    if last.get("type") != "finished":
        reason = f"{last.get('message', 'the process ended without saying why.')} {last.get('hint', '')}".strip()
        raise Stop(f"The weights could not be fetched: {reason}")
    if as_json:
        print_json({"path": str(destination), **last["model"]})
        return
    say(f"{key} is ready to train: {destination}")


def _watch_process(directory: Path, title: str, *, quiet: bool) -> None:
    from slm.events import EVENTS, LOG, read_events

    command = [sys.executable, "-m", "slm.run", str(directory)]
    with (directory / LOG).open("wb") as log:
        process = subprocess.Popen(command, cwd=BACKEND, stdout=log, stderr=subprocess.STDOUT)
    offset = 0
    try:
        with _shown(title, quiet=quiet) as show:
            ended = False
            while not ended:
                try:
                    process.wait(0.3)
                    ended = True
                except subprocess.TimeoutExpired:
                    ended = False
                events, offset = read_events(directory / EVENTS, offset=offset)
                for event in events:
                    if "phase" in event:
                        show(event["phase"], event.get("done"), event.get("total"))
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


@contextmanager
def _shown(title: str, *, quiet: bool) -> Iterator[Show]:
    """A bar where a person watches, a line for each phase elsewhere."""
    phases: list[str] = []
    out = tables.console(stderr=True)
    if quiet or not tables.live(out):

        def lines(phase: str, done: int | None, total: int | None) -> None:
            if phase not in phases:
                phases.append(phase)
                say(f"{title}: {phase}", quiet=True)

        yield lines
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def moving(phase: str, done: int | None, total: int | None) -> None:
            bar.update(task, description=f"{title}: {phase}", completed=done or 0, total=total or None)

        yield moving
