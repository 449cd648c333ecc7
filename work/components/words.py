"""Numbers, sizes and times as people say them. Pure functions; what is not known is a dash."""

from __future__ import annotations

import html
import math
from datetime import UTC, datetime

UNKNOWN = "–"
_SIZES = ("B", "KB", "MB", "GB", "TB")


def count(number: float | None, noun: str = "") -> str:
    """`12,345 rows`; the noun is given in the singular and gets its `s` where there is not exactly one."""
    if number is None:
        return UNKNOWN
    text = f"{number:,.0f}"
    return text if not noun else f"{text} {noun if number == 1 else plural(noun)}"


def plural(noun: str) -> str:
    return f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2:-1] not in "aeiou" else f"{noun}s"


def size(number: float | None) -> str:
    """Bytes in decimal units, as disks and downloads are sold."""
    if number is None:
        return UNKNOWN
    value, unit = float(number), 0
    while value >= 999.5 and unit < len(_SIZES) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_SIZES[unit]}" if unit == 0 or value >= 99.95 else f"{value:.1f} {_SIZES[unit]}"


def memory(number: float | None) -> str:
    """Bytes in binary units, as memory is sold."""
    return UNKNOWN if number is None else f"{number / 2**30:.{1 if number < 100 * 2**30 else 0}f} GiB"


def parameters(number: int | None) -> str:
    """`135 M`, `1.1 B`."""
    if not number:
        return UNKNOWN
    for factor, letter in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= factor * 0.9995:
            value = number / factor
            return f"{value:.0f} {letter}" if value >= 99.95 or value == int(value) else f"{value:.1f} {letter}"
    return str(number)


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits, without an exponent where people can read it: losses, scores, learning rates."""
    if value is None or isinstance(value, bool) or not math.isfinite(value):
        return UNKNOWN
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        text = f"{value:,.{max(0, digits - 1 - _magnitude(value))}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{digits - 1}e}"


def percent(share: float | None, digits: int = 0) -> str:
    """A share of one as percent."""
    return UNKNOWN if share is None or not math.isfinite(share) else f"{share * 100:.{digits}f} %"


def duration(seconds: float | None) -> str:
    """The two largest units: `1 h 04 min`, `2 min 03 s`, `0.4 s`."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return UNKNOWN
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def ago(moment: datetime | None, now: datetime | None = None) -> str:
    """`just now`, `5 min ago`, `3 d ago`; the date itself once it is older than a month."""
    if moment is None:
        return UNKNOWN
    seconds = ((now or datetime.now(UTC)) - moment).total_seconds()
    if seconds < 45:
        return "just now"
    for limit, unit, name in ((3600, 60, "min"), (86400, 3600, "h"), (30 * 86400, 86400, "d")):
        if seconds < limit - unit / 2:
            return f"{max(1, round(seconds / unit))} {name} ago"
    return f"{moment.day} {moment:%b %Y}"


def exact(moment: datetime | None) -> str:
    """The instant to the second, in UTC."""
    return UNKNOWN if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def moment(then: datetime | None, now: datetime | None = None) -> str:
    """A relative time as HTML whose exact one shows on hover."""
    if then is None:
        return UNKNOWN
    return f'<time datetime="{then.isoformat()}" title="{exact(then)}">{ago(then, now)}</time>'


def plain(text: object) -> str:
    """Text of a user's as Markdown that shows it and nothing else."""
    shown = "".join(f"\\{letter}" if letter in r"\`*_{}[]()<>#+-.!|~$:^" else letter for letter in str(text))
    return " ".join(shown.split())


def escaped(text: object) -> str:
    """Text of a user's as HTML."""
    return html.escape(str(text))


def _magnitude(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0
