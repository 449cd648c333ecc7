"""The way to the service: one pool of connections, one `Client` for each kind of visitor.

Everything the workbench knows comes through `client()`; nothing here or in a page speaks HTTP itself.
"""

from __future__ import annotations

from functools import cache, lru_cache

import httpx2  # noqa: TID251 - for the one pool that all clients share
import streamlit as st
from slm_client import Client, Relay

from settings import settings
from visitor import forwarded_for, proxied

_ANSWER_SECONDS = 20.0


@cache
def _pool() -> httpx2.BaseTransport:
    return httpx2.HTTPTransport(limits=httpx2.Limits(max_connections=50, max_keepalive_connections=20))


def client() -> Client:
    """The service as the visitor of this session may see it."""
    return client_for(visitor())


@lru_cache(maxsize=256)
def client_for(forwarded: str) -> Client:
    """A client that says for whom it asks, where that is not someone of this machine."""
    chosen = settings()
    headers = {"X-Forwarded-For": forwarded} if forwarded else None
    return Client(chosen.api_base_url, api_key=chosen.key, timeout=_ANSWER_SECONDS, transport=_pool(), headers=headers)


def relay() -> Relay:
    """The way for what is too large to be held."""
    chosen = settings()
    return Relay(chosen.api_base_url, api_key=chosen.key)


def address() -> str:
    """Where the service is asked."""
    return settings().api_base_url.rstrip("/")


def visitor() -> str:
    """For whom this session asks, as `client_for` takes it; what is kept of answers must be kept under it."""
    headers = st.context.headers
    named = [(name, value) for name in headers for value in headers.get_all(name)]
    return forwarded_for(st.context.ip_address, proxied(named))
