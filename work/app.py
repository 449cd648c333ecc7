"""The workbench's server: `python app.py`, or `streamlit run app.py`.

The pages are in `workbench.py`, which Streamlit runs for each visit; this module puts the door and the way for large
files in front of them. Theme and Streamlit's own settings are in `.streamlit/config.toml`.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import streamlit as st
from starlette.middleware import Middleware

import service
from components.states import calm
from door import Door, PassThrough
from settings import HERE, settings

FIRST_PORT, LAST_PORT = 8501, 8599


@asynccontextmanager
async def announced(_: st.App) -> AsyncIterator[None]:
    """Say where the workbench is, once its socket is bound."""
    address = str(st.get_option("server.address"))
    shown = "localhost" if address in {"127.0.0.1", "0.0.0.0", "::", "::1"} else address  # noqa: S104 - shown, not bound
    print(f"The workbench answers at http://{shown}:{st.get_option('server.port')}", flush=True)
    yield


def free_port(address: str) -> int:
    """The first port from 8501 on that nothing listens on."""
    for port in range(FIRST_PORT, LAST_PORT + 1):
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError:
                continue
            return port
    raise SystemExit(f"No port from {FIRST_PORT} to {LAST_PORT} is free on {address}; set WORKBENCH_PORT.")


app = st.App(
    HERE / "workbench.py",
    lifespan=announced,
    middleware=[
        Middleware(Door, allowed_hosts=settings().allowed_hosts),
        Middleware(PassThrough, connect=service.relay),
    ],
    on_script_error=calm,
)

if __name__ == "__main__":
    address = settings().workbench_address
    port = settings().workbench_port or free_port(address)
    app.run(config={"server.address": address, "server.port": port})
