"""`Client`: one service, its nouns as attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import httpx2

from slm_client.datasets import Datasets
from slm_client.downloads import Artifacts
from slm_client.errors import NotTheService
from slm_client.evaluations import Evaluations
from slm_client.experiments import Experiments
from slm_client.models import Models, Runs
from slm_client.system import System
from slm_client.transport import Transport

DEFAULT_URL = "http://localhost:8000"


class Client:
    """A connection to one service; close it, or use it in a `with` block. Threads may share it.

    `timeout` is in seconds, for each wait on the network (uploads and event streams have their own, longer ones).
    `headers` go with every request: a user interface says in `X-Forwarded-For` for whom it asks.
    `transport` replaces the network, for tests, or is a pool that several clients share.
    """

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float = 30.0,
        transport: httpx2.BaseTransport | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._transport = Transport(base_url, api_key=api_key, timeout=timeout, transport=transport, headers=headers)
        self.datasets = Datasets(self._transport)
        self.models = Models(self._transport)
        self.experiments = Experiments(self._transport)
        self.evaluations = Evaluations(self._transport)
        self.runs = Runs(self._transport)
        self.artifacts = Artifacts(self._transport)

    @property
    def base_url(self) -> str:
        return self._transport.base_url

    def health(self) -> dict[str, Any]:
        """Raises `ServiceUnreachable` where nothing answers, `NotTheService` where something else does."""
        answer = self._transport.json("GET", "/health")
        if not isinstance(answer, dict) or answer.get("status") != "healthy":
            raise NotTheService(f"What answers at {self.base_url} is not the SLM Training Platform.")
        return answer

    def ready(self) -> dict[str, Any]:
        """Raises `Unavailable` with a sentence where the service cannot do its work."""
        answer: dict[str, Any] = self._transport.json("GET", "/ready")
        return answer

    def system(self) -> System:
        """What the service's machine can do."""
        return System.read(self._transport.json("GET", "/system"))

    def openapi(self) -> dict[str, Any]:
        """The service's own description of everything it takes and answers (OpenAPI)."""
        answer: dict[str, Any] = self._transport.json("GET", "/openapi.json")
        return answer

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
