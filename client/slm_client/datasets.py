"""`client.datasets`: upload, list, look into, download, delete."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import httpx2

from slm_client.answers import Dataset, DatasetDetail, Row
from slm_client.downloads import OnProgress, download
from slm_client.plans import Preview
from slm_client.transport import CONNECT_SECONDS, Transport, segment

PREVIEW_SECONDS = 120.0
"""How long an answer to a preview may take: several may wait in turn for one machine."""
INSPECTION_SECONDS = 3600.0
"""How long an answer to an upload may take once all bytes are sent: the service looks into the whole file."""


class _Watched:
    """A file that says how far it was read; the HTTP library asks for its length and reads it in small blocks."""

    def __init__(self, file: IO[bytes], on_progress: OnProgress) -> None:
        self._file = file
        self._on_progress = on_progress
        self._size = os.fstat(file.fileno()).st_size

    def fileno(self) -> int:
        return self._file.fileno()

    def seek(self, offset: int) -> int:
        return self._file.seek(offset)

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self._on_progress(self._file.tell(), self._size)
        return block


class Datasets:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def upload(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        dataset_type: str = "training",
        description: str = "",
        mapping: Mapping[str, str] | None = None,
        encoding: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> DatasetDetail:
        """Send a .csv, .json or .jsonl file, read from the disk while it is sent.

        `mapping` is role → column (`{"prompt": "question", "completion": "answer"}`). `name` defaults to the file's.
        Raises `Invalid` naming the first broken line, `TooLarge`, `StorageFull`; `OSError` where it cannot be read.
        """
        path = Path(path)
        fields = {"name": name or path.stem, "dataset_type": dataset_type, "description": description}
        if mapping is not None:
            fields["mapping"] = json.dumps(mapping)
        if encoding is not None:
            fields["encoding"] = encoding
        timeout = httpx2.Timeout(INSPECTION_SECONDS, connect=CONNECT_SECONDS)
        with path.open("rb") as file:
            sent = file if on_progress is None else _Watched(file, on_progress)
            return DatasetDetail.read(
                self._transport.json(
                    "POST", "/datasets/upload", data=fields, files={"file": (path.name, sent)}, timeout=timeout
                )
            )

    def list(
        self, *, dataset_type: str | None = None, q: str | None = None, limit: int | None = None
    ) -> Sequence[Dataset]:
        """Newest first; all, or the newest `limit`. `q` are words that the name holds."""
        params = {"dataset_type": dataset_type, "q": q, "limit": limit}
        return [Dataset.read(row) for row in self._transport.json("GET", "/datasets", params=params)]

    def iterate(
        self, *, dataset_type: str | None = None, q: str | None = None, page_size: int = 200
    ) -> Iterator[Dataset]:
        """Newest first, page by page."""
        params = {"dataset_type": dataset_type, "q": q}
        return (Dataset.read(row) for row in self._transport.pages("/datasets", params, page_size=page_size))

    def get(self, dataset_id: str) -> DatasetDetail:
        return DatasetDetail.read(self._transport.json("GET", f"/datasets/{segment(dataset_id)}"))

    def change(self, dataset_id: str, **changes: object) -> DatasetDetail:
        """Change `name`, `description` or `mapping`; what is not given stays."""
        return DatasetDetail.read(self._transport.json("PATCH", f"/datasets/{segment(dataset_id)}", json=changes))

    def split(
        self, dataset_id: str, *, fraction: float = 0.1, seed: int = 42, stratify: bool = False
    ) -> tuple[DatasetDetail, DatasetDetail]:
        """Two new datasets: the rest, for training, and the fraction, for evaluation; nothing is asked in both.

        `stratify` keeps every label's share (texts with labels only). Raises `Invalid` where the rows cannot be split.
        """
        body = {"fraction": fraction, "seed": seed, "stratify": stratify}
        timeout = httpx2.Timeout(INSPECTION_SECONDS, connect=CONNECT_SECONDS)
        url = f"/datasets/{segment(dataset_id)}/split"
        rest, part = self._transport.json("POST", url, json=body, timeout=timeout)
        return DatasetDetail.read(rest), DatasetDetail.read(part)

    def rows(self, dataset_id: str, *, offset: int = 0, limit: int = 50) -> Sequence[Row]:
        params = {"offset": offset, "limit": limit}
        return [
            Row.read(row) for row in self._transport.json("GET", f"/datasets/{segment(dataset_id)}/rows", params=params)
        ]

    def preview(
        self,
        dataset_id: str,
        *,
        base_model_id: str,
        method: str | None = None,
        max_length: int | None = None,
        limit: int = 20,
        offset: int = 0,
    ) -> Preview:
        """What a training would learn from it, token by token. Raises `Conflict` where the model's weights are absent,
        `Unavailable` where too many ask."""
        body = {"base_model_id": base_model_id, "method": method, "max_length": max_length}
        return Preview.read(
            self._transport.json(
                "POST",
                f"/datasets/{segment(dataset_id)}/preview",
                json=body | {"limit": limit, "offset": offset},
                timeout=httpx2.Timeout(PREVIEW_SECONDS, connect=CONNECT_SECONDS),
            )
        )

    def download(self, dataset_id: str, path: str | os.PathLike[str], *, on_progress: OnProgress | None = None) -> Path:
        """Write the file's bytes to `path`; it appears there complete or not at all."""
        return download(self._transport, f"/datasets/{segment(dataset_id)}/download", Path(path), on_progress)

    def delete(self, dataset_id: str) -> None:
        """Raises `Conflict` while an experiment or an evaluation refers to it."""
        self._transport.json("DELETE", f"/datasets/{segment(dataset_id)}")
