"""Large uploads pass through the workbench without staying in its memory; a browser that leaves ends its own."""

from __future__ import annotations

import http.client
import importlib.util
import sys
from types import ModuleType

import pytest

from stage import WORK, Stage

pytestmark = pytest.mark.browser


def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_uploads", WORK / "bench" / "uploads.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bench = benchmark()


@pytest.mark.skipif(sys.platform != "linux", reason="proportional memory is told by Linux")
def test_two_uploads_at_once_stay_out_of_memory(stage: Stage) -> None:
    growth, _ = bench.measured(stage, 120_000_000, 2)
    assert growth <= bench.GROWTH_MB * 1e6


def test_a_browser_that_leaves_does_no_harm(stage: Stage) -> None:
    for _ in range(3):
        connection = http.client.HTTPConnection("127.0.0.1", stage.workbench.port, timeout=30)
        connection.putrequest("POST", "/api/datasets/upload")
        connection.putheader("Content-Type", "multipart/form-data; boundary=bench")
        connection.putheader("Content-Length", "1000000")
        connection.endheaders()
        connection.send(b"x" * 1000)
        connection.close()
    stage.client.datasets.delete(bench.send(stage.workbench.port, 100_000)["id"])
    assert "Traceback" not in stage.workbench.log.read_text()
