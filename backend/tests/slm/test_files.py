"""Locks between processes, digests with progress, and the look at the free disk."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slm import files
from slm.errors import RunFailure
from slm.files import BLOCK, file_digest, open_shared, read_at, readable, require_space, sync_folder, try_lock

BACKEND = Path(__file__).resolve().parents[2]


def test_a_lock_shuts_other_processes_out_until_it_is_closed(tmp_path: Path) -> None:
    ours = open_shared(tmp_path / "lock")
    assert try_lock(ours)
    attempt = "import sys; from pathlib import Path; from slm.files import *; "
    attempt += "print(try_lock(open_shared(Path(sys.argv[1]))))"

    def theirs() -> str:
        command = [sys.executable, "-c", attempt, str(tmp_path / "lock")]
        return subprocess.run(command, cwd=BACKEND, capture_output=True, text=True, check=True).stdout.strip()

    assert theirs() == "False"
    os.close(ours)
    assert theirs() == "True"


def test_a_locked_file_can_be_read_and_is_not_inherited(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"who holds it")
    ours = open_shared(tmp_path / "lock")
    assert try_lock(ours)
    assert not os.get_inheritable(ours)
    assert read_at(ours, 100, 4) == b"holds it"
    assert (tmp_path / "lock").read_bytes() == b"who holds it"
    os.close(ours)


def test_appending_goes_to_the_end_wherever_was_read(tmp_path: Path) -> None:
    descriptor = open_shared(tmp_path / "log", append=True)
    os.write(descriptor, b"one\n")
    assert read_at(descriptor, 3, 0) == b"one"
    os.write(descriptor, b"two\n")
    os.close(descriptor)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("size", [0, 1, 8 * BLOCK, 8 * BLOCK + 1])
def test_a_digest_is_that_of_the_whole_file_and_tells_its_progress(tmp_path: Path, size: int) -> None:
    content = b"ab" * (size // 2) + b"c" * (size % 2)
    (tmp_path / "file").write_bytes(content)
    told: list[tuple[int, int]] = []
    digest = file_digest(tmp_path / "file", lambda done, total: told.append((done, total)))
    assert digest == hashlib.sha256(content).hexdigest()
    assert [total for _, total in told] == [size] * len(told)
    assert not size or told[-1][0] == size


def test_room_is_asked_for_with_both_figures(tmp_path: Path) -> None:
    require_space(tmp_path, 1)
    with pytest.raises(RunFailure) as caught:
        require_space(tmp_path, 10**18)
    assert caught.value.reason.code == "disk_full"
    assert "1000000000.0 GB" in caught.value.message
    free = readable(files.shutil.disk_usage(tmp_path).free).split()[1]
    assert f"{free} are free" in caught.value.message


def test_sizes_are_told_as_people_say_them() -> None:
    assert [readable(size) for size in (92_871_040, 1_600_000_000, 0)] == ["93 MB", "1.6 GB", "0 MB"]


def test_a_folder_can_be_synced(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0
    sync_folder(tmp_path)
    assert sys.platform != "linux" or len(list(Path("/proc/self/fd").iterdir())) == before
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "missing")
