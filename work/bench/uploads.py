"""What large uploads cost the workbench: growth of its memory while two of them pass through it at once.

    python bench/uploads.py [--megabytes 1024] [--at-once 2]

The real workbench in a process of its own, in front of a stand-in for the service that reads and throws away (the
service's own cost is measured by `backend/bench/upload.py`). Memory is proportional (Pss), sampled ten times a second.
"""

from __future__ import annotations

import argparse
import http.client
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "browser"))

from stage import Workbench

GROWTH_MB = 50
BOUNDARY = "bench"
_BLOCK = b"What about order 1234, and why?,It left on Monday.\n" * 1300


class Sink(BaseHTTPRequestHandler):
    """Reads a body of known or chunked length and answers 201."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        left = int(self.headers.get("Content-Length", 0))
        read = 0
        while left > 0:
            block = self.rfile.read(min(left, 1 << 16))
            if not block:
                return
            read += len(block)
            left -= len(block)
        body = b'{"id": "%d"}' % read
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """The bench prints; the stand-in is quiet."""


def body(size: int) -> Iterator[bytes]:
    """A multipart upload of about `size` bytes."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
    yield head.encode()
    for _ in range(size // len(_BLOCK)):
        yield _BLOCK
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


def send(port: int, size: int) -> None:
    """One upload, as a browser sends it. Raises `SystemExit` where not every byte arrived."""
    length = sum(map(len, body(0))) + size // len(_BLOCK) * len(_BLOCK)
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", "Content-Length": str(length)}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
        connection.request("POST", "/api/datasets/upload", body=body(size), headers=headers)
        answer = connection.getresponse()
        if answer.status != 201 or answer.read() != b'{"id": "%d"}' % length:
            raise SystemExit(f"The upload was not passed on whole: {answer.status}.")


def memory(pid: int) -> int:
    """Bytes of a process, shared pages divided among their users."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit("This kernel does not tell proportional memory.")
    return int(found[1]) * 1024


def measured(workbench: Workbench, size: int, at_once: int) -> tuple[float, float]:
    """Growth of the workbench's memory in bytes, and seconds, while `at_once` uploads pass."""
    assert workbench.process is not None
    pid = workbench.process.pid
    # What is imported and allocated once is no cost of an upload's size.
    send(workbench.port, len(_BLOCK))
    before = peak = memory(pid)
    senders = [threading.Thread(target=send, args=(workbench.port, size)) for _ in range(at_once)]
    began = time.monotonic()
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders):
        peak = max(peak, memory(pid))
        time.sleep(0.1)
    return peak - before, time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024)
    parser.add_argument("--at-once", type=int, default=2)
    chosen = parser.parse_args()
    service = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=service.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(prefix="bench-uploads-") as folder:
        workbench = Workbench(Path(folder), f"http://127.0.0.1:{service.server_address[1]}").start()
        try:
            growth, seconds = measured(workbench, chosen.megabytes * 1_000_000, chosen.at_once)
        finally:
            workbench.close()
            service.shutdown()
    held = growth <= GROWTH_MB * 1e6
    sizes = f"{chosen.at_once} × {chosen.megabytes} MB"
    print(f"{sizes} in {seconds:.0f} s: {growth / 1e6:.1f} MB more memory (wanted ≤ {GROWTH_MB} MB) "
          f"{'holds' if held else 'MISSED'}")  # fmt: skip
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
