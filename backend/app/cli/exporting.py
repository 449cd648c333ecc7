"""`slm export`, `slm card`, `slm reproduce`: a model that leaves, its papers, and that it can be made again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from app.cli import connect, data, tables
from app.cli.shell import Code, Stop, print_json, say
from app.cli.training import PATIENCE

if TYPE_CHECKING:
    from slm_client import Client, ExperimentDetail, Export, Reproduction, Run


def export(which: str, format_: str, folder: Path, *, as_json: bool, url: str | None, key: str | None) -> None:
    """Export, watch, fetch the files into `folder`, and say what the self-test found."""
    with connect.client(url, key) as client:
        model = connect.model(client, which)
        run = client.models.export(model.id, format_)
        say(f"Exporting {model.name} as {format_}: written, loaded again, compared.", quiet=as_json)
        run = _watched(client, run)
        if run.state == "cancelled":
            raise Stop("The export was cancelled.", Code.CANCELLED)
        if run.state != "completed":
            reason = f"{run.error.message} {run.error.hint}".strip() if run.error else f"the run is {run.state}."
            raise Stop(f"The export failed: {reason}")
        made = next(found for found in client.models.exports(model.id) if found.run_id == run.id)
        paths = _fetched(client, made, folder, quiet=as_json)
    if as_json:
        print_json({**made.wire, "paths": [str(path) for path in paths]})
        return
    _say_self_test(made)
    for path in paths:
        say(f"  {path}  {tables.size(path.stat().st_size)}")


def _watched(client: Client, run: Run) -> Run:
    """The run as it ended; each new phase is a line."""
    said = ""
    for seen in client.runs.watch(run.id, patience=PATIENCE):
        run = seen
        phase = run.progress.phase if run.progress is not None and run.progress.phase else run.state
        if phase != said:
            said = phase
            say(f"  {phase}", quiet=True)
    return run


def _fetched(client: Client, made: Export, folder: Path, *, quiet: bool) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for file in made.files:
        with data.progress_bar(f"Fetching {file.name}", quiet=quiet) as on_progress:
            paths.append(client.artifacts.download(file.artifact_id, folder / file.name, on_progress))
    return paths


def _say_self_test(made: Export) -> None:
    found = made.self_test
    if found is None:
        return
    difference = "" if found.max_logit_difference is None else f", logits differ by {found.max_logit_difference:.2g}"
    say(
        f"Loaded again by {' and '.join(found.loaders)}: {found.same_top_token:.1%} of {found.checked} top tokens are "
        f"the same{difference}; template and stop tokens are equal."
    )


def card(which: str, file: Path | None, *, url: str | None, key: str | None) -> None:
    """Print the card, or write it to a file."""
    with connect.client(url, key) as client:
        text = client.models.card(connect.model(client, which).id)
    if file is None:
        say(text.rstrip())
        return
    file.write_text(text, encoding="utf-8")
    say(f"Written to {file}.")


def reproduce(which: str, *, as_json: bool, url: str | None, key: str | None) -> None:
    """Repeat an experiment, wait for it, and say what differs. Exit code 1 where something does."""
    with connect.client(url, key) as client:
        again = client.experiments.reproduce(connect.experiment(client, which).id)
        say(f"{again.name} ({connect.short(again.id)}) repeats it with the same spec, data and seed.", quiet=as_json)
        again = _awaited(client, again)
    found = again.reproduction
    if as_json:
        print_json(again.wire)
    elif found is not None:
        _say_reproduction(found)
    if found is None or not found.identical:
        raise Stop("" if as_json or found is not None else "The service does not say how it came out.")


def _awaited(client: Client, again: ExperimentDetail) -> ExperimentDetail:
    try:
        return client.experiments.wait(again.id, patience=PATIENCE)
    except KeyboardInterrupt:
        message = f"Left; it goes on. `slm show {connect.short(again.id)}` says how it came out."
        raise Stop(message, Code.DETACHED) from None


def _say_reproduction(found: Reproduction) -> None:
    say("Identical: curve, weights and metrics are the same to the last bit." if found.identical else "Not identical.")
    for difference in found.differences:
        say(f"  {difference}")
