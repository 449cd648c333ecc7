"""What a large upload costs the service: memory growth, speed, and how long others wait meanwhile.

    python bench/upload.py [--megabytes 1024]

A real service in a process of its own takes a CSV that is streamed to it; its proportional memory (with the process
that looks into the file) is sampled all along, and `/datasets` is asked meanwhile. The peer of the speed is a bare copy
of the same bytes to the same disk with SHA-256 and a strict `csv.reader` pass, in this process.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx2
import psutil
from measure import proportional_memory, show_limit, verdict

sys.path[:0] = [str(Path(__file__).resolve().parent.parent / "tests" / name) for name in ("slm", "e2e")]

from service import Service, running  # noqa: E402 - its folder is set above

GROWTH_MB = 50


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1024)
    size = parser.parse_args().megabytes * 1_000_000
    with tempfile.TemporaryDirectory(prefix="bench-upload-") as name:
        path = Path(name) / "large.csv"
        write_csv(path, size)
        bare = bare_pass(path, Path(name) / "copy.csv")
        (Path(name) / "copy.csv").unlink()
        with running(Path(name), supervise="false", max_upload_bytes=2 * size) as service:
            results, seconds, answers = upload(service, path)
    print(f"{size / 1e6:.0f} MB: {size / 1e6 / seconds:.0f} MB/s with every statistic; bare copy, hash and parse "
          f"{size / 1e6 / bare:.0f} MB/s; ratio {bare / seconds:.2f}")  # fmt: skip
    print(f"/datasets meanwhile: {len(answers)} answers, p95 {1000 * sorted(answers)[int(0.95 * len(answers))]:.0f} ms")
    return verdict(results)


def write_csv(path: Path, size: int) -> None:
    line = '{n},"What about order {n}, and why?",It left on Monday; expect it on day {n}.\n'
    block = "".join(line.format(n=n) for n in range(10_000))
    with path.open("w") as file:
        file.write("id,prompt,completion\n")
        while file.tell() < size:
            file.write(block)


def bare_pass(path: Path, copy: Path) -> float:
    """Seconds to copy, hash and strictly parse the file with the standard library."""
    began = time.monotonic()
    digest = hashlib.sha256()
    with path.open("rb") as source, copy.open("wb") as target:
        while block := source.read(1 << 20):
            digest.update(block)
            target.write(block)
    with copy.open(newline="") as file:
        for _ in csv.reader(file, strict=True):
            pass
    return time.monotonic() - began


def upload(service: Service, path: Path) -> tuple[list[bool], float, list[float]]:
    assert service.process is not None
    process = psutil.Process(service.process.pid)
    small = path.with_name("small.csv")
    small.write_text("id,prompt,completion\n1,a,b\n")
    service.client.datasets.upload(small)  # what is loaded at the first upload is no growth
    before = total(process)
    peak, answers, ending = before, [], threading.Event()

    def watch() -> None:
        nonlocal peak
        with httpx2.Client(base_url=service.url, timeout=60) as http:
            while not ending.wait(0.1):
                peak = max(peak, total(process))
                began = time.monotonic()
                http.get("/datasets").raise_for_status()
                answers.append(time.monotonic() - began)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    sent = service.client.datasets.upload(path)
    seconds = time.monotonic() - began
    ending.set()
    watcher.join()
    assert sent.size_bytes == path.stat().st_size
    growth = (peak - before) / 1e6
    return [show_limit("memory growth", value=growth, limit=GROWTH_MB, unit="MB")], seconds, answers


def total(process: psutil.Process) -> int:
    """Of the process and those it started, which may end between two looks."""
    found = 0
    for one in (process, *process.children(recursive=True)):
        try:
            found += proportional_memory(one.pid)
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            continue
    return found


if __name__ == "__main__":
    sys.exit(main())
