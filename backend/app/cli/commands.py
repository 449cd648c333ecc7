"""The command tree: every command's words, options and example. What a command does stands in its own module."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from app.cli import after, asking, before, using
from app.cli.shell import CODES, Group, Json, Key, NoWatch, Url

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Fine-tune, evaluate and keep small language models on the machine you already have.",
    epilog=CODES,
)
db = typer.Typer(cls=Group, no_args_is_help=True, help="Look after the database.")
before.add_to(app)
after.add_to(app)
using.add_to(app)
app.add_typer(db, name="db", rich_help_panel="Service")

Which = Annotated[str, typer.Argument(help="Name, id, or the first or last characters of the id.")]


class Noun(StrEnum):
    experiments = "experiments"
    datasets = "datasets"
    models = "models"
    evaluations = "evaluations"


class ExportFormat(StrEnum):
    adapter = "adapter"
    safetensors = "safetensors"
    gguf_f16 = "gguf-f16"
    gguf_q8_0 = "gguf-q8_0"


class DatasetType(StrEnum):
    training = "training"
    evaluation = "evaluation"


@app.command(rich_help_panel="Service", epilog="Example: slm serve --port 8001")
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 8000,
    next_free: Annotated[bool, typer.Option("--next-free", help="Where the port is taken, use the next free.")] = False,
    background: Annotated[
        bool, typer.Option("--background", help="Return once it answers; `slm stop` ends it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Start the service on this machine. Ctrl-C ends it; trainings go on."""
    from app.cli.serving import serve

    serve(host, port, next_free=next_free, background=background, as_json=as_json)


@app.command(rich_help_panel="Service", epilog="Example: slm stop --trainings")
def stop(
    trainings: Annotated[
        bool, typer.Option("--trainings", help="Interrupt trainings too; the next service resumes them.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait.")] = 60,
) -> None:
    """Stop the service that `slm serve` started, and the workbench. Trainings go on, unless told otherwise."""
    from app.cli.serving import stop
    from app.cli.workbench import stop_workbench

    stop_workbench()
    stop(trainings=trainings, timeout=timeout)


@app.command(rich_help_panel="Service", epilog="Example: slm workbench --background")
def workbench(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Left out, 8501 or the next free one.", show_default=False)
    ] = None,
    background: Annotated[
        bool, typer.Option("--background", help="Return once it answers; `slm stop` ends it.")
    ] = False,
    as_json: Json = False,
    url: Url = None,
) -> None:
    """Open the workbench, the pages in a browser, on the service of this installation."""
    from app.cli.workbench import workbench

    workbench(port, background=background, as_json=as_json, url=url)


@app.command(rich_help_panel="Service", epilog="Example: SUPERVISE=false slm serve --background && slm supervise")
def supervise() -> None:
    """Watch over runs in a process of its own, where the service has SUPERVISE=false."""
    from app.cli.serving import supervise

    supervise()


@app.command(rich_help_panel="Service", epilog="Example: slm doctor --json")
def doctor(as_json: Json = False) -> None:
    """Say what this machine can do, and why not. Exit code 1 where something essential is missing."""
    from app.cli.doctor import doctor

    doctor(as_json=as_json)


@db.command("upgrade", epilog="Example: slm db upgrade")
def db_upgrade() -> None:
    """Create or migrate the database. The service does the same when it starts."""
    from app.cli.serving import upgrade_database

    upgrade_database()


@app.command(rich_help_panel="Data and models", epilog="Example: slm upload tickets.csv --name Tickets")
def upload(
    file: Annotated[Path, typer.Argument(help="A .csv, .json or .jsonl file.")],
    name: Annotated[str | None, typer.Option(help="Left out, the file's name.", show_default=False)] = None,
    dataset_type: Annotated[DatasetType, typer.Option("--type", help="What it is for.")] = DatasetType.training,
    mapping: Annotated[
        str | None,
        typer.Option(help="Which column is what: prompt=question,completion=answer (or JSON).", show_default=False),
    ] = None,
    description: Annotated[str, typer.Option(help="For your colleagues.", show_default=False)] = "",
    encoding: Annotated[str | None, typer.Option(help="Of the file, if not UTF-8.", show_default=False)] = None,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Send a file to the service, which looks into all of it and says what it found."""
    from app.cli.data import upload

    upload(
        file,
        name=name,
        dataset_type=dataset_type.value,
        mapping=mapping,
        description=description,
        encoding=encoding,
        as_json=as_json,
        url=url,
        key=key,
    )


@app.command(rich_help_panel="Data and models", epilog="Example: slm split Tickets --fraction 0.2")
def split(
    which: Which,
    fraction: Annotated[float, typer.Option(help="How much goes to the evaluation dataset.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same two datasets.")] = 42,
    stratify: Annotated[bool, typer.Option("--stratify", help="Every label keeps its share.")] = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Split a dataset in two that ask nothing alike: one to train on, one to evaluate with."""
    from app.cli.data import split

    split(which, fraction=fraction, seed=seed, stratify=stratify, as_json=as_json, url=url, key=key)


@app.command("list", rich_help_panel="Data and models", epilog="Example: slm list models --json")
def list_(
    noun: Annotated[Noun, typer.Argument(help="What to list.")] = Noun.experiments,
    limit: Annotated[int | None, typer.Option(min=1, max=1000, help="Only the newest.", show_default=False)] = None,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List experiments, datasets, models or evaluations, newest first."""
    from app.cli.data import listing

    listing(noun.value, limit=limit, as_json=as_json, url=url, key=key)


@app.command(rich_help_panel="Data and models", epilog="Example: slm show Tickets")
def show(which: Which, as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """Everything about one experiment, model, dataset or evaluation."""
    from app.cli.data import show

    show(which, as_json=as_json, url=url, key=key)


@app.command(rich_help_panel="Data and models", epilog="Example: slm pull smollm2")
def pull(
    which: Annotated[str, typer.Argument(metavar="MODEL", help="Name or id; for example smollm2.")],
    direct: Annotated[
        bool, typer.Option("--direct", help="Without a service (bundled models only); the default where none runs.")
    ] = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Fetch a base model's weights, check them, and make them ready to train."""
    from app.cli.pull import pull

    pull(which, direct=direct, as_json=as_json, url=url, key=key)


@app.command(
    rich_help_panel="Training", epilog="Example: slm train --data tickets.csv --eval held-out.csv --model smollm2"
)
def train(
    data: asking.Data,
    evaluation: asking.Evaluation = None,
    model: asking.Base = None,
    name: Annotated[str | None, typer.Option(help="Left out, made from data and model.", show_default=False)] = None,
    method: asking.MethodName = None,
    epochs: asking.Epochs = None,
    learning_rate: asking.LearningRate = None,
    batch_size: asking.BatchSize = None,
    adapter: asking.AdapterName = None,
    max_steps: asking.MaxSteps = None,
    max_length: asking.MaxLength = None,
    settings: asking.Settings = None,
    executor: asking.ExecutorName = None,
    no_watch: NoWatch = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Train a model and watch it learn. Ctrl-C leaves; the training goes on."""
    from app.cli.training import Wanted, train

    wanted = Wanted.of(
        data,
        evaluation,
        model,
        executor,
        settings,
        method=method,
        adapter=adapter,
        learning_rate=learning_rate,
        epochs=epochs,
        batch_size=batch_size,
        max_steps=max_steps,
        max_length=max_length,
    )
    train(wanted, name=name, watching=not no_watch, as_json=as_json, url=url, key=key)


@app.command(rich_help_panel="Training", epilog="Example: slm watch Tickets")
def watch(which: Which, as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """Come back to a training and watch it to its end. Ctrl-C leaves; the training goes on."""
    from app.cli.training import watch

    watch(which, as_json=as_json, url=url, key=key)


@app.command(rich_help_panel="Training", epilog="Example: slm cancel Tickets --discard")
def cancel(
    which: Which,
    discard: Annotated[bool, typer.Option("--discard", help="Keep no checkpoint of what was learned so far.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Return before it has stopped.")] = False,
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Stop a training, keeping a checkpoint, so that `slm resume` can go on from there."""
    from app.cli.training import cancel

    cancel(which, discard=discard, wait=not no_wait, as_json=as_json, url=url, key=key)


@app.command(rich_help_panel="Training", epilog="Example: slm resume Tickets")
def resume(which: Which, no_watch: NoWatch = False, as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """Go on with a failed or cancelled training from its last checkpoint."""
    from app.cli.training import resume

    resume(which, watching=not no_watch, as_json=as_json, url=url, key=key)


@app.command(rich_help_panel="Training", epilog="Example: slm reproduce Tickets")
def reproduce(which: Which, as_json: Json = False, url: Url = None, key: Key = None) -> None:
    """Train again with the same spec, data and seed; say identical, or what differs and by how much."""
    from app.cli.exporting import reproduce

    reproduce(which, as_json=as_json, url=url, key=key)


@app.command(rich_help_panel="Data and models", epilog="Example: slm export Tickets --format gguf-q8_0 --out exported")
def export(
    which: Annotated[str, typer.Argument(metavar="MODEL", help="Name or id.")],
    format_: Annotated[ExportFormat, typer.Option("--format", help="For whom.")] = ExportFormat.safetensors,
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path(),
    as_json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Write a model in a form that other programs load; it is loaded again and compared before it counts."""
    from app.cli.exporting import export

    export(which, format_.value, out, as_json=as_json, url=url, key=key)


@app.command(rich_help_panel="Data and models", epilog="Example: slm card Tickets --out README.md")
def card(
    which: Annotated[str, typer.Argument(metavar="MODEL", help="Name or id.")],
    out: Annotated[Path | None, typer.Option(help="File to write it to.", show_default=False)] = None,
    url: Url = None,
    key: Key = None,
) -> None:
    """Print a model's card: data, digests, hyperparameters, scorecard, limits, how to load it."""
    from app.cli.exporting import card

    card(which, out, url=url, key=key)
