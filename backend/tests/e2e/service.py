"""A real service in a process of its own, with a tiny model ready to train, for tests that kill and restart it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import psutil
from slm_client import Client, ExperimentDetail, SlmError
from tiny_models import base_folder, task_rows

from slm.events import iter_events, lock_holder

BACKEND = Path(__file__).resolve().parents[2]
T = TypeVar("T")


def until(look: Callable[[], T | None], *, seconds: float = 60, what: str = "it") -> T:
    """The first answer of `look` that is not None or False."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {seconds:g} s")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Service:
    """One installation in `folder`; its process may be killed and started again."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.models_dir = folder / "models"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self.client = Client(self.url)

    def environment(self) -> dict[str, str]:
        chosen = {
            "database_url": f"sqlite:///{self.folder}/database.db",
            "upload_dir": self.folder / "uploads",
            "data_dir": self.data_dir,
            "models_dir": self.models_dir,
            "supervisor_interval": 0.05,
            "lease_seconds": 2,
            "threads": 1,
            "warm_process": "false",
            **self.settings,
        }
        return {**os.environ, **{name.upper(): str(value) for name, value in chosen.items()}}

    def start(self, *arguments: str) -> Service:
        """Start it and wait until it answers."""
        command = [sys.executable, "-m", "uvicorn", "app.main:app", "--port", str(self.port), *arguments]
        self.process = self.spawn(command, self.folder / "service.log")
        until(self._answers, what="an answer of the service")
        return self

    def spawn(self, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                command, cwd=BACKEND, env=self.environment(), stdout=output, stderr=output, start_new_session=True
            )

    def _answers(self) -> bool:
        assert self.process is None or self.process.poll() is None, (self.folder / "service.log").read_text()[-3000:]
        try:
            self.client.health()
        except SlmError:
            return False
        return True

    def kill(self) -> None:
        """kill -9 of the service alone; what it started goes on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def terminate(self) -> None:
        """An orderly end, as a service manager asks for it."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def close(self) -> None:
        self.client.close()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for process in [*self.trainers(), *self.speakers()]:
            process.kill()

    # -- what it works on

    def upload(self, rows: list[dict[str, str]], name: str = "tiny") -> str:
        path = self.folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return self.client.datasets.upload(path, name=name).id

    def base(self, architecture: str = "llama", **sizes: int) -> str:
        """A tiny model whose weights are here; returns its id."""
        name = base_folder(self.models_dir, architecture, **sizes).name
        for model in self.client.models.list(model_type="base"):
            if model.name == name:
                return model.id
        return self.client.models.register(name, folder=name).id

    def experiment(self, name: str, base: str, dataset: str, **config: Any) -> ExperimentDetail:
        settings = {
            "max_length": 64, "batch_size": 4, "learning_rate": 1e-3, "generate_max_rows": 2, "max_new_tokens": 4,
            "early_stopping_patience": None, "seed": 7,
        }  # fmt: skip
        return self.client.experiments.create(
            name, base_model_id=base, training_dataset_id=dataset, training_config=settings | config, executor="local"
        )

    def directory(self, experiment_id: str) -> Path:
        return self.data_dir / "runs" / experiment_id

    def trainer(self, experiment_id: str) -> psutil.Process | None:
        """The process that trains now, as its lock says."""
        holder = lock_holder(self.directory(experiment_id)) or {}
        try:
            return psutil.Process(holder["pid"]) if "pid" in holder else None
        except psutil.NoSuchProcess:
            return None

    def trainers(self) -> list[psutil.Process]:
        """Every process that trains in this installation."""
        return self._processes("slm.run")

    def speakers(self) -> list[psutil.Process]:
        """Every process that serves a model of this installation for chat."""
        return self._processes("slm.serve")

    def _processes(self, module: str) -> list[psutil.Process]:
        mark = str(self.data_dir)
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if module in words and any(mark in word for word in words):
                found.append(process)
        return found

    def log(self, experiment_id: str) -> list[dict[str, Any]]:
        path = self.directory(experiment_id) / "events.jsonl"
        return list(iter_events(path)) if path.exists() else []

    def reached(self, experiment_id: str, *, step: int, type_: str = "step", attempt: int = 1) -> bool:
        """Whether the log holds an event of that type at or beyond the step."""
        return any(
            event["type"] == type_ and event["attempt"] == attempt and int(event.get("step", 0)) >= step
            for event in self.log(experiment_id)
        )

    def ended(self, experiment_id: str, *, seconds: float = 120) -> ExperimentDetail:
        """The experiment once it has ended."""

        def look() -> ExperimentDetail | None:
            found = self.client.experiments.get(experiment_id)
            return found if found.ended else None

        return until(look, seconds=seconds, what=f"the end of {experiment_id}")

    def curve(self, experiment_id: str) -> list[tuple[int, float]]:
        found = self.client.experiments.metrics(experiment_id, keys=["train_loss"])["train_loss"]
        return list(zip(found.step, found.value, strict=True))

    def weights(self, experiment_id: str) -> bytes:
        """The bytes of the resulting adapter or model."""
        model = self.client.models.get(self.client.experiments.get(experiment_id).resulting_model_id or "")
        folder = Path((model.metadata or {})["weights_path"])
        return b"".join(path.read_bytes() for path in sorted(folder.glob("*.safetensors")))


def rows(count: int = 120) -> list[dict[str, str]]:
    return task_rows(count)


@contextmanager
def running(folder: Path, **settings: object) -> Iterator[Service]:
    service = Service(folder, **settings)
    try:
        yield service.start()
    finally:
        service.close()


def require_gapless(service: Service, experiment_id: str) -> None:
    """No event is missing or doubled: neither among the experiment's numbers nor among the log's."""
    events = service.client.experiments.events(experiment_id, limit=1000)
    while len(events) % 1000 == 0 and events:
        more = service.client.experiments.events(experiment_id, since=events[-1].id, limit=1000)
        if not more:
            break
        events = [*events, *more]
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    told = [event.seq for event in events if event.seq]
    assert told == sorted(set(told))
    written = [int(event["seq"]) for event in service.log(experiment_id) if event.get("seq")]
    assert told == written == list(range(1, len(written) + 1))
