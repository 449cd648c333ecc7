"""Files from the service: streamed beside their final name, checked against their digest, then renamed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from slm_client.errors import ServiceUnreachable
from slm_client.transport import Transport, segment

OnProgress = Callable[[int, int], None]
"""Called with (bytes done, bytes in all)."""


def download(transport: Transport, url: str, path: Path, on_progress: OnProgress | None) -> Path:
    """Write an answer to `path`, which appears complete or not at all.

    Raises `ServiceUnreachable` where what came is not what the service's digest (its ETag) promises.
    """
    partial = path.with_name(f".{path.name}.part")
    digest = hashlib.sha256()
    try:
        with transport.stream("GET", url) as response, partial.open("wb") as file:
            total = int(response.headers.get("content-length", 0))
            for block in response.iter_bytes(1 << 16):
                file.write(block)
                digest.update(block)
                if on_progress is not None:
                    on_progress(file.tell(), total)
            promised = response.headers.get("etag", "").strip('"')
        if len(promised) == 64 and promised != digest.hexdigest():
            raise ServiceUnreachable(f"{path.name} came damaged: its digest is not the one promised; try again.")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


class Artifacts:
    """`client.artifacts`: exports, predictions, samples."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def download(self, artifact_id: str, path: str | os.PathLike[str], on_progress: OnProgress | None = None) -> Path:
        """Write the artifact's bytes to `path`; it appears there complete, with the right digest, or not at all."""
        return download(self._transport, f"/artifacts/{segment(artifact_id)}/download", Path(path), on_progress)
