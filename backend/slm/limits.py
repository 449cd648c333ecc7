"""What this process may use of the machine: memory and cores, by the machine and by the control groups it stands in.

A container sees the whole machine's memory and is killed at its own bound. Bounds are read along the group's path, as
each group above binds too; of both generations (cgroup v2: `memory.max`, `cpu.max`; v1: `memory.limit_in_bytes`,
`cpu.cfs_quota_us`), which may stand side by side. No other system has them, and there the machine alone counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Groups:
    """The control groups of a process; another `root` and `membership` are those of a test."""

    root: Path = Path("/sys/fs/cgroup")
    membership: Path = Path("/proc/self/cgroup")

    def memory_bound(self) -> int | None:
        """Bytes that the processes of the group may hold together; None without a bound."""
        bounds = [bound for bound, _ in self._memory()]
        return min(bounds, default=None)

    def memory_left(self) -> int | None:
        """Bytes until the nearest bound; files that are cached make way, so they count as left."""
        left = []
        for bound, folder in self._memory():
            taken = _number(folder / "memory.current")
            taken = _number(folder / "memory.usage_in_bytes") if taken is None else taken
            if taken is not None:
                left.append(max(0, bound - max(0, taken - _cached(folder / "memory.stat"))))
        return min(left, default=None)

    def cores(self) -> float | None:
        """Processors' worth of time that the group is granted; None without a bound."""
        granted = []
        for folder in self._folders("cpu"):
            quota, period = _quota(folder)
            if quota is not None and period:
                granted.append(quota / period)
        return min(granted, default=None)

    def _memory(self) -> Iterator[tuple[int, Path]]:
        """Each bound that is set, with the folder of its group."""
        for folder in self._folders("memory"):
            for name in ("memory.max", "memory.limit_in_bytes"):
                if (bound := _number(folder / name)) is not None:
                    yield bound, folder

    def _folders(self, controller: str) -> Iterator[Path]:
        """The folders of the process's group and of those above it, as far as they can be seen.

        Inside of a container the path may be that of the outside and not exist; its own group is then the topmost.
        """
        for names, path in self._memberships():
            if names == [""]:
                mounts = [self.root, self.root / "unified"]
            elif controller in names:
                mounts = [*dict.fromkeys((self.root / ",".join(names), self.root / controller))]
            else:
                continue
            for mount in mounts:
                group = mount / path.strip("/")
                yield from (at for at in (group, *group.parents) if at.is_relative_to(mount))

    def _memberships(self) -> Iterator[tuple[list[str], str]]:
        """Controllers and path of each hierarchy; v2's single one names no controller."""
        try:
            lines = self.membership.read_text(errors="replace").splitlines()
        except OSError:
            return
        for line in lines:
            _, _, rest = line.partition(":")
            names, _, path = rest.partition(":")
            if ".." not in path.split("/"):
                yield names.split(","), path


def memory(groups: Groups | None = None) -> int:
    """Bytes that this process could hold at most: the machine's memory, or less in a container."""
    bound = (groups or Groups()).memory_bound()
    physical = int(psutil.virtual_memory().total)
    return physical if bound is None else min(physical, bound)


def free_memory(groups: Groups | None = None) -> int:
    """Bytes that a new process could take now."""
    left = (groups or Groups()).memory_left()
    free = int(psutil.virtual_memory().available)
    return free if left is None else min(free, left)


def cores(groups: Groups | None = None) -> int:
    """Whole physical cores that this process may use, by its affinity and by the time that its group is granted."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    physical = psutil.cpu_count(logical=False) or allowed
    granted = (groups or Groups()).cores()
    return max(1, min(allowed, physical, allowed if granted is None else int(granted)))


def _number(path: Path) -> int | None:
    """None where there is no such file or no number in it (`max`, and v1's -1: no bound)."""
    try:
        found = int(path.read_text())
    except (OSError, ValueError):
        return None
    return None if found < 0 else found


def _quota(folder: Path) -> tuple[int | None, int | None]:
    """Microseconds of processor time granted in each period."""
    try:
        granted, period = (folder / "cpu.max").read_text().split()
        return (None, None) if granted == "max" else (int(granted), int(period))
    except (OSError, ValueError):
        return _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")


def _cached(path: Path) -> int:
    """Bytes of files that nobody has used lately."""
    try:
        found = dict(line.split(maxsplit=1) for line in path.read_text().splitlines())
        return int(found.get("total_inactive_file", found.get("inactive_file", "0")))
    except (OSError, ValueError):
        return 0
