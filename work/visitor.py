"""Who is at the other end: the visitor's address and the name by which the workbench was addressed.

The service serves callers of its own machine alone unless it is told otherwise. All that it sees of a visitor is the
workbench, so the workbench says in `X-Forwarded-For` for whom it asks, and never less than it knows.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

_PROXY_HEADERS = ("x-forwarded-for", "x-real-ip", "forwarded")
_UNKNOWN = "unknown"


def forwarded_for(peer: str | None, proxied: Iterable[str] = ()) -> str:
    """The value of `X-Forwarded-For`: what proxies before the workbench said, then the connection's own address.

    Empty for a visitor of this machine of whom no proxy said anything. What a proxy said and cannot be read as an
    address is passed on as `unknown`, which no rule takes for a neighbour.
    """
    clients = [_address(part) for value in proxied for part in value.split(",") if part.strip()]
    if peer is not None:
        clients.append(_address(peer))
    return "" if all(map(is_loopback, clients)) else ", ".join(clients)


def proxied(headers: Iterable[tuple[str, str]]) -> list[str]:
    """What the request's headers say of clients behind a proxy, whichever way the proxy says it."""
    found = []
    for name, value in headers:
        if name.lower() == "forwarded":
            pairs = (pair.strip().partition("=") for pair in value.replace(",", ";").split(";"))
            found += [client.strip('"') for key, _, client in pairs if key.lower() == "for"]
        elif name.lower() in _PROXY_HEADERS:
            found.append(value)
    return found


def is_loopback(name: str) -> bool:
    """Whether an address or a host name can only mean this machine."""
    if name.lower() == "localhost" or name.lower().endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and mapped.is_loopback)


def known_host(host: str, allowed: Sequence[str]) -> bool:
    """Whether a request's `Host` may be ours: a foreign name that resolves to this machine is an attack.

    A plain address cannot be rebound by anyone's name server, so it is always ours.
    """
    name = _host_name(host)
    return is_loopback(name) or _address(name) != _UNKNOWN or name in allowed


def same_origin(origin: str, host: str) -> bool:
    """Whether the page that sent a request came from the server that it asks."""
    parts = urlsplit(origin)
    return parts.scheme in {"http", "https"} and parts.netloc.lower() == host.lower()


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _address(text: str) -> str:
    """An address without port, brackets and zone; `unknown` for anything else."""
    text = text.strip()
    bare = text.rpartition(":")[0] if text.count(":") == 1 or "]:" in text else text
    try:
        return str(ipaddress.ip_address(bare.strip("[]").split("%")[0]))
    except ValueError:
        return _UNKNOWN
