"""One HTTP connection pool to one service: turns refusals and broken connections into this client's own errors."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx2

from slm_client.errors import NotTheService, ServiceUnreachable, refusal

CONNECT_SECONDS = 5.0


def segment(identity: str) -> str:
    """An id as one segment of a path, whatever it holds."""
    return quote(identity, safe="") or "%20"


def checked_url(base_url: str) -> str:
    """The address without a slash at its end. Raises `ServiceUnreachable` where it is none."""
    url = base_url.rstrip("/")
    if urlsplit(url).scheme not in {"http", "https"}:
        raise ServiceUnreachable(f"'{base_url}' is not an address; it begins with http:// or https://.")
    return url


def own_headers(api_key: str | None) -> dict[str, str]:
    """Who calls, and the key that it may."""
    headers = {"User-Agent": "slm-client"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    return headers


def trusts_environment(url: str) -> bool:
    """False for this machine: a proxy set for the internet would be asked for its service, and refuse."""
    return not _is_loopback(url)


@contextmanager
def translated(base_url: str) -> Iterator[None]:
    """Errors of the HTTP library become `ServiceUnreachable` with a sentence."""
    try:
        yield
    except httpx2.ConnectError:
        raise ServiceUnreachable(
            f"Nothing answers at {base_url}. Is the service running? `slm serve` starts it."
        ) from None
    except httpx2.TimeoutException:
        raise ServiceUnreachable(f"{base_url} does not answer in time; it may be busy or stopped.") from None
    except httpx2.UnsupportedProtocol as error:
        raise ServiceUnreachable(f"{base_url} cannot be called: {error}") from None
    except httpx2.TransportError as error:
        raise ServiceUnreachable(f"The connection to {base_url} broke off ({error}); try again.") from None
    except httpx2.InvalidURL as error:
        raise ServiceUnreachable(f"'{base_url}' is not an address: {error}") from None


class Transport:
    """`json`, `send`, `stream` and `pages`; every other module of this client goes through these."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None,
        timeout: float,
        transport: httpx2.BaseTransport | None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.base_url = checked_url(base_url)
        self.timeout = httpx2.Timeout(timeout, connect=min(timeout, CONNECT_SECONDS))
        self._http = httpx2.Client(
            base_url=self.base_url,
            headers={"Accept": "application/json", **(headers or {}), **own_headers(api_key)},
            timeout=self.timeout,
            transport=transport,
            trust_env=trusts_environment(self.base_url),
        )

    def close(self) -> None:
        self._http.close()

    def json(self, method: str, path: str, **options: Any) -> Any:
        """Send and decode the answer; None for an answer without content."""
        response = self.send(method, path, **options)
        return None if response.status_code == 204 else self.decode(response)

    def send(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, **options: Any
    ) -> httpx2.Response:
        """Send and read the whole answer. Raises `ApiError` for a refusal, `ServiceUnreachable` for none."""
        with self.translated():
            response = self._http.request(method, path, params=_given(params), **options)
        self._check(response)
        return response

    @contextmanager
    def stream(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, **options: Any
    ) -> Iterator[httpx2.Response]:
        """Send and read the answer piece by piece inside the `with` block."""
        with self.translated(), self._http.stream(method, path, params=_given(params), **options) as response:
            if response.status_code >= 400:
                response.read()
            self._check(response)
            yield response

    def pages(self, path: str, params: Mapping[str, Any], *, page_size: int) -> Iterator[Any]:
        """Every row of a list, fetched page by page along the `Link` headers."""
        cursor: str | None = None
        while True:
            response = self.send("GET", path, params={**params, "limit": page_size, "cursor": cursor})
            rows = self.decode(response)
            if not isinstance(rows, list):
                raise NotTheService(f"{self.base_url}{path} did not answer with a list.")
            yield from rows
            following = response.links.get("next", {}).get("url", "")
            cursor = parse_qs(urlsplit(following).query).get("cursor", [None])[0]
            if cursor is None:
                return

    def translated(self) -> AbstractContextManager[None]:
        """Errors of the HTTP library become `ServiceUnreachable` with a sentence."""
        return translated(self.base_url)

    def decode(self, response: httpx2.Response) -> Any:
        """The JSON of an answer. Raises `NotTheService` for anything else."""
        try:
            return response.json()
        except ValueError:
            raise NotTheService(f"What answers at {self.base_url} is not the SLM Training Platform.") from None

    def _check(self, response: httpx2.Response) -> None:
        if response.status_code >= 400:
            raise refusal(response.status_code, response.content, retry_after=response.headers.get("retry-after"))
        if response.status_code >= 300:
            raise NotTheService(f"{self.base_url} redirects elsewhere ({response.headers.get('location', '')}).")


def _given(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (params or {}).items() if value is not None}


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
