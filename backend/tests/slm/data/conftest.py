"""What the tests of data files share: a place to write one, and a reader made to cut it at awkward places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from slm.data import blocks, formats, json_array

Put = Callable[[str, bytes | str], Path]
Cut = Callable[[int], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def put(tmp_path_factory: pytest.TempPathFactory) -> Put:
    """Write a file, overwriting the one of the same name. Session-wide, so that hypothesis may use it."""
    folder = tmp_path_factory.mktemp("data")

    def write(name: str, content: bytes | str) -> Path:
        path = folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture(scope="session")
def cut() -> Cut:
    """Read the file in blocks of so many bytes."""

    @contextmanager
    def small(size: int) -> Iterator[None]:
        before = blocks.BLOCK_BYTES
        blocks.BLOCK_BYTES = formats.BLOCK_BYTES = size
        try:
            yield
        finally:
            blocks.BLOCK_BYTES = formats.BLOCK_BYTES = before

    return small


@pytest.fixture
def short_records(monkeypatch: pytest.MonkeyPatch) -> int:
    """Records may be 1,000 bytes long instead of 16 MiB, blocks 64."""
    for module in (blocks, formats, json_array):
        monkeypatch.setattr(module, "MAX_RECORD_BYTES", 1000)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 64)
    return 1000
