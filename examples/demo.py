"""The tour: upload a task, fine-tune a small language model on it, and print what it could do before and after.

Called by `demo.sh` with the address of a running service; everything goes through the same HTTP API that any client
uses, and every figure printed was measured by the run it shows.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from slm_client import Client, SlmError
from slm_client.answers import DatasetDetail, EvaluationDetail, ExperimentDetail, ModelDetail, Sample

HERE = Path(__file__).resolve().parent
BASE = "SmolLM2 135M Instruct"
CONFIG: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "max_length": 256,
    "generate_max_rows": 64,
}
NOT_MEASURED = "not measured"
METRICS = (
    ("loss", "held-out loss", "{:.3f}"),
    ("perplexity", "perplexity", "{:.2f}"),
    ("json_valid", "valid JSON", "{:.0%}"),
    ("json_field_accuracy", "fields right", "{:.0%}"),
    ("json_record_accuracy", "whole records right", "{:.0%}"),
)


def dataset(client: Client, path: Path, name: str, kind: str) -> DatasetDetail:
    """The uploaded file: found by its digest where an earlier call left it, else sent."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    for known in client.datasets.list(dataset_type=kind, q=name):
        detail = client.datasets.get(known.id)
        if detail.sha256 == digest:
            return detail
    return client.datasets.upload(path, name=name, dataset_type=kind)


def base_model(client: Client, console: Console) -> ModelDetail:
    """The bundled base, its weights fetched where they are not here yet."""
    found = next(model for model in client.models.list(model_type="base") if model.name == BASE)
    model = client.models.get(found.id)
    if model.weights != "present":
        console.print(f"Fetching the weights of {BASE} …")
        run = client.runs.wait(client.models.pull(model.id).id, patience=1800)
        if run.state != "completed":
            raise SystemExit(f"The weights could not be fetched: {run.error.message if run.error else run.state}")
        model = client.models.get(model.id)
    return model


def watch(client: Client, experiment: ExperimentDetail, console: Console) -> ExperimentDetail:
    """Show step, loss, tokens/s and the time left while it runs; returns the experiment once it has ended."""
    columns = (TextColumn("{task.description:<10}"), BarColumn(), TextColumn("{task.fields[shown]}"))
    last, shown, started = experiment, "", time.monotonic()
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("starting", total=100, shown="")
        for last in client.experiments.watch(experiment.id, patience=600):
            phase = last.progress.phase if last.progress and last.progress.phase else last.status
            bars.update(task, description=phase, completed=done(last), shown=line(last))
            tenth = f"{phase} {done(last) // 10:.0f}"
            if not console.is_terminal and tenth != shown and phase != "saving":
                # Where nobody watches, a log still shows that it lives.
                shown = tenth
                bars.console.print(f"  {phase}: {line(last)}", markup=False)
        took = f"{time.monotonic() - started:.0f} s"
        bars.update(task, description=last.status, completed=100 if last.status == "completed" else None, shown=took)
    return last


def done(experiment: ExperimentDetail) -> float:
    """Percent of the current phase."""
    state = experiment.progress
    if state is None:
        return 0
    if state.phase != "training" and state.total:
        return 100 * (state.done or 0) / state.total
    return state.percent or 0


def line(experiment: ExperimentDetail) -> str:
    """What is known of the progress, in one line."""
    state = experiment.progress
    if state is None or state.step is None or state.phase != "training":
        return f"{done(experiment):.0f} %"
    parts = [f"step {state.step}/{state.total_steps}"]
    if state.loss is not None:
        parts.append(f"loss {state.loss:.3f}")
    if state.tokens_per_second is not None:
        parts.append(f"{state.tokens_per_second:.0f} tokens/s")
    if state.eta_seconds is not None:
        parts.append(f"{state.eta_seconds:.0f} s left")
    return "  ".join(parts)


def figure(form: str, value: float | None, interval: Sequence[float] | None) -> str:
    """A value with its 95 % interval; a figure that nobody measured says so."""
    if value is None:
        return NOT_MEASURED
    shown = form.format(value)
    return f"{shown}\n[dim]({form.format(interval[0])} – {form.format(interval[1])})[/]" if interval else shown


def table(evaluation: Mapping[str, Any]) -> Table:
    """Base, base with examples in its prompt, and tuned model, side by side."""
    shots = (evaluation.get("baselines") or {}).get("few_shot") or {}
    rows = evaluation.get("rows_generated") or evaluation.get("rows_scored")
    result = Table(title=f"Before and after, on {rows} held-out rows (95 % intervals)", title_justify="left")
    result.add_column("")
    result.add_column("base")
    result.add_column(f"base + {shots.get('examples', 0)} examples")
    result.add_column("tuned", style="bold")
    for key, label, form in METRICS:
        intervals = (evaluation.get("intervals") or {}).get(key) or {}
        if key not in (evaluation.get("metrics") or {}):
            result.add_row(label, NOT_MEASURED, NOT_MEASURED, NOT_MEASURED)
            continue
        few = (shots.get("metrics") or {}).get(key)
        result.add_row(
            label,
            figure(form, evaluation["base_metrics"].get(key), intervals.get("base")),
            "" if few is None else figure(form, few, (shots.get("intervals") or {}).get(key)),
            figure(form, evaluation["metrics"].get(key), intervals.get("tuned")),
        )
    return result


def side_by_side(samples: Sequence[Sample]) -> Table:
    """Three rows with what was wanted and what came."""
    result = Table(title="Three of them", title_justify="left", show_lines=True)
    for heading in ("ticket", "wanted", "base", "tuned"):
        result.add_column(heading, overflow="fold", ratio=1)
    for sample in samples:
        wire = sample.wire
        texts = [str(wire.get(key) or "") for key in ("prompt", "expected", "base_output", "tuned_output")]
        result.add_row(*(text if len(text) <= 220 else text[:219] + "…" for text in texts))
    return result


def show(console: Console, evaluation: Mapping[str, Any], samples: Sequence[Sample]) -> None:
    """The result: the table, three rows, the verdict."""
    console.print(table(evaluation))
    console.print(side_by_side(samples))
    if evaluation.get("verdict"):
        console.print(evaluation["verdict"])


def picture(console: Console) -> str:
    """What a recording console printed, as SVG that needs no font from elsewhere."""
    return re.sub(r"@font-face \{.*?\}", "", console.export_svg(title="./demo.sh"), flags=re.DOTALL)


def report(
    experiment: ExperimentDetail, evaluation: EvaluationDetail, samples: Sequence[Sample], seconds: float
) -> dict[str, Any]:
    """The printed figures as a document."""
    return {
        "experiment_id": experiment.id,
        "status": experiment.status,
        "simulated": experiment.simulated,
        "base_model": BASE,
        "training_config": dict(experiment.training_config),
        "seconds": round(seconds, 1),
        "evaluation": dict(evaluation.wire),
        "samples": [dict(sample.wire) for sample in samples],
    }


def shortened(path: str) -> str:
    """Relative to this checkout where it lies inside."""
    root = HERE.parent
    return str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else path


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://localhost:8000")
    parser.add_argument("--report", type=Path, help="write the same figures as JSON")
    parser.add_argument("--svg", type=Path, help="write a picture of what was printed")
    arguments = parser.parse_args(argv)
    console = Console(record=arguments.svg is not None, width=120 if arguments.svg else None)
    started = time.monotonic()
    try:
        with Client(arguments.url) as client:
            return tour(client, console, arguments, started)
    except SlmError as error:
        print(error, file=sys.stderr)
        return 1


def tour(client: Client, console: Console, arguments: argparse.Namespace, started: float) -> int:
    """Upload, train, show; 0 where the training completed."""
    train = dataset(client, HERE / "tickets-train.csv", "Support tickets", "training")
    held_out = dataset(client, HERE / "tickets-eval.csv", "Support tickets, held out", "evaluation")
    console.print(f"Data: {train.row_count} tickets to learn from, {held_out.row_count} others to be judged on.")
    model = base_model(client, console)
    experiment = client.experiments.create(
        "Tickets to JSON",
        base_model_id=model.id,
        training_dataset_id=train.id,
        eval_dataset_id=held_out.id,
        training_config=CONFIG,
        executor="local",
        goal="Read a support ticket, answer with one JSON record.",
    )
    console.print(f"Training {BASE} ({model.parameters_count / 1e6:.0f} million parameters) by LoRA on this machine.")
    for warning in experiment.warnings:
        console.print(f"[yellow]Note:[/] {warning}")
    experiment = watch(client, experiment, console)
    if experiment.status != "completed":
        reason = f"{experiment.error.message} {experiment.error.hint}" if experiment.error else ""
        console.print(f"[red]The training is {experiment.status}.[/] {reason}")
        return 1
    evaluation = client.evaluations.get(client.evaluations.list(experiment_id=experiment.id)[0].id)
    samples = client.evaluations.samples(evaluation.id, limit=3)
    if arguments.svg is not None:
        console.export_text()  # forgets what came before: the picture shows the result
    show(console, evaluation.wire, samples)
    if arguments.svg is not None:
        arguments.svg.write_text(picture(console), encoding="utf-8")
    made = client.models.get(experiment.resulting_model_id or "")
    seconds = time.monotonic() - started
    console.print(f"The model lies in {shortened((made.metadata or {}).get('weights_path', NOT_MEASURED))}")
    console.print(
        f"From upload to this table: {seconds / 60:.1f} minutes. The API is described at {arguments.url}/docs"
    )
    if arguments.report is not None:
        arguments.report.write_text(json.dumps(report(experiment, evaluation, samples, seconds), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
