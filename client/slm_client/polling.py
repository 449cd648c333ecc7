"""Looking again and again at something that ends, through restarts of the service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from slm_client.errors import ServiceUnreachable, Unavailable


class Ending(Protocol):
    @property
    def ended(self) -> bool: ...


T = TypeVar("T", bound=Ending)
R = TypeVar("R")


class Patience:
    """Bears a service that is away for up to `seconds` in a row; the first success starts the count anew."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: float | None = None

    def call(self, ask: Callable[[], R]) -> R | None:
        """What `ask` gives, or None where the service is away but patience is left."""
        try:
            answer = ask()
        except (ServiceUnreachable, Unavailable) as error:
            self.bear(error)
            return None
        self._since = None
        return answer

    def bear(self, error: Exception) -> None:
        """Count one failure; raises `error` once patience is over."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        if now - self._since >= self._seconds:
            raise error

    def relieved(self) -> None:
        self._since = None


def until_ended(look: Callable[[], T], *, interval: float, patience: float) -> Iterator[T]:
    """Yields each look; the first one must succeed, later ones bear a service that is away."""
    seen = look()
    bearing = Patience(patience)
    while True:
        yield seen
        if seen.ended:
            return
        time.sleep(interval)
        seen = bearing.call(look) or seen
