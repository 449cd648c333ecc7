"""Weights on disk: load a base, save a checkpoint whole or not at all, find the newest that is whole, keep few.

A checkpoint is a folder `step-00000010` with the learned weights, the optimizer, the schedule, the random states and
`progress.json`. It is saved under a `.tmp-` name, synced, digested, marked with `COMPLETE.json` and renamed: a crash at
any moment leaves either a whole checkpoint or a folder that is swept. Only safetensors are loaded as weights, and
optimizer and random states with `weights_only=True`: no file in a run directory can run code.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from slm import adapters
from slm.errors import RunFailure
from slm.events import now, write_atomic
from slm.files import file_digest, sync_folder
from slm.spec import CHECKPOINT_MARKER, ModelRef

TEMPORARY = ".tmp-"
PROGRESS = "progress.json"
HEAD = "head.json"
"""Beside an adapter whose method puts a head on the base: the keywords that make the same head again."""


def load_tokenizer(reference: ModelRef) -> Any:
    """The tokenizer beside the base's weights. Raises `RunFailure`."""
    _require_weights(reference)
    try:
        return AutoTokenizer.from_pretrained(reference.path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise RunFailure(
            "model_unsupported", f"The tokenizer of '{reference.name}' does not load: {_line(error)}"
        ) from None


def load_config(reference: ModelRef) -> Any:
    """The base's architecture, without its weights. Raises `RunFailure`."""
    _require_weights(reference)
    try:
        return AutoConfig.from_pretrained(reference.path, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise RunFailure(
            "model_unsupported", f"The model '{reference.name}' is not one we know: {_line(error)}"
        ) from None


def context_length(config: Any, tokenizer: Any) -> int:
    """Tokens that a model can read: by its positions, and by its tokenizer where that knows better (RoBERTa counts
    positions from 2)."""
    positions = getattr(config, "max_position_embeddings", None)
    limits = [limit for limit in (positions, tokenizer.model_max_length) if isinstance(limit, int) and limit < 1 << 30]
    return min(limits, default=1 << 30)


@dataclass(frozen=True)
class Loaded:
    """A model ready to be trained, and what it does not bring."""

    model: Any
    new: tuple[str, ...]
    """Modules that came with no weights: drawn at random, they have to be learned whole."""


def load_base(
    reference: ModelRef,
    directory: Path,
    *,
    model_class: Any = AutoModelForCausalLM,
    dtype: torch.dtype = torch.float32,
    **keywords: Any,
) -> Any:
    """The base with its earlier adapters merged into it; relative paths are below `directory`. Raises `RunFailure`.

    `model_class` is a `transformers` auto class: that of the method by which the model was trained
    (`METHODS[method].MODEL_CLASS`). A classifier's labels come with it. Further `keywords` go to `from_pretrained`.
    """
    return load(reference, directory, model_class=model_class, dtype=dtype, **keywords).model


def load(
    reference: ModelRef,
    directory: Path,
    *,
    model_class: Any = AutoModelForCausalLM,
    dtype: torch.dtype = torch.float32,
    **keywords: Any,
) -> Loaded:
    """As `load_base`, and which modules the weights lack. Seed torch's global generator first: those are drawn."""
    _require_weights(reference, directory)
    try:
        model, found = model_class.from_pretrained(
            directory / reference.path,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **{**saved_head(reference, directory), **keywords},
        )
    except (OSError, SafetensorError) as error:
        raise RunFailure("weights_refused", f"The weights of '{reference.name}' do not load: {_line(error)}") from None
    except (ValueError, KeyError, RuntimeError) as error:
        raise RunFailure("model_unsupported", f"'{reference.name}' does not load: {_line(error)}") from None
    drawn = [*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])]
    new = {name.rpartition(".")[0] for name in drawn}
    folders = [directory / adapter for adapter in reference.adapters]
    model = adapters.merge(model, folders)
    brought = {name for folder in folders for name in adapters.whole_modules(folder)}
    return Loaded(model, tuple(sorted(name for name in new if not name.endswith(tuple(brought)))))


def saved_head(reference: ModelRef, directory: Path = Path()) -> dict[str, Any]:
    """The keywords by which the base has to be loaded for the model's adapters to fit; those of the last one that says.

    Empty for a model that is whole: its own configuration says it.
    """
    for adapter in reversed(reference.adapters):
        if (directory / adapter / HEAD).is_file():
            return _head(json.loads((directory / adapter / HEAD).read_bytes()))
    return {}


def known_head(reference: ModelRef, config: Any, directory: Path = Path()) -> dict[str, Any]:
    """The labels of a model that was trained to give labels, wherever they stand; `config` is that of its base."""
    saved = saved_head(reference, directory)
    if saved or reference.adapters:
        return saved
    return _head({"id2label": config.id2label, "label2id": config.label2id})


def _head(document: dict[str, Any]) -> dict[str, Any]:
    """JSON turns the numbers of labels into text."""
    return document | {"id2label": {int(number): label for number, label in document["id2label"].items()}}


def _require_weights(reference: ModelRef, directory: Path = Path()) -> None:
    for folder in (directory / reference.path, *(directory / adapter for adapter in reference.adapters)):
        if not any(folder.glob("*.safetensors")):
            raise RunFailure("weights_missing", f"The weights of '{reference.name}' are not on this machine.")


def _line(error: Exception) -> str:
    """The first line of a library's message, ended as a sentence."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
    return text if text.endswith(".") else f"{text}."


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint as its marker describes it."""

    path: Path
    step: int
    val_loss: float | None
    best: bool
    bytes: int

    @property
    def name(self) -> str:
        return self.path.name


def complete(folder: Path) -> list[Checkpoint]:
    """Every checkpoint below `folder` that was saved to its end, newest first."""
    found = []
    for marker in folder.glob(f"step-*/{CHECKPOINT_MARKER}"):
        try:
            said = json.loads(marker.read_bytes())
            found.append(
                Checkpoint(marker.parent, int(said["step"]), said["val_loss"], bool(said["best"]), int(said["bytes"]))
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(found, key=lambda checkpoint: -checkpoint.step)


def fault(checkpoint: Checkpoint) -> str | None:
    """What is wrong with a checkpoint, by the digests that it was saved with; None where it is whole."""
    try:
        digests: dict[str, str] = json.loads((checkpoint.path / CHECKPOINT_MARKER).read_bytes())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{CHECKPOINT_MARKER} cannot be read"
    for name, digest in digests.items():
        try:
            if file_digest(checkpoint.path / name) != digest:
                return f"{name} has changed since it was saved"
        except OSError:
            return f"{name} cannot be read"
    return None


def newest_whole(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that proves whole; a broken one is told by `warn` and put aside."""
    for checkpoint in complete(folder):
        broken = fault(checkpoint)
        if broken is None:
            return checkpoint
        warn(f"Checkpoint {checkpoint.name} is broken ({broken}); the next older one is used.")
        shutil.rmtree(checkpoint.path, ignore_errors=True)
    return None


def save(
    folder: Path,
    step: int,
    write: Callable[[Path], None],
    *,
    val_loss: float | None,
    best: bool,
    beat: Callable[[int, int], None],
) -> Checkpoint:
    """Save a checkpoint atomically: `write` fills an empty folder. Replaces one of the same step.

    Raises `RunFailure` (disk_full) where the disk cannot take it, leaving nothing behind; `beat(done, total)` is
    called before each file is synced and digested.
    """
    name = f"step-{step:08d}"
    working, final = folder / f"{TEMPORARY}{name}", folder / name
    shutil.rmtree(working, ignore_errors=True)
    working.mkdir(parents=True)
    try:
        write(working)
        (working / "training_args.bin").unlink(missing_ok=True)
        files = sorted(path for path in working.rglob("*") if path.is_file())
        digests = {}
        for done, path in enumerate(files):
            beat(done, len(files))
            _sync(path)
            digests[path.relative_to(working).as_posix()] = file_digest(path)
        size = sum(path.stat().st_size for path in files)
        marker = {"step": step, "val_loss": val_loss, "best": best, "bytes": size, "saved_at": now(), "files": digests}
        write_atomic(working / CHECKPOINT_MARKER, json.dumps(marker, indent=1).encode())
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(working, ignore_errors=True)
        if is_disk_full(error, folder):
            raise RunFailure("disk_full", f"The disk is full: checkpoint {name} could not be saved.") from error
        raise
    shutil.rmtree(final, ignore_errors=True)
    working.rename(final)
    sync_folder(folder)
    return Checkpoint(final, step, val_loss, best, size)


def prune(folder: Path, *, keep: int, best_step: int | None) -> None:
    """Remove all but the newest `keep` and the best."""
    for checkpoint in complete(folder)[keep:]:
        if checkpoint.step != best_step:
            shutil.rmtree(checkpoint.path, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Remove what a crash left half saved."""
    for working in folder.glob(f"{TEMPORARY}*"):
        shutil.rmtree(working, ignore_errors=True)
    for path in folder.glob("step-*"):
        if not (path / CHECKPOINT_MARKER).is_file():
            shutil.rmtree(path, ignore_errors=True)


def load_weights(model: Any, folder: Path) -> None:
    """Put a checkpoint's learned weights into a model of the same making."""
    if hasattr(model, "peft_config"):
        model.load_adapter(str(folder), model.active_adapters[0], is_trainable=True)
        return
    for path in sorted(folder.glob("*.safetensors")):
        model.load_state_dict(load_file(path), strict=False)
    model.tie_weights()


def publish(working: Path, final: Path) -> None:
    """Make a finished folder appear under its name by one rename, readable and synced."""
    for path in working.rglob("*"):
        if path.is_file():
            path.chmod(0o644)
            _sync(path)
    shutil.rmtree(final, ignore_errors=True)
    working.rename(final)
    sync_folder(final.parent)


def require_space(folder: Path, needed: int, purpose: str) -> None:
    """Raises `RunFailure` (disk_full) with both figures where less than `needed` bytes are free below `folder`."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RunFailure(
            "disk_full", f"{needed / 1e9:.2f} GB of free disk are needed for {purpose}; {free / 1e9:.2f} GB are free."
        )


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Whether a write failed for want of space; torch and safetensors hide the errno in their own errors."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    text = str(error)
    return "No space left" in text or ("write" in text and shutil.disk_usage(folder).free < 1 << 20)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
