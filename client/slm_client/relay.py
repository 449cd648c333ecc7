"""`Relay`: passes a browser's request on to the service while it arrives, and the answer back while it comes.

A user interface that serves pages itself needs it for what is too large to go through it: uploads and downloads. The
key stays here, and the browser sees one origin. Nothing is kept: a block is read when the one before it was sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx2

from slm_client.datasets import INSPECTION_SECONDS
from slm_client.transport import CONNECT_SECONDS, checked_url, own_headers, translated, trusts_environment


@dataclass(frozen=True)
class Relayed:
    """The service's answer; `blocks` are its bytes as they come, and must be read inside the `with` block."""

    status: int
    headers: Mapping[str, str]
    blocks: AsyncIterator[bytes]


class Relay:
    """One pool of connections to one service, for one event loop; close it with `aclose`."""

    def __init__(
        self, base_url: str, *, api_key: str | None = None, transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self.base_url = checked_url(base_url)
        self._own_headers = own_headers(api_key)
        self._http = httpx2.AsyncClient(
            timeout=httpx2.Timeout(INSPECTION_SECONDS, connect=CONNECT_SECONDS),
            transport=transport,
            trust_env=trusts_environment(self.base_url),
        )

    @asynccontextmanager
    async def send(
        self, method: str, path: str, *, headers: Mapping[str, str], content: AsyncIterator[bytes] | None = None
    ) -> AsyncIterator[Relayed]:
        """Refusals of the service are answers too; only where none comes `ServiceUnreachable` is raised."""
        with translated(self.base_url):
            request = self._http.stream(
                method,
                self.base_url + path,
                # What is asked for plainly can be passed on as it is.
                headers={"Accept-Encoding": "identity", **headers, **self._own_headers},
                content=content,
            )
            async with request as response:
                yield Relayed(response.status_code, response.headers, response.aiter_raw())

    async def aclose(self) -> None:
        await self._http.aclose()
