"""Following an experiment's events: a server-sent stream that is resumed where it breaks, polling where none comes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import httpx2

from slm_client.answers import Event
from slm_client.errors import ServiceUnreachable, Unavailable
from slm_client.polling import Patience
from slm_client.transport import CONNECT_SECONDS, Transport

SILENCE_SECONDS = 45.0
"""The service says something at least every 15 s; a stream that is silent for three times that does not get through."""
POLL_SECONDS = 1.0
RECONNECT_SECONDS = 0.5
PAGE = 1000


def follow(
    transport: Transport, path: str, *, since: int, patience: float, ended: Callable[[], bool]
) -> Iterator[Event]:
    """Each event after number `since` once, in order, until `ended()` and nothing is left."""
    bearing = Patience(patience)
    streaming, barren = True, 0
    while True:
        before = since
        try:
            if streaming:
                source = _stream(transport, path, since)
                streaming = False
                for event in source:
                    streaming, barren = True, 0
                    if event is not None and event.id > since:
                        since = event.id
                        bearing.relieved()
                        yield event
            # Asked before the last look, so that what came in between is not missed.
            over = ended()
            for event in _poll(transport, path, since):
                since = event.id
                yield event
            bearing.relieved()
            if over and since == before:
                return
        except (ServiceUnreachable, Unavailable) as error:
            bearing.bear(error)
            barren += 1
            streaming = barren < 3
        time.sleep(RECONNECT_SECONDS if streaming else POLL_SECONDS)


def _stream(transport: Transport, path: str, since: int) -> Iterator[Event | None]:
    """Events as they come; a first None says that the answer is a stream. Ends where it is none."""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(since)}
    timeout = httpx2.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS)
    with transport.stream("GET", path, params={"since": since}, headers=headers, timeout=timeout) as response:
        if "text/event-stream" not in response.headers.get("content-type", ""):
            return
        yield None
        for message in httpx2.EventSource(response):
            if message.data:
                yield Event.read(message.json())


def _poll(transport: Transport, path: str, since: int) -> Iterator[Event]:
    while True:
        rows = transport.json("GET", path, params={"since": since, "limit": PAGE})
        for row in rows:
            event = Event.read(row)
            since = max(since, event.id)
            yield event
        if len(rows) < PAGE:
            return
