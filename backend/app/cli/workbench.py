"""`slm workbench`: the pages in a browser, as a process of its own beside the service; found again by a file."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from app.cli import connect
from app.cli.places import settings
from app.cli.serving import free_port
from app.cli.shell import Stop, print_json, say
from app.executors.local import began, living

SCRIPT = Path(__file__).resolve().parents[3] / "work" / "app.py"
STATE, LOG = "workbench.json", "workbench.log"
FIRST_PORT = 8501
START_SECONDS = 60.0
STOP_SECONDS = 10.0


def workbench(port: int | None, *, background: bool, as_json: bool, url: str | None) -> None:
    """Run the workbench until it is stopped; with `background`, start it where none runs yet, and return."""
    if not SCRIPT.is_file():
        raise Stop(f"The workbench is not in this installation: there is no {SCRIPT.parent}.")
    if find_spec("streamlit") is None:
        raise Stop("The workbench's packages are missing; `pip install -r work/requirements.txt` brings them.")
    data_dir, service = settings().data_dir, connect.address(url)
    running = running_workbench(data_dir)
    if running is not None and background:
        _tell(running, data_dir, as_json=as_json, new=False)
        return
    chosen = port or free_port("127.0.0.1", FIRST_PORT)
    environment = {**os.environ, "API_BASE_URL": service, "WORKBENCH_PORT": str(chosen)}
    if not background:
        os.chdir(SCRIPT.parent)
        os.execve(sys.executable, [sys.executable, SCRIPT.name], environment)  # noqa: S606 - our own script, fixed words
    _tell(_start(data_dir, chosen, environment), data_dir, as_json=as_json, new=True)


def _start(data_dir: Path, port: int, environment: dict[str, str]) -> dict[str, Any]:
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, SCRIPT.name],
            cwd=SCRIPT.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    state = {"pid": process.pid, "birth": began(process.pid), "url": f"http://localhost:{port}"}
    (data_dir / STATE).write_text(json.dumps(state))
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if _answers(port):
            return state
        time.sleep(0.2)
    process.terminate()
    tail = "\n".join((data_dir / LOG).read_text(errors="replace").splitlines()[-5:])
    raise Stop(f"The workbench did not start; the end of {data_dir / LOG}:\n{tail}")


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/_stcore/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def running_workbench(data_dir: Path) -> dict[str, Any] | None:
    """The workbench that was started in the background for this data folder: pid, birth, url."""
    try:
        state: dict[str, Any] = json.loads((data_dir / STATE).read_bytes())
    except (OSError, ValueError):
        return None
    return state if living(state) is not None else None


def stop_workbench() -> None:
    """End the one that was started in the background, where there is one."""
    data_dir = settings().data_dir
    state = running_workbench(data_dir)
    process = living(state) if state is not None else None
    if state is None or process is None:
        return
    with suppress(psutil.NoSuchProcess):
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except psutil.TimeoutExpired:
            process.kill()
    (data_dir / STATE).unlink(missing_ok=True)
    say(f"Stopped the workbench at {state['url']}.")


def _tell(state: dict[str, Any], data_dir: Path, *, as_json: bool, new: bool) -> None:
    if as_json:
        print_json({"url": state["url"], "pid": state["pid"], "log": str(data_dir / LOG), "started": new})
    else:
        already = "" if new else " runs already"
        say(f"The workbench on {state['url']}{already} (log: {data_dir / LOG}). `slm stop` ends it.")
