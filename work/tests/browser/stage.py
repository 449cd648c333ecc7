"""The whole thing on stage: the real service with a tiny model, and the workbench in front of it, each a process."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

WORK = Path(__file__).resolve().parents[2]
BACKEND_TESTS = WORK.parent / "backend" / "tests"


def _load_real_service() -> ModuleType:
    """The backend's own test harness; under another name, because the workbench has a module `service` too."""
    sys.path.insert(0, str(BACKEND_TESTS / "slm"))
    spec = importlib.util.spec_from_file_location("real_service", BACKEND_TESTS / "e2e" / "service.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["real_service"] = module
    spec.loader.exec_module(module)
    return module


real = _load_real_service()
until = real.until
free_port = real.free_port


class Workbench:
    """The workbench as a process of its own, asking the service at `api`."""

    def __init__(self, folder: Path, api: str, *, address: str = "127.0.0.1", **settings: str) -> None:
        self.port = free_port()
        self.url = f"http://{address}:{self.port}"
        self.log = folder / f"workbench-{self.port}.log"
        self._environment = {
            **os.environ,
            "API_BASE_URL": api,
            "WORKBENCH_ADDRESS": address,
            "WORKBENCH_PORT": str(self.port),
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Workbench:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=WORK, env=self._environment, stdout=output, stderr=output
            )
        until(self._answers, seconds=60, what="an answer of the workbench")
        return self

    def _answers(self) -> bool:
        assert self.process is None or self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


class Stage:
    """The service, the workbench, and the client that a test uses to look behind the scene."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        # The warm process costs memory and saves each training and preview a dozen seconds of imports.
        chosen = {
            "training_simulation_delay": 0.2,
            "training_simulation_duration": 2,
            "training_simulation_failure_rate": 0,
            "warm_process": "true",
            **settings,
        }
        self.service = real.Service(folder, **chosen)
        self.workbench = Workbench(folder, self.service.url)

    @property
    def client(self) -> Any:
        return self.service.client

    @property
    def url(self) -> str:
        return self.workbench.url

    def start(self) -> Stage:
        """Both at once, since the workbench needs no service to come up."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            workbench = pool.submit(self.workbench.start)
            self.service.start()
            workbench.result()
        return self

    def close(self) -> None:
        self.workbench.close()
        self.service.close()

    def rows_file(self, name: str, rows: list[dict[str, Any]]) -> Path:
        """A JSONL file to upload."""
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path


@contextmanager
def staged(folder: Path, **settings: Any) -> Iterator[Stage]:
    stage = Stage(folder, **settings)
    try:
        yield stage.start()
    finally:
        stage.close()
