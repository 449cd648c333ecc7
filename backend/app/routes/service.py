"""`/`, `/health`, `/ready`, `/system`: what this service is and what this machine can do."""

from __future__ import annotations

import shutil
import time
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from sqlalchemy import text

from app.errors import Unavailable
from app.routes.deps import AppSettings, Db
from app.routes.problems import declared
from app.schemas.common import Wire
from app.services import hardware
from app.services import storage as storage_service

router = APIRouter(tags=["Service"])
_USED_SECONDS = 30
_SHOWN = ("torch", "transformers", "peft", "fastapi", "sqlalchemy", "safetensors")


class RootAnswer(Wire):
    message: str
    version: str
    docs: str = Field(examples=["/docs"])
    health: str = Field(examples=["/health"])


class HealthAnswer(Wire):
    status: str = Field(examples=["healthy"])
    version: str


class ReadyAnswer(Wire):
    status: str = Field(examples=["ready"])
    supervisor: str
    """`elected`, `elsewhere` or `off`."""


class ExecutorAnswer(Wire):
    name: str
    available: bool
    reason: str | None
    """Why it is not available."""


class SystemAnswer(Wire):
    hardware: dict[str, Any]
    precision: str
    """What trainings on this machine compute in, and why."""
    versions: dict[str, str | None]
    executors: list[ExecutorAnswer]
    storage: dict[str, dict[str, int]]
    """For each folder: bytes that its files take (half a minute old at most), and free and in all on its disk."""


def version() -> str:
    return metadata.version("slm-platform") if _installed("slm-platform") else "0.1.0"


@lru_cache(maxsize=8)
def _used_bytes(folder: Path, _period: int) -> int:
    """Looked at once in each period: a folder of many runs takes a while to walk."""
    return storage_service.used_bytes(folder)


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


@router.get("/", response_model=RootAnswer, summary="What this is")
def root() -> Any:
    return {"message": "SLM Training Platform API", "version": version(), "docs": "/docs", "health": "/health"}


@router.get("/health", response_model=HealthAnswer, summary="Whether the service runs")
def health() -> Any:
    return {"status": "healthy", "version": version()}


@router.get("/ready", response_model=ReadyAnswer, responses=declared(503), summary="Whether it can do its work")
def ready(request: Request, db: Db, settings: AppSettings) -> Any:
    """503 with a sentence where the database does not answer or the data folder's disk is full."""
    db.check_file()
    with db.read() as session:
        session.execute(text("SELECT 1"))
    if shutil.disk_usage(settings.data_dir).free < 50_000_000:
        raise Unavailable("The disk of the data folder is full; free some space.", code="storage_full")
    supervisor = request.app.state.supervisor
    state = "off" if not settings.supervise else "elected" if supervisor.elected else "elsewhere"
    return {"status": "ready", "supervisor": state}


@router.get("/system", response_model=SystemAnswer, summary="What this machine can do")
def system(request: Request, settings: AppSettings) -> Any:
    machine = hardware.machine()
    if machine.gpus:
        precision = "bfloat16 on the GPU where it supports that, else float16"
    elif machine.cpu_bf16:
        precision = "float32 (the processor could multiply in bfloat16)"
    else:
        precision = "float32: this processor is several times slower in bfloat16"
    folders = {"upload_dir": settings.upload_dir, "data_dir": settings.data_dir, "models_dir": settings.models_dir}
    storage = {}
    for name, folder in folders.items():
        existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
        usage = shutil.disk_usage(existing)
        used = _used_bytes(folder.resolve(), int(time.monotonic() / _USED_SECONDS))
        storage[name] = {"used_bytes": used, "free_bytes": usage.free, "total_bytes": usage.total}
    executors = []
    for executor in request.app.state.supervisor.executors.values():
        reason = executor.unavailable()
        executors.append({"name": executor.name, "available": reason is None, "reason": reason})
    return {
        "hardware": {
            "system": machine.system,
            "processor": machine.processor,
            "physical_cores": machine.physical_cores,
            "logical_cores": machine.logical_cores,
            "usable_cores": machine.usable_cores,
            "memory_bytes": machine.memory_bytes,
            "gpus": list(machine.gpus),
        },
        "precision": precision,
        "versions": {name: metadata.version(name) if _installed(name) else None for name in _SHOWN},
        "executors": executors,
        "storage": storage,
    }
