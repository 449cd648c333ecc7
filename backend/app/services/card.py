"""A model's card: Markdown with Hugging Face front matter, made from rows alone, so that it is true on any machine.

It says what the model came from and by which digests, every hyperparameter, what was measured and how surely, and what
that does not show. No folder, host or person of this machine stands in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.models import Dataset, Evaluation, Model
from app.services import model as models
from app.services.references import base_kind, chain, method_of
from slm.bundled import BUNDLED
from slm.plan import spoken
from slm.spec import ENCODER, Method

_PIPELINES = {Method.CLASSIFY: "text-classification", Method.MASK: "fill-mask"}
_CLASSES = {
    "text-generation": "AutoModelForCausalLM",
    "text-classification": "AutoModelForSequenceClassification",
    "fill-mask": "AutoModelForMaskedLM",
}
_LIBRARIES = {"adapter": "peft", "gguf-f16": "gguf", "gguf-q8_0": "gguf"}
_HUB_NAME = re.compile(r"\b([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)\b")


@dataclass(frozen=True)
class _Subject:
    """Everything that the card speaks of; what was deleted meanwhile is None or missing."""

    model: Model
    base: Model
    """What it all began with; the model itself where it is a base."""
    chain: Sequence[Model]
    """The model and the adapters under it, then the whole weights that these belong to."""
    datasets: dict[str, Dataset | None]
    digests: Mapping[str, str]
    evaluations: Sequence[Evaluation]
    names: Mapping[str, str]
    """Of the datasets that evaluations are about, by id."""
    config: Mapping[str, Any]
    pipeline: str


def markdown(session: Session, model: Model, *, format_: str | None = None) -> str:
    """The card; as it travels with an export of `format_`, or of the model as it is kept here."""
    subject = _collect(session, model)
    sections = (
        _introduction(subject),
        _data(subject),
        _method(subject),
        _scores(subject),
        _limits(subject),
        _cost(subject),
        _loading(subject, format_),
    )
    body = "\n".join(line for section in sections for line in (*section, ""))
    return f"{_front_matter(subject, format_)}\n{body.rstrip()}\n"


def _collect(session: Session, model: Model) -> _Subject:
    details: Mapping[str, Any] = model.details or {}
    base = model
    while base.model_type != "base" and base.base_model_id is not None:
        base = models.get(session, base.base_model_id)
    digests: Mapping[str, str] = details.get("dataset_digests") or {}
    datasets = {
        role: session.scalars(select(Dataset).where(Dataset.sha256 == digest).order_by(Dataset.created_at)).first()
        for role, digest in digests.items()
    }
    query = select(Evaluation).where(Evaluation.model_id == model.id).order_by(Evaluation.created_at)
    evaluations = session.scalars(query).all()
    wanted = [row.dataset_id for row in evaluations if row.dataset_id]
    found = session.execute(select(Dataset.id, Dataset.name).where(Dataset.id.in_(wanted)))
    method = method_of(model)
    plain = "fill-mask" if base_kind(base) == ENCODER else "text-generation"
    return _Subject(
        model=model,
        base=base,
        chain=chain(session, model),
        datasets=datasets,
        digests=digests,
        evaluations=evaluations,
        names={str(identity): str(name) for identity, name in found},
        config=details.get("training_config") or {},
        pipeline=_PIPELINES.get(method, plain) if method is not None else plain,
    )


# -- front matter


def _front_matter(subject: _Subject, format_: str | None) -> str:
    """YAML; every string is written as JSON, which YAML reads alike and no name can break out of."""
    license_ = str((subject.base.details or {}).get("license") or "other").lower()
    kept = "adapter" if subject.model.weights_format == "adapter" else "safetensors"
    lines = ["---", f"license: {_text(license_)}", f"library_name: {_LIBRARIES.get(format_ or kept, 'transformers')}"]
    lines.append(f"pipeline_tag: {subject.pipeline}")
    if subject.model is not subject.base:
        lines.append(f"base_model: {_text(origin(subject.base) or subject.base.name)}")
        names = [dataset.name for dataset in subject.datasets.values() if dataset is not None]
        if names:
            lines += ["datasets:", *(f"- {_text(name)}" for name in dict.fromkeys(names))]
    tags = [str(tag) for tag in subject.model.tags or []] + [str(subject.config.get("method", "base"))]
    tags += ["simulated"] if subject.model.simulated else []
    lines += ["tags:", *(f"- {_text(tag)}" for tag in dict.fromkeys(tags))]
    lines += list(_model_index(subject))
    return "\n".join([*lines, "---"]) + "\n"


def _model_index(subject: _Subject) -> Iterator[str]:
    """Measured metrics only: made-up numbers are for nobody's leaderboard."""
    measured = [row for row in subject.evaluations if row.metrics and not row.simulated]
    if not measured:
        return
    metrics = dict.fromkeys(name for row in measured for name in row.metrics)
    yield from ("metrics:", *(f"- {_text(name)}" for name in metrics))
    yield from ("model-index:", f"- name: {_text(subject.model.name)}", "  results:")
    for row in measured:
        name = _evaluated_on(subject, row)
        yield from ("  - task:", f"      type: {subject.pipeline}", "    dataset:")
        yield from (f"      name: {_text(name)}", f"      type: {_text('private')}", "    metrics:")
        for metric, value in row.metrics.items():
            yield from (f"    - type: {_text(metric)}", f"      value: {json.dumps(value)}")


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def origin(base: Model) -> str | None:
    """The name under which a hub knows the base, where that is known."""
    source: Mapping[str, Any] = base.source or {}
    if source.get("hub"):
        return str(source["hub"])
    bundled = BUNDLED.get(base.seed_key or "")
    found = _HUB_NAME.search(bundled.note) if bundled is not None else None
    return found.group(1) if found else None


# -- sections


def _introduction(subject: _Subject) -> Iterator[str]:
    model = subject.model
    yield f"# {_line(model.name)}"
    if model.simulated:
        yield "\n> **SIMULATED.** No training took place: every number here is made up, and there are no weights."
    if model.description:
        yield f"\n{_line(model.description)}"
    yield f"\nVersion {model.version}, {model.parameters_count:,} parameters, made {model.created_at:%Y-%m-%d}."
    if model is not subject.base:
        known = origin(subject.base)
        yield f"Fine-tuned from **{_line(subject.base.name)}**" + (f" ({known})." if known else ".")
    license_ = (subject.base.details or {}).get("license")
    yield f"License of the base: {license_}." if license_ else "The license of the base is not known here."
    note = (subject.base.details or {}).get("note")
    if note:
        yield f"Weights of the base: {note}"


def _data(subject: _Subject) -> Iterator[str]:
    if not subject.digests:
        return
    yield "## Data\n"
    yield "| for | dataset | kind | rows | faults | SHA-256 |"
    yield "|---|---|---|---:|---:|---|"
    for role, digest in subject.digests.items():
        dataset = subject.datasets.get(role)
        if dataset is None:
            yield f"| {role} | (deleted since) | – | – | – | `{digest}` |"
            continue
        faults = int((dataset.faults or {}).get("count") or 0)
        kind = dataset.kind or "not interpreted"
        yield f"| {role} | {_cell(dataset.name)} | {kind} | {dataset.row_count:,} | {faults:,} | `{digest}` |"
    fraction = subject.config.get("eval_fraction")
    if "evaluation" not in subject.digests and fraction:
        seed = subject.config.get("seed")
        yield f"\n{fraction:.0%} of the training rows were held out (seed {seed}) and never learned."


def _method(subject: _Subject) -> Iterator[str]:
    if not subject.config:
        return
    yield "## Method\n"
    yield f"`{subject.config.get('method')}` with adapter `{subject.config.get('adapter')}`. Every hyperparameter, "
    yield "defaults included:\n"
    yield "| hyperparameter | value |"
    yield "|---|---|"
    for name, value in sorted(subject.config.items()):
        yield f"| `{name}` | {_cell(json.dumps(value, ensure_ascii=False))} |"


def _scores(subject: _Subject) -> Iterator[str]:
    if not subject.evaluations:
        return
    yield "## Scorecard\n"
    if subject.model.simulated:
        yield "**Simulated: these numbers are made up.**\n"
    for row in subject.evaluations:
        yield from _scorecard(subject, row)


def _scorecard(subject: _Subject, row: Evaluation) -> Iterator[str]:
    details: Mapping[str, Any] = row.details or {}
    scored, available = details.get("rows_scored"), details.get("rows_available")
    rows = f", {scored} of {available} rows" if scored is not None and available else ""
    yield f"### On {_line(_evaluated_on(subject, row))}{rows}\n"
    if details.get("verdict"):
        yield f"{details['verdict']}\n"
    base: Mapping[str, Any] = details.get("base_metrics") or {}
    intervals: Mapping[str, Any] = details.get("intervals") or {}
    yield "| metric | base | tuned | difference (95 %) |"
    yield "|---|---:|---:|---|"
    for name, value in row.metrics.items():
        bounds: Mapping[str, Any] = intervals.get(name) or {}
        cells = (_with(base.get(name), bounds.get("base")), _with(value, bounds.get("tuned")))
        yield f"| {name} | {cells[0]} | {cells[1]} | {_between(bounds.get('difference'))} |"
    baselines: Mapping[str, Any] = details.get("baselines") or {}
    for name, found in baselines.items():
        metrics = found.get("metrics") if isinstance(found, Mapping) and "metrics" in found else found
        if isinstance(metrics, Mapping):
            shown = ", ".join(f"{key} {_figure(value)}" for key, value in metrics.items() if _is_number(value))
            yield f"\nBaseline `{name}`: {shown or 'not measured'}."
    yield from _overlap(details.get("overlap"))
    yield ""


def _overlap(found: Any) -> Iterator[str]:
    if isinstance(found, Mapping):
        kinds = ", ".join(f"{found.get(kind, 0)} {kind}" for kind in ("exact", "normalised", "near"))
        yield f"\nOverlap with the training rows: {kinds}, of {found.get('rows', 0)} rows."
        without = found.get("metrics_without")
        if isinstance(without, Mapping) and without:
            shown = ", ".join(f"{key} {_figure(value)}" for key, value in without.items() if _is_number(value))
            yield f"Without them: {shown}."


def _limits(subject: _Subject) -> Iterator[str]:
    yield "## Limits\n"
    measured = [row for row in subject.evaluations if not row.simulated]
    if subject.model.simulated:
        yield "- It does not exist: a simulation made its numbers up."
    elif subject.model is subject.base:
        yield "- Nothing was measured of it here by itself; see the card of its makers."
    elif not measured:
        yield "- Nothing was measured on rows that it did not learn from."
    else:
        scored = sum(int((row.details or {}).get("rows_scored") or 0) for row in measured)
        yield f"- Judged on {scored} rows; what they do not cover, nobody knows."
        yield "- An interval that holds zero means that no difference was shown."
    if subject.model.parameters_count < 1_000_000_000:
        yield "- A small model: it makes things up, and knows little beyond its task."
    if (subject.base.details or {}).get("note"):
        yield "- Its base is slightly less exact than the original; see above."
    yield "- It may repeat what stands in its training data; look at them before you share it."


def _cost(subject: _Subject) -> Iterator[str]:
    """What was expected and what it took, side by side."""
    row = next((row for row in subject.evaluations if (row.details or {}).get("actual")), None)
    statistics = next((row.training_statistics for row in subject.evaluations if row.training_statistics), {})
    if row is None and not statistics:
        return
    yield "## Cost\n"
    if row is not None:
        details: Mapping[str, Any] = row.details or {}
        planned, actual = details.get("planned") or {}, details["actual"]
        yield "| | planned | actual |"
        yield "|---|---:|---:|"
        for name in ("steps", "tokens", "seconds", "cpu_seconds", "memory_bytes"):
            if actual.get(name) is not None:
                yield f"| {name} | {_amount(name, planned.get(name))} | {_amount(name, actual[name])} |"
        yield ""
    shown = {name: statistics[name] for name in ("device", "precision", "threads") if name in statistics}
    if shown:
        yield "Computed on " + ", ".join(f"{name} {value}" for name, value in shown.items()) + "."


def _loading(subject: _Subject, format_: str | None) -> Iterator[str]:
    if subject.model.simulated:
        return
    auto = _CLASSES[subject.pipeline]
    yield "## How to load\n"
    formats = [format_] if format_ is not None else ["safetensors", "adapter"]
    if format_ is None and subject.model.weights_format != "adapter":
        formats.remove("adapter")
    for name in formats:
        if name == "adapter":
            yield from _adapter(subject, auto)
        elif name == "safetensors":
            yield "The merged model (`safetensors` export), unpacked to `FOLDER`:\n"
            yield f"```python\nfrom transformers import {auto}, AutoTokenizer\n"
            yield f'model = {auto}.from_pretrained("FOLDER")\ntokenizer = AutoTokenizer.from_pretrained("FOLDER")\n```'
        else:
            yield "The GGUF file, with the `Modelfile` beside it:\n"
            yield "```\nollama create my-model -f Modelfile\nollama run my-model\n```\n"
            yield "llama.cpp, LM Studio and their kin load the file itself; its chat template is inside."


def _adapter(subject: _Subject, auto: str) -> Iterator[str]:
    whole = subject.chain[-1]
    known = origin(whole) if whole.model_type == "base" else None
    place = _where(whole) if known is None else ""
    yield f"The adapter (`adapter` export), unpacked to `FOLDER`, upon {_line(whole.name)}{place}:\n"
    yield "```python"
    if subject.pipeline == "text-classification":
        yield f"import json\nfrom pathlib import Path\n{_peft(auto)}"
        yield 'head = json.loads(Path("FOLDER/head.json").read_text())  # its labels'
        yield 'head["id2label"] = {int(number): label for number, label in head["id2label"].items()}'
        yield f"model = {auto}.from_pretrained({_text(known or 'BASE')}, **head)"
    else:
        yield _peft(auto)
        yield f"model = {auto}.from_pretrained({_text(known or 'BASE')})"
    earlier = [f"FOLDER/earlier-{number}" for number in range(1, len(subject.chain) - 1)]
    if earlier:
        yield "# It was trained upon earlier adapters, which lie beside it."
        yield f"for folder in {json.dumps([*earlier, 'FOLDER'])}:"
        yield "    model = PeftModel.from_pretrained(model, folder).merge_and_unload()"
    else:
        yield 'model = PeftModel.from_pretrained(model, "FOLDER").merge_and_unload()'
    yield 'tokenizer = AutoTokenizer.from_pretrained("FOLDER")\n```'


def _peft(auto: str) -> str:
    return f"from peft import PeftModel\nfrom transformers import {auto}, AutoTokenizer"


def _where(whole: Model) -> str:
    """What `BASE` stands for where no hub knows the weights."""
    return " in the folder `BASE`" if whole.model_type == "base" else " (its `safetensors` export, unpacked to `BASE`)"


# -- figures


def _evaluated_on(subject: _Subject, row: Evaluation) -> str:
    """The name of the rows that an evaluation is about."""
    name = subject.names.get(row.dataset_id or "", "a dataset that was deleted")
    learned = subject.datasets.get("training")
    return f"held-out rows of {name}" if learned is not None and learned.id == row.dataset_id else name


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _figure(value: Any) -> str:
    return f"{value:.4g}" if _is_number(value) else "–"


def _with(value: Any, bounds: Any) -> str:
    between = _between(bounds)
    return _figure(value) + (f" ({between})" if between != "–" else "")


def _between(bounds: Any) -> str:
    if not isinstance(bounds, Sequence) or len(bounds) != 2 or not all(_is_number(bound) for bound in bounds):
        return "–"
    return f"{_figure(bounds[0])} to {_figure(bounds[1])}"


def _amount(name: str, value: Any) -> str:
    if not _is_number(value):
        return "–"
    if name.endswith("seconds"):
        return spoken(float(value))
    return f"{value / 1e9:.2f} GB" if name == "memory_bytes" else f"{value:,.0f}"


def _line(text: str) -> str:
    """Words of a person on one line, which cannot begin a heading, a fence or a front matter of their own."""
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _line(text).replace("|", "\\|")
