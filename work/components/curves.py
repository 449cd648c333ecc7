"""What is done to a curve before it is drawn. Pure functions on plain lists."""

from __future__ import annotations

import math
from collections.abc import Sequence

MOST_POINTS = 2000


def thin(steps: Sequence[int], values: Sequence[float], most: int = MOST_POINTS) -> tuple[list[int], list[float]]:
    """At most `most` points that keep every bucket's lowest and highest value, first and last point included."""
    total = len(steps)
    if total <= most:
        return [*steps], [*values]
    buckets = max(1, (most - 2) // 2)
    kept = {0, total - 1}
    for bucket in range(buckets):
        inside = range(1 + (total - 2) * bucket // buckets, 1 + (total - 2) * (bucket + 1) // buckets)
        finite = [place for place in inside if math.isfinite(values[place])]
        if finite:
            kept |= {min(finite, key=values.__getitem__), max(finite, key=values.__getitem__)}
    places = sorted(kept)
    return [steps[place] for place in places], [values[place] for place in places]


def smooth(values: Sequence[float], weight: float = 0.9) -> list[float]:
    """An exponential mean without the pull of its start: the first value is itself. What is not finite stays so."""
    mean, norm, out = 0.0, 0.0, []
    for value in values:
        if not math.isfinite(value):
            out.append(value)
            continue
        mean = weight * mean + (1 - weight) * value
        norm = weight * norm + (1 - weight)
        out.append(mean / norm)
    return out


def without_outliers(values: Sequence[float], share: float = 0.02) -> tuple[float, float] | None:
    """The range that shows all but the `share` most extreme values at each end, with a little air; None for none."""
    finite = sorted(value for value in values if math.isfinite(value))
    if not finite:
        return None
    cut = int(len(finite) * share)
    low, high = finite[cut], finite[-1 - cut]
    air = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return max(low - air, 0.0) if low >= 0 else low - air, high + air


def counted(lengths: Sequence[tuple[int, int, int]], limit: int) -> tuple[int, int]:
    """Of a histogram's (from, to, count), about how many lie within `limit` and how many beyond it.

    The bucket that the limit cuts is shared out evenly, so the answer is an estimate there and exact elsewhere.
    """
    within = 0.0
    total = 0
    for start, end, count in lengths:
        total += count
        if end <= limit:
            within += count
        elif start <= limit:
            within += count * (limit - start + 1) / (end - start + 1)
    return round(within), total - round(within)
