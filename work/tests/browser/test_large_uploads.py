"""Large uploads pass through the workbench without staying in its memory; a browser that leaves ends its own."""

from __future__ import annotations

import http.client
import importlib.util
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest

from stage import WORK, Workbench

pytestmark = pytest.mark.browser


def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_uploads", WORK / "bench" / "uploads.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench = benchmark()


@pytest.fixture
def workbench(tmp_path: Path) -> Iterator[Workbench]:
    service = ThreadingHTTPServer(("127.0.0.1", 0), bench.Sink)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    started = Workbench(tmp_path, f"http://127.0.0.1:{service.server_address[1]}").start()
    yield started
    started.close()
    service.shutdown()
    service.server_close()


@pytest.mark.skipif(sys.platform != "linux", reason="proportional memory is told by Linux")
def test_two_uploads_at_once_stay_out_of_memory(workbench: Workbench) -> None:
    growth, _ = bench.measured(workbench, 150_000_000, 2)
    assert growth <= bench.GROWTH_MB * 1e6


def test_a_browser_that_leaves_does_no_harm(workbench: Workbench) -> None:
    for _ in range(3):
        connection = http.client.HTTPConnection("127.0.0.1", workbench.port, timeout=30)
        connection.putrequest("POST", "/api/datasets/upload")
        connection.putheader("Content-Type", "multipart/form-data; boundary=bench")
        connection.putheader("Content-Length", "1000000")
        connection.endheaders()
        connection.send(b"x" * 1000)
        connection.close()
    bench.send(workbench.port, 100_000)
    assert "Traceback" not in workbench.log.read_text()
