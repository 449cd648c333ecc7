"""`slm train`, `watch`, `cancel`, `resume`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.cli import connect, data, scorecards, tables
from app.cli.shell import Code, Stop, print_json, say

if TYPE_CHECKING:
    from slm_client import Client, DatasetDetail, ExperimentDetail, ModelDetail

PATIENCE = 600.0
"""Seconds that a watch bears a service that is away."""


@dataclass(frozen=True)
class Wanted:
    """What `slm plan` and `slm train` are asked for."""

    data: str
    evaluation: str | None
    model: str | None
    executor: str | None
    config: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        data: str,
        evaluation: str | None,
        model: str | None,
        executor: str | None,
        settings: Sequence[str] | None,
        **hyperparameters: object,
    ) -> Wanted:
        """`settings` are further hyperparameters as `name=value`; those that are None were not given."""
        given = {name: value for name, value in hyperparameters.items() if value is not None}
        return cls(data, evaluation, model, executor, given | parse_settings(settings or ()))

    def found(self, client: Client, *, quiet: bool) -> tuple[DatasetDetail, ModelDetail, dict[str, Any]]:
        """The data to learn from, the base, and what `plan` and `create` take; what is a file is uploaded."""
        learned = dataset_of(client, self.data, "training", quiet=quiet)
        scored = dataset_of(client, self.evaluation, "evaluation", quiet=quiet) if self.evaluation else None
        base = connect.model(client, self.model) if self.model else ready_model(client)
        request = {
            "base_model_id": base.id,
            "training_dataset_id": learned.id,
            "eval_dataset_id": scored.id if scored else None,
            "training_config": self.config,
            "executor": self.executor,
        }
        return learned, base, request


def train(wanted: Wanted, *, name: str | None, watching: bool, as_json: bool, url: str | None, key: str | None) -> None:
    """Create the experiment, watch it."""
    with connect.client(url, key) as client:
        learned, base, request = wanted.found(client, quiet=as_json)
        experiment = client.experiments.create(name or f"{learned.name} with {base.name}", **request)
        say(f"Experiment {experiment.name} ({connect.short(experiment.id)}): {experiment.executor}", quiet=as_json)
        _say_what_to_know(experiment, quiet=as_json)
        _go_on(client, experiment, watching=watching, as_json=as_json)


def watch(which: str, *, as_json: bool, url: str | None, key: str | None) -> None:
    """Watch an experiment to its end; the exit code tells how that was."""
    with connect.client(url, key) as client:
        _go_on(client, connect.experiment(client, which), watching=True, as_json=as_json)


def resume(which: str, *, watching: bool, as_json: bool, url: str | None, key: str | None) -> None:
    """Queue a further attempt and watch it."""
    with connect.client(url, key) as client:
        experiment = client.experiments.resume(connect.experiment(client, which).id)
        say(f"{experiment.name} goes on (attempt {experiment.attempt}).", quiet=as_json)
        _go_on(client, experiment, watching=watching, as_json=as_json)


def cancel(which: str, *, discard: bool, wait: bool, as_json: bool, url: str | None, key: str | None) -> None:
    """Ask for the end; by default wait until no process is left."""
    with connect.client(url, key) as client:
        experiment = client.experiments.cancel(connect.experiment(client, which).id, save=not discard)
        if wait and not experiment.ended:
            experiment = client.experiments.wait(experiment.id, patience=PATIENCE)
    if as_json:
        print_json(experiment.wire)
        return
    kept = "" if discard else f" `slm resume {connect.short(experiment.id)}` goes on from its last checkpoint."
    say(f"{experiment.name} is {experiment.status}.{kept if experiment.status == 'cancelled' else ''}")


def parse_settings(items: Sequence[str]) -> dict[str, Any]:
    """`["lora_r=8", "method=sft"]` as a dict; values are JSON where they can be. Raises `Stop` (usage)."""
    found: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not equals or not name.strip():
            raise Stop(f"--set takes name=value, not '{item}'; for example --set lora_r=8.", Code.USAGE)
        try:
            found[name.strip()] = json.loads(text)
        except ValueError:
            found[name.strip()] = text.strip()
    return found


def dataset_of(client: Client, wanted: str, dataset_type: str, *, quiet: bool) -> DatasetDetail:
    """An uploaded dataset by name or id, else a file, which is uploaded."""
    file = Path(wanted)
    if not file.is_file():
        if file.suffix.lower() in data.FILE_TYPES:
            raise Stop(f"There is no file {file}.", Code.USAGE)
        return connect.dataset(client, wanted)
    with data.progress_bar(f"Sending {file.name}", quiet=quiet) as on_progress:
        sent = client.datasets.upload(file, dataset_type=dataset_type, on_progress=on_progress)
    if not quiet:
        data.describe(sent)
    return sent


def ready_model(client: Client) -> ModelDetail:
    """The first base whose weights are here."""
    for row in client.models.list(model_type="base"):
        model = client.models.get(row.id)
        if model.weights == "present":
            return model
    raise Stop("No base model has its weights here yet. `slm pull smollm2` fetches a small one.", Code.REFUSED)


def _say_what_to_know(experiment: ExperimentDetail, *, quiet: bool) -> None:
    if experiment.simulated:
        say(f"  simulated, its numbers will be made up: {experiment.executor_reason}", quiet=quiet)
    for warning in experiment.warnings:
        say(f"  note: {warning}", quiet=quiet)


def _go_on(client: Client, experiment: ExperimentDetail, *, watching: bool, as_json: bool) -> None:
    if watching and not experiment.ended:
        try:
            experiment = _watched(client, experiment, quiet=as_json)
        except KeyboardInterrupt:
            message = f"Left; the training goes on. `slm watch {connect.short(experiment.id)}` comes back to it."
            raise Stop(message, Code.DETACHED) from None
    if as_json:
        print_json(experiment.wire)
    elif watching:
        _say_how_it_ended(client, experiment)
    else:
        say(f"`slm watch {connect.short(experiment.id)}` shows how it goes.")
    if watching and experiment.status == "failed":
        raise Stop(_reason(experiment))
    if watching and experiment.status == "cancelled":
        raise Stop("", Code.CANCELLED)


def _reason(experiment: ExperimentDetail) -> str:
    error = experiment.error
    return f"{error.message}\n{error.hint}".strip() if error else "It failed."


def _watched(client: Client, experiment: ExperimentDetail, *, quiet: bool) -> ExperimentDetail:
    """A moving line where a person watches; elsewhere a line at each new phase and each tenth part."""
    out = tables.console(stderr=quiet)
    looks = client.experiments.watch(experiment.id, patience=PATIENCE)
    if quiet or not tables.live(out):
        said = ""
        for experiment in looks:
            mark = _mark(experiment)
            if mark != said:
                said = mark
                say(f"  {_line(experiment)}", quiet=True)
        return experiment
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.fields[shown]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=out) as bar:
        task = bar.add_task(experiment.status, total=None, shown="")
        for experiment in looks:
            state = experiment.progress
            phase = state.phase if state and state.phase else experiment.status
            known = state is not None and state.percent is not None
            bar.update(
                task,
                description=phase,
                total=100 if known else None,
                completed=state.percent or 0 if state else 0,
                shown=_line(experiment),
            )
        bar.update(task, description=experiment.status)
    return experiment


def _mark(experiment: ExperimentDetail) -> str:
    state = experiment.progress
    tenth = int(state.percent // 10) if state and state.percent is not None else 0
    return f"{experiment.status} {state.phase if state else ''} {tenth}"


def _line(experiment: ExperimentDetail) -> str:
    state = experiment.progress
    if state is None:
        place = f", {experiment.queue_position} before it" if experiment.queue_position else ""
        return f"{experiment.status}{place}"
    parts = [state.phase or experiment.status]
    if state.phase != "training" and state.total:
        parts.append(f"{state.done or 0}/{state.total}")
    elif state.step is not None:
        parts.append(f"step {state.step}/{state.total_steps}")
    if state.loss is not None:
        parts.append(f"loss {state.loss:.3f}")
    if state.tokens_per_second is not None:
        parts.append(f"{state.tokens_per_second:.0f} tokens/s")
    if state.eta_seconds is not None:
        parts.append(f"{tables.duration(state.eta_seconds)} left")
    return "  ".join(parts)


def _say_how_it_ended(client: Client, experiment: ExperimentDetail) -> None:
    say(f"{experiment.name} is {experiment.status}.")
    if experiment.status == "cancelled":
        say(f"`slm resume {connect.short(experiment.id)}` goes on from its last checkpoint.")
    if experiment.status != "completed":
        return
    evaluations = client.evaluations.list(experiment_id=experiment.id)
    if evaluations:
        scorecards.print_scorecard(client.evaluations.get(evaluations[0].id))
    if experiment.resulting_model_id:
        model = client.models.get(experiment.resulting_model_id)
        weights = (model.metadata or {}).get("weights_path", "no weights")
        say(f"Model {model.name} ({connect.short(model.id)}): {weights}")
