"""What large uploads cost the workbench: growth of its memory while two of them pass through it at once.

    python bench/uploads.py [--mebibytes 1024] [--at-once 2]

The real workbench in front of the real service, each a process of its own; the service reads every row and keeps the
file, so as much free disk is needed. Memory is proportional (Pss), sampled ten times a second. What the service itself
costs and how fast it is: `backend/bench/upload.py`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))

from stage import Stage

GROWTH_MB = 50
BOUNDARY = "bench"
_HEADER = b"prompt,completion\n"
_ROWS = 1300
_BLOCK = b'"What about order 1234, and why?",It left on Monday.\n' * _ROWS
_PATIENCE_SECONDS = 1200


def file_bytes(size: int) -> int:
    """Of the file that `send` uploads for a wanted size: whole blocks of rows."""
    return len(_HEADER) + max(1, size // len(_BLOCK)) * len(_BLOCK)


def body(size: int) -> Iterator[bytes]:
    """A multipart upload of a CSV of `file_bytes(size)`."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
    yield head.encode() + _HEADER
    for _ in range(max(1, size // len(_BLOCK))):
        yield _BLOCK
    fields = {"name": "Large", "dataset_type": "training"}
    for name, value in fields.items():
        yield f'\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


def send(port: int, size: int) -> dict[str, Any]:
    """One upload, as a browser sends it: the service's answer. Raises `SystemExit` where it did not arrive whole."""
    around = sum(map(len, body(0))) - file_bytes(0)
    headers = {
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Content-Length": str(around + file_bytes(size)),
    }
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_SECONDS)) as connection:
        connection.request("POST", "/api/datasets/upload", body=body(size), headers=headers)
        answer = connection.getresponse()
        told: dict[str, Any] = json.loads(answer.read())
    if answer.status != 201:
        raise SystemExit(f"The upload was refused: {told.get('detail', answer.status)}")
    if told["row_count"] != (file_bytes(size) - len(_HEADER)) // len(_BLOCK) * _ROWS:
        raise SystemExit(f"The upload was not passed on whole: {told['row_count']} rows arrived.")
    return told


def memory(pid: int) -> int:
    """Bytes of a process, shared pages divided among their users."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("This kernel does not tell proportional memory.")
    return int(found[1]) * 1024


def measured(stage: Stage, size: int, at_once: int) -> tuple[float, float]:
    """Growth of the workbench's memory in bytes, and seconds, while `at_once` uploads pass; they are deleted again."""
    assert stage.workbench.process is not None
    pid, port = stage.workbench.process.pid, stage.workbench.port
    # What is imported and allocated once is no cost of an upload's size.
    arrived = [send(port, 0)]
    before = peak = memory(pid)
    senders = [threading.Thread(target=lambda: arrived.append(send(port, size))) for _ in range(at_once)]
    began = time.monotonic()
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders):
        peak = max(peak, memory(pid))
        time.sleep(0.1)
    seconds = time.monotonic() - began
    for dataset in arrived:
        stage.client.datasets.delete(dataset["id"])
    if len(arrived) != 1 + at_once:
        raise SystemExit(f"{1 + at_once - len(arrived)} of {at_once} uploads did not arrive.")
    return peak - before, seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mebibytes", type=int, default=1024)
    parser.add_argument("--at-once", type=int, default=2)
    chosen = parser.parse_args()
    size = chosen.mebibytes * 2**20
    with tempfile.TemporaryDirectory(prefix="bench-uploads-") as folder:
        needed, free = 2 * chosen.at_once * size, shutil.disk_usage(folder).free
        if free < needed:
            raise SystemExit(f"{needed / 1e9:.0f} GB of free disk are needed in {folder}, {free / 1e9:.0f} are free.")
        stage = Stage(Path(folder), warm_process="false")
        try:
            growth, seconds = measured(stage.start(), size, chosen.at_once)
        finally:
            stage.close()
    held = growth <= GROWTH_MB * 1e6
    sizes = f"{chosen.at_once} × {chosen.mebibytes} MiB"
    print(f"{sizes} in {seconds:.0f} s: {growth / 1e6:.1f} MB more memory (wanted ≤ {GROWTH_MB} MB) "
          f"{'holds' if held else 'MISSED'}")  # fmt: skip
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
