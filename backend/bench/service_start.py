"""How soon the service answers and how little it holds, against a bare application of the same libraries.

    python bench/service_start.py [--rounds 5]

In turn: a FastAPI application with one SQLAlchemy table on SQLite, and the whole service (migrated database, seeded
models, supervisor), each under uvicorn in a fresh process, with compiled modules cached. Counted is from `exec` to the
first 200 of `/health`. Memory is the proportional set size after ten idle seconds, the warm process apart.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2
import psutil
from measure import BACKEND, median, proportional_memory, show, show_limit, verdict

BARE = """
from fastapi import FastAPI
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

class Base(DeclarativeBase): pass
class Row(Base):
    __tablename__ = "rows"
    id: Mapped[int] = mapped_column(primary_key=True)

engine = create_engine("sqlite:///bare.db")
Base.metadata.create_all(engine)
Session = sessionmaker(engine)
app = FastAPI()

@app.get("/health")
def health() -> dict[str, str]:
    with Session() as session:
        session.get(Row, 1)
    return {"status": "healthy"}
"""
IDLE_SECONDS = 10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="bench-start-") as name:
        folder = Path(name)
        (folder / "bare.py").write_text(BARE)
        ours, bare = [], []
        start(folder, ours=True, memory=False)  # the first start makes the database; those after it count
        for _ in range(rounds):
            bare.append(start(folder, ours=False, memory=False)[0])
            ours.append(start(folder, ours=True, memory=False)[0])
        _, service, warm = start(folder, ours=True, memory=True)
    print(f"the warm process, apart: {warm / 1e6:.0f} MB proportional")
    return verdict([
        show("start to first 200", ours=median(ours), peer=median(bare), unit="s", at_most=1.5),
        show_limit("idle memory of the service, proportional", value=service / 1e6, limit=105, unit="MB"),
    ])  # fmt: skip


def start(folder: Path, *, ours: bool, memory: bool) -> tuple[float, int, int]:
    """Seconds to the first 200; proportional bytes of the service and of its warm process where asked."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"WARM_PROCESS": str(memory).lower(), "DATABASE_URL": f"sqlite:///{folder}/ours.db"}
    environment |= {name: str(folder / name.lower()) for name in ("UPLOAD_DIR", "DATA_DIR")}
    target = ["app.main:app"] if ours else ["bare:app", "--app-dir", str(folder)]
    command = [sys.executable, "-m", "uvicorn", *target, "--port", str(port), "--log-level", "warning"]
    began = time.monotonic()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=BACKEND if ours else folder, env=environment, stdout=log, stderr=log)
    try:
        until_healthy(port, process, folder / "log")
        seconds = time.monotonic() - began
        if not memory:
            return seconds, 0, 0
        time.sleep(IDLE_SECONDS)
        children = psutil.Process(process.pid).children(recursive=True)
        return seconds, proportional_memory(process.pid), sum(proportional_memory(child.pid) for child in children)
    finally:
        process.terminate()
        process.wait()


def until_healthy(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    with httpx2.Client() as client:
        while True:
            try:
                if client.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                    return
            except httpx2.TransportError:
                if process.poll() is not None:
                    raise SystemExit(log.read_text()) from None
            time.sleep(0.005)


if __name__ == "__main__":
    sys.exit(main())
