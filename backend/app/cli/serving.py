"""`slm serve`, `stop`, `supervise`, `db upgrade`: the service's own process, found again by its lock."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil

from app.cli.places import SERVICE_LOG, Service, ServiceLock, running_service, settings
from app.cli.shell import Stop, print_json, say

BACKEND = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
STREAM_SECONDS = 3
"""How long open event streams may hold up the end of the service."""


def serve(host: str, port: int, *, next_free: bool, background: bool, as_json: bool) -> None:
    """Run the service until it is stopped; with `background`, start it where none runs yet, and return."""
    found = settings()
    running = running_service(found.data_dir)
    if background and running is not None:
        _tell(running, found.data_dir, as_json=as_json, new=False)
        return
    _refuse_second(found.data_dir)
    listener = _listen(host, port, next_free=next_free)
    url = _url(host, listener.getsockname()[1])
    if background:
        _serve_behind(host, listener, url, found.data_dir)
        _tell(running_service(found.data_dir) or _service(url), found.data_dir, as_json=as_json, new=True)
        return
    lock = ServiceLock(found.data_dir)
    if not lock.acquire(_service(url)):
        _refuse_second(found.data_dir)
        raise Stop("Another service is just starting on this data folder.")
    signal.signal(signal.SIGTERM, _leave)
    try:
        say(f"SLM Training Platform on {url} (docs: {url}/docs). Ctrl-C or `slm stop` ends it; trainings go on.")
        _run_uvicorn(found, listener)
    except (KeyboardInterrupt, SystemExit) as ending:
        if isinstance(ending, SystemExit) and ending.code:
            raise Stop("The service could not start; the reason stands above.") from None
    finally:
        lock.release()
        listener.close()


def _run_uvicorn(found: Any, listener: socket.socket) -> None:
    import uvicorn

    # By name: the command line and the web application are on the same floor and must not know each other.
    application = importlib.import_module("app.main").create_app(found)

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # Open event streams look at this; without it they would hold the service up to the time limit.
            with suppress(AttributeError):
                application.state.stopping.set()
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        application,
        log_level=found.log_level if found.log_level != "info" else "warning",
        access_log=False,
        timeout_graceful_shutdown=STREAM_SECONDS,
    )
    Server(config).run(sockets=[listener])


def _serve_behind(host: str, listener: socket.socket, url: str, data_dir: Path) -> None:
    """Start the same command as a process of its own session, and wait until it answers."""
    port = listener.getsockname()[1]
    listener.close()
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / SERVICE_LOG
    with path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "serve", "--host", host, "--port", str(port)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(BACKEND), os.getenv("PYTHONPATH")]))},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    from slm_client import Client, SlmError

    deadline = time.monotonic() + START_SECONDS
    with Client(url) as client:
        while process.poll() is None and time.monotonic() < deadline:
            with suppress(SlmError):
                client.health()
                return
            time.sleep(0.2)
    if process.poll() is None:
        process.terminate()
    tail = "\n".join(path.read_text(errors="replace").splitlines()[-5:])
    raise Stop(f"The service did not start; the end of {path}:\n{tail}")


def _tell(service: Service, data_dir: Path, *, as_json: bool, new: bool) -> None:
    log = data_dir / SERVICE_LOG
    if as_json:
        print_json({"url": service.url, "pid": service.pid, "log": str(log), "started": new})
    else:
        already = "" if new else " runs already"
        say(f"SLM Training Platform on {service.url}{already} (log: {log}). `slm stop` ends it.")


def _listen(host: str, port: int, *, next_free: bool) -> socket.socket:
    """A bound socket. Raises `Stop` naming what is wrong with the address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for candidate in range(port, min(port + 100, 65536)) if next_free and port else (port,):
        listener = socket.socket(family, socket.SOCK_STREAM)
        # A port in its TIME_WAIT may be taken at once; one that is listened on may not.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, candidate))
            listener.listen(2048)
        except OSError as error:
            listener.close()
            if error.errno not in _TAKEN:
                raise Stop(f"{host}:{candidate} cannot be listened on: {error.strerror or error}.") from None
        else:
            listener.set_inheritable(True)
            return listener
    if next_free:
        raise Stop(f"No free port from {port} on.")
    raise Stop(f"Port {port} is taken by another program. `slm serve --port {port + 1}` or --next-free takes another.")


def free_port(host: str, first: int) -> int:
    """The first port from `first` on that can be listened on. Raises `Stop`."""
    listener = _listen(host, first, next_free=True)
    with listener:
        return int(listener.getsockname()[1])


_TAKEN = frozenset({48, 98, 10048})
"""EADDRINUSE on macOS, Linux and Windows."""


def _url(host: str, port: int) -> str:
    """Where this machine reaches it."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"http://{shown}:{port}"


def _service(url: str) -> Service:
    from slm.events import now

    return Service(pid=os.getpid(), url=url, started_at=now())


def _refuse_second(data_dir: Path) -> None:
    running = running_service(data_dir)
    if running is not None:
        raise Stop(
            f"A service already runs on this data folder ({data_dir}): {running.url}, process {running.pid}, "
            f"since {running.started_at}. `slm stop` ends it."
        )


def _leave(_signum: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


def stop(*, trainings: bool, timeout: float) -> None:
    """End the service and, if asked, the trainings; waits until they are gone."""
    found = settings()
    deadline = time.monotonic() + timeout
    running = running_service(found.data_dir)
    if running is not None:
        with suppress(ProcessLookupError):
            os.kill(running.pid, signal.SIGTERM)
        _wait(lambda: running_service(found.data_dir) is None, deadline, f"The service (process {running.pid})")
        say(f"Stopped the service at {running.url}.")
    else:
        say(f"No service that `slm serve` started runs on {found.data_dir}.")
    going = _trainings(found.data_dir)
    if not trainings:
        if going:
            say(f"{len(going)} run{'s' * (len(going) > 1)} still going; `slm stop --trainings` interrupts them.")
        return
    for process in going:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    if going:
        say(f"Interrupting {len(going)} run{'s' * (len(going) > 1)}; each keeps a checkpoint.")
        _wait(lambda: not any(map(_lives, going)), deadline, "A training")
        say("Interrupted; the next service resumes from the checkpoint.")


def _trainings(data_dir: Path) -> list[psutil.Process]:
    """The process of everything that runs in this data folder."""
    from app.executors.local import leftovers, living
    from slm.events import lock_holder

    found = (living(lock_holder(path) or {}) for path in leftovers(data_dir / "runs"))
    return [process for process in found if process is not None]


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _wait(gone: Any, deadline: float, what: str) -> None:
    while not gone():
        if time.monotonic() > deadline:
            raise Stop(f"{what} has not ended in time; it may be saving. Try again with a longer --timeout.")
        time.sleep(0.1)


def supervise() -> None:
    """Drive runs until stopped; a second supervisor of the same folder stands by."""
    from app.config import configure_logging
    from app.database import Database
    from app.migrations import upgrade
    from app.supervisor import Supervisor

    found = settings()
    configure_logging(found.log_level)
    upgrade(found.database_url)
    database = Database(found.database_url)
    database.check_file()
    supervisor = Supervisor(found, database)
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signum, _frame: ending.set())
    supervisor.start()
    say(f"Watching the runs in {found.data_dir}. Ctrl-C ends it; trainings go on.")
    standing_by = False
    try:
        while not ending.wait(1.0):
            database.check_file()
            if not supervisor.elected and not standing_by:
                standing_by = True
                say("Another supervisor watches this data folder; standing by to take over.")
            elif supervisor.elected and standing_by:
                standing_by = False
                say("Took over.")
    finally:
        supervisor.stop()
        database.close()


def upgrade_database() -> None:
    """Bring the schema up to this code."""
    from app.migrations import upgrade

    found = settings()
    upgrade(found.database_url)
    say(f"The database is up to date: {_without_password(found.database_url)}")


def _without_password(url: str) -> str:
    from sqlalchemy import make_url

    return make_url(url).render_as_string(hide_password=True)
