"""A model hub on this machine: what `huggingface_hub` asks of one, spoken by the standard library's HTTP server.

Holds one repository, the files of a folder, at one commit. Its faults are switched on by the test.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LARGE = (".safetensors", ".gguf", ".bin")


@dataclass
class Hub:
    """The repository `org/tiny` and what was asked of it."""

    folder: Path
    url: str = ""
    token: str | None = None
    """Only whoever brings it may read."""
    gated: bool = False
    corrupt: str | None = None
    """This file arrives with one byte changed."""
    cut: str | None = None
    """The connection breaks in the middle of this file, every time."""
    claimed: dict[str, int] = field(default_factory=dict)
    """Sizes that the listing gives instead of the true ones."""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path, Authorization."""

    def listing(self) -> bytes:
        siblings = []
        for file in sorted(self.folder.rglob("*")):
            if file.is_file():
                name, content = file.relative_to(self.folder).as_posix(), file.read_bytes()
                size = self.claimed.get(name, len(content))
                entry: dict[str, object] = {"rfilename": name, "size": size, "blobId": "0" * 40}
                if file.suffix in LARGE:
                    digest = hashlib.sha256(content).hexdigest()
                    entry["lfs"] = {"sha256": digest, "size": size, "pointerSize": 134}
                siblings.append(entry)
        return json.dumps(
            {"id": "org/tiny", "sha": COMMIT, "siblings": siblings, "tags": [], "private": False}
        ).encode()

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        path = unquote(urlsplit(request.path).path)
        authorization = request.headers.get("authorization")
        self.asked.append((request.command, path, authorization))
        parts = path.strip("/").split("/")
        if "org/tiny" not in path or (self.token is not None and authorization != f"Bearer {self.token}"):
            return self._refuse(request, 404 if authorization else 401, "RepoNotFound")
        if self.gated:
            return self._refuse(request, 403, "GatedRepo")
        if parts[0] == "api":
            revision = parts[parts.index("revision") + 1] if "revision" in parts else "main"
            if revision not in ("main", COMMIT):
                return self._refuse(request, 404, "RevisionNotFound")
            return self._send(request, self.listing(), {"Content-Type": "application/json"}, body=body)
        file = self.folder / "/".join(parts[4:])
        if not file.is_file():
            return self._refuse(request, 404, "EntryNotFound")
        content = file.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        if self.corrupt == file.name:
            content = bytes([content[0] ^ 1]) + content[1:]
        return self._send(request, content, headers, body=body, cut=self.cut == file.name)

    def _refuse(self, request: BaseHTTPRequestHandler, status: int, code: str) -> None:
        request.send_response(status)
        request.send_header("X-Error-Code", code)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def _send(
        self, request: BaseHTTPRequestHandler, content: bytes, headers: dict[str, str], *, body: bool, cut: bool = False
    ) -> None:
        request.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            request.send_header(name, value)
        request.end_headers()
        if body:
            request.wfile.write(content[: len(content) // 2] if cut else content)
        if body and cut:
            request.close_connection = True


@contextmanager
def serving(folder: Path) -> Iterator[Hub]:
    """The folder's files as `org/tiny`, on a free port of this machine."""
    hub = Hub(folder)

    class Requests(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.answer(self, body=True)

        def do_HEAD(self) -> None:
            hub.answer(self, body=False)

        def log_message(self, *_: object) -> None:
            return None

    server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
