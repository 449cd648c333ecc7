"""A scorecard as people read it: the metrics in words, whose interval says what, and which rows were lost."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt
from slm_client import EvaluationDetail, Sample

from components import words
from components.charts import BASE, BASELINE, PALETTE, TUNED

BETTER, WORSE, UNCLEAR = "better", "worse", "unclear"


class Metric(NamedTuple):
    title: str
    hint: str
    is_share: bool = True
    """Between 0 and 1: shown as percent."""
    lower_is_better: bool = False


METRICS: dict[str, Metric] = {
    "accuracy": Metric("Accuracy", "Share of rows given the right label."),
    "f1": Metric("F1", "Of labels: the mean over labels. Of answers: words shared with the expected answer."),
    "preference_accuracy": Metric("Preference accuracy", "Share of pairs in which the better answer is preferred."),
    "json_record_accuracy": Metric("Whole records right", "Answers that are exactly the expected JSON record."),
    "json_field_accuracy": Metric("JSON fields right", "Share of fields with the expected value."),
    "json_valid": Metric("Valid JSON", "Answers that are one JSON object and nothing else."),
    "numeric_closeness": Metric("Numeric closeness", "How near the answered numbers are; 100 % is equal."),
    "exact_match": Metric("Exact match", "Answers equal to the expected one."),
    "token_f1": Metric("Token F1", "Words shared with the expected answer (SQuAD's definition)."),
    "rouge_l": Metric("ROUGE-L", "Longest common sequence of words with the expected answer."),
    "chrf": Metric("chrF", "Character n-grams shared with the expected answer."),
    "token_accuracy": Metric("Token accuracy", "Expected tokens that the model ranks first."),
    "reward_margin": Metric(
        "Reward margin", "How much more the better answer gained than the worse one.", is_share=False
    ),
    "loss": Metric("Loss", "Mean surprise per learned token, in nats.", is_share=False, lower_is_better=True),
    "perplexity": Metric("Perplexity", "e to the loss.", is_share=False, lower_is_better=True),
}
"""In the order in which they are shown; a metric that is not here follows under its own name."""
BASELINES = {
    "few_shot": "Base with examples",
    "majority": "Commonest label",
    "tfidf_logreg": "TF-IDF + logistic regression",
    "unigram": "Word frequencies",
}


def metric(name: str) -> Metric:
    return METRICS.get(name, Metric(name.replace("_", " ").capitalize(), "", is_share=False))


def ordered(names: Sequence[str]) -> list[str]:
    """The task's own scores first, the losses last. `token_f1` is left out where `f1` says the same."""
    known = [name for name in METRICS if name in names and not (name == "token_f1" and "f1" in names)]
    return [*known, *(name for name in names if name not in METRICS)]


def figure(name: str, value: float | None) -> str:
    """A metric's value: shares of one as percent, the rest with three digits."""
    if value is None:
        return words.UNKNOWN
    return words.percent(value, 1) if metric(name).is_share else words.number(value)


def span(name: str, interval: Sequence[float] | None, *, signed: bool = False) -> str:
    """A 95 % interval as text: `12.0 % to 31.5 %`."""
    if not interval or len(interval) != 2:
        return words.UNKNOWN
    parts = [figure(name, abs(bound) if signed else bound) for bound in interval]
    if signed:
        parts = [f"{'−' if bound < 0 else '+'}{part}" for bound, part in zip(interval, parts, strict=True)]
    return f"{parts[0]} to {parts[1]}"


def judged(name: str, difference: Sequence[float] | None) -> str:
    """What the interval of (tuned − base) allows to say: nothing where it holds zero."""
    if not difference or len(difference) != 2:
        return ""
    low, high = difference
    if low <= 0 <= high:
        return UNCLEAR
    return BETTER if (low > 0) != metric(name).lower_is_better else WORSE


def rows(evaluation: EvaluationDetail) -> list[dict[str, Any]]:
    """One row a metric: base, tuned, what lies between, what may be said of it, and each simple baseline."""
    found = []
    for name in ordered([*evaluation.metrics]):
        bounds = evaluation.intervals.get(name) or {}
        row: dict[str, Any] = {"metric": metric(name).title}
        if evaluation.base_metrics:
            row |= {"base": figure(name, evaluation.base_metrics.get(name))}
        row |= {"tuned": figure(name, evaluation.metrics[name])}
        if evaluation.base_metrics:
            difference = bounds.get("difference")
            row |= {"difference": span(name, difference, signed=True), "judged": judged(name, difference)}
        for baseline, card in evaluation.baselines.items():
            row[BASELINES.get(baseline, baseline)] = figure(name, (card.get("metrics") or {}).get(name))
        found.append(row)
    return found


def interval_points(evaluation: EvaluationDetail) -> list[dict[str, Any]]:
    """Every value with its interval, as the picture draws it: who, metric, value, low, high."""
    points = []
    for name in ordered([*evaluation.metrics]):
        bounds = evaluation.intervals.get(name) or {}
        several: list[tuple[str, float | None, Any]] = [("tuned", evaluation.metrics[name], bounds.get("tuned"))]
        if name in evaluation.base_metrics:
            several.insert(0, ("base", evaluation.base_metrics[name], bounds.get("base")))
        for baseline, card in evaluation.baselines.items():
            value = (card.get("metrics") or {}).get(name)
            several.append((BASELINES.get(baseline, baseline), value, (card.get("intervals") or {}).get(name)))
        for who, value, interval in several:
            if value is not None:
                low, high = interval or (value, value)
                point = {"metric": metric(name).title, "share": metric(name).is_share, "who": who, "value": value}
                texts = {"shown": figure(name, value), "interval": span(name, interval)}
                points.append(point | {"low": low, "high": high} | texts)
    return points


def interval_chart(points: Sequence[Mapping[str, Any]]) -> Any:
    """Of one metric: a dot with its 95 % interval for each model, on a scale of its own."""
    who = [point["who"] for point in points]
    colours, shapes = [colour_of(name) for name in who], [_SHAPES.get(name, "square") for name in who]
    base = alt.Chart(alt.InlineData(values=[*points])).encode(
        y=alt.Y("who:N", sort=who, title=None, axis=alt.Axis(labels=False, ticks=False, domain=False)),
        color=alt.Color("who:N", legend=None, sort=who, scale=alt.Scale(domain=who, range=colours)),
        tooltip=[
            alt.Tooltip("who:N", title="Model"),
            alt.Tooltip("shown:N", title="Value"),
            alt.Tooltip("interval:N", title="95 % interval"),
        ],
    )
    form = ".0%" if points and points[0]["share"] else ",.3~r"
    scale, axis = alt.Scale(zero=False, nice=True), alt.Axis(format=form, tickCount=6)
    lines = base.mark_rule(strokeWidth=3, opacity=0.55).encode(
        x=alt.X("low:Q", title=None, scale=scale, axis=axis), x2="high:Q"
    )
    dots = base.mark_point(size=90, filled=True, opacity=1).encode(
        x=alt.X("value:Q", title=None, scale=scale, axis=axis),
        shape=alt.Shape("who:N", legend=None, sort=who, scale=alt.Scale(domain=who, range=shapes)),
    )
    return (lines + dots).properties(height=20 * len(who) + 28)


_SHAPES = {"base": "circle", "tuned": "diamond"}


def colour_of(who: str) -> str:
    """Base grey, tuned blue, and a warm colour for each baseline."""
    others = dict(zip(BASELINES.values(), (BASELINE, PALETTE[3], BASELINE, PALETTE[3]), strict=True))
    return {"base": BASE, "tuned": TUNED, **others}.get(who, BASELINE)


def legend(names: Sequence[str]) -> str:
    """Who is which colour, as HTML."""
    return " ".join(
        f'<span class="shown"><i style="background:{colour_of(name)}"></i>{words.escaped(name)}</span>'
        for name in names
    )


def class_rows(per_class: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Per label: how many rows it has, precision, recall and F1 of the tuned model, and the base's F1."""
    return [
        {
            "label": entry["label"],
            "rows": entry["support"],
            **{name: (entry.get("tuned") or {}).get(name) for name in ("precision", "recall", "f1")},
            "base_f1": (entry.get("base") or {}).get("f1"),
        }
        for entry in per_class
    ]


def confusion_chart(labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> Any:
    """True labels down, given labels across; what is right lies on the diagonal."""
    cells = [
        {"true": true, "given": given, "rows": count, "share": count / max(1, sum(line))}
        for true, line in zip(labels, matrix, strict=True)
        for given, count in zip(labels, line, strict=True)
    ]
    base = alt.Chart(alt.InlineData(values=cells)).encode(
        x=alt.X("given:N", sort=[*labels], title="given", axis=alt.Axis(labelAngle=-40, labelLimit=120)),
        y=alt.Y("true:N", sort=[*labels], title="true", axis=alt.Axis(labelLimit=120)),
        tooltip=[
            alt.Tooltip("true:N", title="True"),
            alt.Tooltip("given:N", title="Given"),
            alt.Tooltip("rows:Q", title="Rows", format=",d"),
            alt.Tooltip("share:Q", title="Of its label", format=".0%"),
        ],
    )
    boxes = base.mark_rect(stroke="#8888", strokeWidth=0.5).encode(
        color=alt.Color("share:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=["#5b7cf000", TUNED]))
    )
    if len(labels) > 20:
        return boxes.properties(height=22 * len(labels) + 60)
    ink = alt.condition("datum.share > 0.4", alt.value("#0b1020"), alt.value(BASE))
    numbers = base.mark_text(fontSize=12).encode(text=alt.Text("rows:Q", format=",d"), color=ink)
    return (boxes + numbers).properties(height=max(160, 34 * len(labels) + 60))


_WORD = re.compile(r"\w+|\s+|[^\w\s]")


def marked(expected: str, output: str) -> str:
    """The answer as HTML: what is not in the expected one is marked as added, what is missing as taken out."""
    wanted, given = _WORD.findall(expected), _WORD.findall(output)
    parts = []
    for kind, i1, i2, j1, j2 in difflib.SequenceMatcher(None, wanted, given, autojunk=False).get_opcodes():
        kept, missing = words.escaped("".join(given[j1:j2])), words.escaped("".join(wanted[i1:i2]))
        if kind == "equal":
            parts.append(kept)
            continue
        if missing:
            parts.append(f'<del title="missing">{missing}</del>')
        if kept:
            parts.append(f'<ins title="not expected">{kept}</ins>')
    return "".join(parts)


_LEADING = ("correct", "exact_match", "json_record", "json_fields_right", "preferred", "rouge_l", "chrf", "token_f1")
"""Of a row's scores the one that decides who was better, the first on which the two differ."""


def lost(sample: Sample) -> bool:
    """Whether the base answered this row better than the tuned model."""
    base, tuned = sample.scores.get("base") or {}, sample.scores.get("tuned") or {}
    for name in _LEADING:
        if name in base and name in tuned and base[name] != tuned[name]:
            return float(base[name]) > float(tuned[name])
    return False


def overlap_sentence(overlap: Mapping[str, Any] | None) -> str:
    """What of the held-out rows stands in the training data, or nothing where none does."""
    if not overlap:
        return ""
    parts = [
        f"{words.count(overlap[kind])} {text}"
        for kind, text in (("exact", "exactly"), ("normalised", "but for case and spaces"), ("near", "nearly"))
        if overlap.get(kind)
    ]
    if not parts:
        return ""
    sentence = f"Of {words.count(overlap.get('rows'), 'held-out row')}, training rows repeat {', '.join(parts)}."
    if overlap.get("rows_without"):
        sentence += f" Without them {words.count(overlap['rows_without'], 'row')} remain."
    return sentence


def planned_rows(planned: Mapping[str, Any] | None, actual: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """What was expected of the training beside what it took."""
    if not planned or not actual:
        return []
    shown: dict[str, tuple[str, Callable[[float | None], str]]] = {
        "steps": ("Steps", words.count),
        "tokens": ("Tokens", words.count),
        "seconds": ("Time", words.duration),
        "cpu_seconds": ("Processor time", words.duration),
        "memory_bytes": ("Memory", words.size),
    }
    return [
        {"": title, "planned": form(_plain(planned.get(key))), "actual": form(_plain(actual.get(key)))}
        for key, (title, form) in shown.items()
        if _plain(planned.get(key)) is not None or _plain(actual.get(key)) is not None
    ]


def _plain(value: Any) -> float | None:
    """A figure with or without its basis."""
    return value.get("value") if isinstance(value, Mapping) else value
