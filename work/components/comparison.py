"""What differs between runs, as rows of tables. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slm_client import ExperimentDetail

from components import scorecard, words

MOST_RUNS = 6
"""As many as there are colours that can be told apart."""
_LESS_IS_BETTER = frozenset({"loss", "perplexity"})
_SAME = object()


def labels(experiments: Sequence[ExperimentDetail]) -> list[str]:
    """A name for each that no other has: equal names get their place in time."""
    names = [experiment.name for experiment in experiments]
    return [
        name if names.count(name) == 1 else f"{name} ({experiment.created_at:%b %d, %H:%M:%S})"
        for name, experiment in zip(names, experiments, strict=True)
    ]


def asked(experiment: ExperimentDetail, names: Mapping[str, str]) -> dict[str, Any]:
    """Everything that was decided before it began, with names in place of ids."""
    return {
        "base model": names.get(experiment.base_model_id, "deleted"),
        "training data": names.get(experiment.training_dataset_id, "deleted"),
        "evaluation data": _evaluation_data(experiment, names),
        "executor": experiment.executor,
        **experiment.training_config,
    }


def _evaluation_data(experiment: ExperimentDetail, names: Mapping[str, str]) -> str:
    if experiment.eval_dataset_id is None:
        return "a part held out"
    return names.get(experiment.eval_dataset_id, "deleted")


def differences(columns: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """A row for each setting that is not the same in all columns: the setting, then what each says."""
    settings = dict.fromkeys(key for column in columns.values() for key in column)
    return [
        {"setting": setting, **{name: shown(column.get(setting)) for name, column in columns.items()}}
        for setting in settings
        if any(
            column.get(setting, _SAME) != next(iter(columns.values())).get(setting, _SAME)
            for column in columns.values()
        )
    ]


def shown(value: Any) -> str:
    """A setting as people read it; null is a dash."""
    if value is None:
        return words.UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return words.number(value, 4) if isinstance(value, float) else str(value)


def scorecards(columns: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """A row for each metric that any column has: the metric, the values, and which column is best (none at a tie)."""
    metrics = scorecard.ordered([*dict.fromkeys(metric for column in columns.values() for metric in column)])
    rows = []
    for metric in metrics:
        values = {name: column.get(metric) for name, column in columns.items()}
        rows.append({"metric": metric, **values, "best": _best(metric, values)})
    return rows


def readable(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    """The same rows with the metrics' titles, shares as percent, and a dash for what was not measured."""
    return [
        {
            **row,
            "metric": scorecard.metric(row["metric"]).title,
            **{name: scorecard.figure(row["metric"], row[name]) for name in names},
        }
        for row in rows
    ]


def _best(metric: str, values: Mapping[str, float | None]) -> str:
    known = {name: value for name, value in values.items() if value is not None}
    if len(known) < 2:
        return ""
    top = min(known.values()) if metric in _LESS_IS_BETTER else max(known.values())
    winners = [name for name, value in known.items() if value == top]
    return winners[0] if len(winners) == 1 else ""
