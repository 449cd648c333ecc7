"""Numbers side by side: two models on the same rows, and a model beside a baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slm.baselines import Baseline
from slm.metrics import Interval, Metric, interval, intervals


def compare(base: Mapping[str, Metric], tuned: Mapping[str, Metric], *, seed: int) -> dict[str, Any]:
    """`metrics`, `base_metrics` and `intervals` (base, tuned, difference) of models scored on the same rows."""
    shown = {
        name: intervals(base[name], metric, seed=seed) if name in base else {"tuned": interval(metric, seed=seed)}
        for name, metric in tuned.items()
    }
    return {"metrics": values(tuned), "base_metrics": values(base), "intervals": shown}


def against(other: Baseline, tuned: Mapping[str, Metric], *, seed: int) -> dict[str, Any]:
    """Another way to answer the same rows: its metrics, their intervals, and those of (tuned − it)."""
    return {
        "note": other.note,
        "metrics": values(other.metrics),
        "intervals": {name: interval(metric, seed=seed) for name, metric in other.metrics.items()},
        "differences": differences(other.metrics, tuned, seed=seed),
    }


def differences(other: Mapping[str, Metric], tuned: Mapping[str, Metric], *, seed: int) -> dict[str, Interval]:
    """The 95 % interval of (tuned − other) of each metric that both have, paired by row."""
    return {
        name: intervals(metric, tuned[name], seed=seed)["difference"] for name, metric in other.items() if name in tuned
    }


def values(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Each metric as a plain number."""
    return {name: metric.value for name, metric in metrics.items()}
