"""Memory and cores as a container has them, over trees of files like those that Linux shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from slm import limits
from slm.limits import Groups

GIB = 1 << 30
UNBOUNDED = str((1 << 63) - 4096)
"""How cgroup v1 says that there is no bound."""


def groups(folder: Path, membership: str, files: Mapping[str, str]) -> Groups:
    for name, content in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    (folder / "self").write_text(membership)
    return Groups(folder / "cgroup", folder / "self")


def test_a_container_sees_its_own_group_at_the_top(tmp_path: Path) -> None:
    found = groups(tmp_path, "0::/\n", {"memory.max": str(2 * GIB), "cpu.max": "150000 100000"})
    assert found.memory_bound() == 2 * GIB
    assert found.cores() == 1.5
    assert limits.memory(found) == min(2 * GIB, psutil.virtual_memory().total)
    assert limits.cores(found) == 1


def test_the_tightest_of_all_groups_above_binds(tmp_path: Path) -> None:
    files = {
        "system.slice/memory.max": str(GIB),
        "system.slice/cpu.max": "400000 100000",
        "system.slice/slm.service/memory.max": str(3 * GIB),
        "system.slice/slm.service/cpu.max": "max 100000",
        "other.slice/memory.max": "1000",
    }
    found = groups(tmp_path, "0::/system.slice/slm.service\n", files)
    assert found.memory_bound() == GIB
    assert found.cores() == 4


@pytest.mark.parametrize("cpu", ["cpu", "cpu,cpuacct"])
def test_the_older_generation(tmp_path: Path, cpu: str) -> None:
    files = {
        "memory/memory.limit_in_bytes": UNBOUNDED,
        "memory/docker/abc/memory.limit_in_bytes": str(GIB),
        "memory/docker/abc/memory.usage_in_bytes": str(GIB // 2),
        "memory/docker/abc/memory.stat": f"inactive_file 1\ntotal_inactive_file {GIB // 4}",
        f"{cpu}/cpu.cfs_quota_us": "-1",
        f"{cpu}/docker/abc/cpu.cfs_quota_us": "200000",
        f"{cpu}/docker/abc/cpu.cfs_period_us": "100000",
    }
    found = groups(tmp_path, f"4:memory:/docker/abc\n1:{cpu}:/docker/abc\n0::/\n", files)
    assert found.memory_bound() == GIB
    assert found.memory_left() == 3 * GIB // 4
    assert found.cores() == 2


def test_a_path_of_the_outside_is_not_there_inside(tmp_path: Path) -> None:
    files = {"memory/memory.limit_in_bytes": str(GIB), "memory.max": "max"}
    assert groups(tmp_path, "4:memory:/docker/abc\n0::/docker/abc\n", files).memory_bound() == GIB


def test_both_generations_side_by_side(tmp_path: Path) -> None:
    files = {"unified/pod/memory.max": str(GIB), "memory/pod/memory.limit_in_bytes": str(2 * GIB)}
    assert groups(tmp_path, "3:memory:/pod\n0::/pod\n", files).memory_bound() == GIB


def test_cached_files_make_way(tmp_path: Path) -> None:
    files = {
        "run/memory.max": str(GIB),
        "run/memory.current": str(GIB - 100),
        "run/memory.stat": "anon 5\ninactive_file 300",
    }
    found = groups(tmp_path, "0::/run\n", files)
    assert found.memory_left() == 400
    assert limits.free_memory(found) == 400
    (tmp_path / "cgroup/run/memory.current").write_text(str(2 * GIB))
    assert found.memory_left() == 0


@pytest.mark.parametrize("membership", ["", "0::/\n", "nonsense", "0::/../../elsewhere\n", "2:cpuset:/\n"])
def test_without_a_bound_the_machine_counts(tmp_path: Path, membership: str) -> None:
    found = groups(tmp_path, membership, {"memory.max": "max", "cpu.max": "max 100000", "cgroup.procs": ""})
    assert (found.memory_bound(), found.memory_left(), found.cores()) == (None, None, None)
    assert limits.memory(found) == psutil.virtual_memory().total
    assert limits.cores(found) >= 1


def test_no_group_is_left_by_a_path_that_climbs(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000")
    assert groups(tmp_path, "0::/..\n", {"memory.max": "max"}).memory_bound() is None


def test_where_there_are_no_groups_the_machine_counts(tmp_path: Path) -> None:
    nowhere = Groups(tmp_path / "none", tmp_path / "nothing")
    assert limits.memory(nowhere) == psutil.virtual_memory().total
    assert 0 < limits.free_memory(nowhere) <= psutil.virtual_memory().total


def test_a_bound_beyond_the_machine_gives_no_more_than_it_has(tmp_path: Path) -> None:
    found = groups(tmp_path, "0::/\n", {"memory.max": UNBOUNDED, "cpu.max": "100000000 100000"})
    assert limits.memory(found) == psutil.virtual_memory().total
    assert limits.cores(found) <= (psutil.cpu_count() or 1)


def test_a_sliver_of_a_core_is_one(tmp_path: Path) -> None:
    assert limits.cores(groups(tmp_path, "0::/\n", {"cpu.max": "20000 100000"})) == 1
