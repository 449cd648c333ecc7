"""Weights on disk: load a base, find the newest complete checkpoint, publish one atomically, keep few."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from slm import adapters
from slm.errors import RunFailure
from slm.events import now, opened_directory, write_atomic
from slm.spec import CHECKPOINT_MARKER, WEIGHTS_MARKER, ModelRef

WORKING = ".tmp-saving"


def load_tokenizer(reference: ModelRef) -> Any:
    """The tokenizer beside the weights, with some padding token. Raises `RunFailure`."""
    from transformers import AutoTokenizer

    _require_weights(reference)
    try:
        tokenizer = AutoTokenizer.from_pretrained(reference.path, local_files_only=True)
    except (OSError, ValueError) as error:
        raise RunFailure("model_unsupported", f"The tokenizer of '{reference.name}' cannot be loaded: {error}") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def load_base(reference: ModelRef, *, dtype: torch.dtype) -> Any:
    """The causal model with its earlier adapters merged in. Safetensors only, no code from the folder.

    Raises `RunFailure`: weights missing, refused, or of a model that cannot continue text.
    """
    from transformers import AutoModelForCausalLM

    _require_weights(reference)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            reference.path, dtype=dtype, local_files_only=True, use_safetensors=True, trust_remote_code=False
        )
    except (ValueError, KeyError) as error:
        message = f"'{reference.name}' is not a causal language model that can be loaded: {_first_line(error)}"
        raise RunFailure("model_unsupported", message) from None
    except OSError as error:
        message = f"The weights of '{reference.name}' cannot be read: {_first_line(error)}"
        raise RunFailure("weights_missing", message) from None
    return adapters.merge(model, tuple(Path(folder) for folder in reference.adapters))


def base_digest(reference: ModelRef) -> str | None:
    """SHA-256 of the base's safetensors, as found when they were fetched."""
    try:
        marker = json.loads((Path(reference.path) / WEIGHTS_MARKER).read_bytes())
    except (OSError, ValueError):
        return None
    return str(marker.get("sha256")) if isinstance(marker, dict) else None


def _require_weights(reference: ModelRef) -> None:
    for folder in (reference.path, *reference.adapters):
        if not any(Path(folder).glob("*.safetensors")):
            raise RunFailure("weights_missing", f"The weights of '{reference.name}' are not on this machine any more.")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0][:300]


def name_of(step: int) -> str:
    return f"step-{step:08d}"


def complete(folder: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path.parent for path in folder.glob(f"step-*/{CHECKPOINT_MARKER}"))


def describe(checkpoint: Path) -> dict[str, Any]:
    """The marker of a checkpoint. Raises `RunFailure` (checkpoint_corrupt) where it or a file it names is broken."""
    try:
        marker: dict[str, Any] = json.loads((checkpoint / CHECKPOINT_MARKER).read_bytes())
        broken = [name for name, size in marker["files"].items() if (checkpoint / name).stat().st_size != size]
    except (OSError, ValueError, KeyError, TypeError):
        raise RunFailure("checkpoint_corrupt", f"The checkpoint {checkpoint.name} is incomplete.") from None
    if broken:
        raise RunFailure("checkpoint_corrupt", f"The checkpoint {checkpoint.name} has a damaged {broken[0]}.")
    return marker


def publish(working: Path, folder: Path, *, step: int, marker: dict[str, Any]) -> Path:
    """Make what was saved in `working` a complete checkpoint: synced, marked, renamed. Returns its folder."""
    (working / "training_args.bin").unlink(missing_ok=True)
    files = {}
    for file in sorted(working.iterdir()):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
        files[file.name] = file.stat().st_size
    marker = {**marker, "step": step, "bytes": sum(files.values()), "files": files, "time": now()}
    write_atomic(working / CHECKPOINT_MARKER, json.dumps(marker, indent=1).encode())
    target = folder / name_of(step)
    if target.exists():
        shutil.rmtree(target)
    working.rename(target)
    with opened_directory(folder) as descriptor:
        os.fsync(descriptor)
    return target


def prune(folder: Path, *, keep: int, best: str | None) -> None:
    """Remove all but the newest `keep` and the best one."""
    for path in complete(folder)[:-keep]:
        if path.name != best:
            shutil.rmtree(path, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what a crash left half saved."""
    if folder.is_dir():
        for path in folder.iterdir():
            if not (path / CHECKPOINT_MARKER).is_file():
                shutil.rmtree(path, ignore_errors=True)
