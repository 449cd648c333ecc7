"""Download a model from a Hugging Face hub (`HF_ENDPOINT`, `HF_TOKEN` honoured): safetensors or GGUF, never pickle."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slm.errors import RunFailure
from slm.files import Beat, file_digest, require_space
from slm.spec import HubSource

ENDPOINT = "https://huggingface.co"
_SMALL = (".json", ".txt", ".model", ".jinja")
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_CONNECT_SECONDS = 4.0
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_GGUF_GROWTH = 9
"""A GGUF of four-bit weights takes eight times its size once it is 32-bit floats."""


def fetch_from_hub(source: HubSource, working: Path, beat: Beat) -> None:
    """Fetch weights, configuration and tokenizer into `working`, at one commit, digests checked.

    Raises `RunFailure`: offline, source_not_found, source_forbidden, weights_refused, digest_mismatch, disk_full.
    """
    endpoint = (os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
    require_reachable(endpoint)
    _open_network()
    from huggingface_hub import HfApi, errors

    try:
        info = HfApi(endpoint=endpoint).model_info(source.hub, revision=source.revision, files_metadata=True)
        _download(source.hub, info, endpoint, working, beat)
    except errors.GatedRepoError:
        raise RunFailure("source_forbidden", f"{source.hub} needs its terms accepted and a token (HF_TOKEN).") from None
    except errors.RevisionNotFoundError:
        raise RunFailure("source_not_found", f"{source.hub} has no revision '{source.revision}'.") from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        message = f"There is no model {source.hub} at {_host(endpoint)}, or it is private and HF_TOKEN is not set."
        raise RunFailure("source_not_found", message) from None
    except (errors.HTTPError, errors.LocalEntryNotFoundError, errors.FileMetadataError) as error:
        message = f"The download of {source.hub} from {_host(endpoint)} broke off: {type(error).__name__}."
        raise RunFailure("offline", message) from None


def require_reachable(endpoint: str) -> None:
    """Raises `RunFailure` (offline) at once: the library itself would retry for half a minute.

    Asks one address of each kind only; behind a proxy nothing can be said beforehand.
    """
    if any(os.environ.get(name) for name in _PROXIES):
        return
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        addresses = socket.getaddrinfo(parts.hostname or "", port, type=socket.SOCK_STREAM)
    except OSError:
        addresses = []
    for family in (socket.AF_INET, socket.AF_INET6):
        for address in [entry[4] for entry in addresses if entry[0] == family][:1]:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.settimeout(_CONNECT_SECONDS)
                if probe.connect_ex(address) == 0:
                    return
    raise RunFailure("offline", f"The model hub {_host(endpoint)} cannot be reached from this machine.")


def _open_network() -> None:
    """A run keeps the network shut (HF_HUB_OFFLINE); a pull is what opens it, in its own process."""
    os.environ.pop("HF_HUB_OFFLINE", None)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    from huggingface_hub import constants

    constants.HF_HUB_OFFLINE = False
    # Plain HTTP: progress can be told and a cancel obeyed at every chunk, and mirrors speak nothing else.
    constants.HF_HUB_DISABLE_XET = True


def _host(endpoint: str) -> str:
    return urlsplit(endpoint).hostname or endpoint


def weight_files(names: Iterable[str]) -> list[str]:
    """Of a folder's file names those that a model is loaded from: `model.safetensors`, else its shards."""
    found = set(names)
    return ["model.safetensors"] if "model.safetensors" in found else sorted(filter(_SHARD.fullmatch, found))


def chosen(sizes: dict[str, int], repository: str) -> list[str]:
    """The files that are loaded: `model.safetensors` or its shards, else the only GGUF; and the small ones beside them.

    Raises `RunFailure` (weights_refused) where there is nothing but pickles, or nothing that could be told apart.
    """
    top = [name for name in sizes if "/" not in name]
    weights = weight_files(top)
    if not weights:
        weights = [name for name in top if name.endswith(".gguf")]
        if len(weights) != 1:
            found = "several GGUF files" if weights else "no model.safetensors and no GGUF file"
            message = f"{repository} holds {found}; pickled weights (.bin, .pt) are never loaded."
            raise RunFailure("weights_refused", message)
    return sorted([*weights, *(name for name in top if name.endswith(_SMALL))])


def _download(repository: str, info: Any, endpoint: str, working: Path, beat: Beat) -> None:
    from huggingface_hub import hf_hub_download

    entries = {entry.rfilename: entry for entry in info.siblings or []}
    names = chosen({name: entry.size or 0 for name, entry in entries.items()}, repository)
    total = sum(entries[name].size or 0 for name in names)
    require_space(working, total * (_GGUF_GROWTH if any(name.endswith(".gguf") for name in names) else 1) + total // 10)
    progress = _progress(beat, total)
    for name in names:
        hf_hub_download(repository, name, revision=info.sha, local_dir=working, endpoint=endpoint, tqdm_class=progress)
        _check(working / name, entries[name])
    # The library's own notes about what it fetched.
    shutil.rmtree(working / ".cache", ignore_errors=True)


def _check(file: Path, entry: Any) -> None:
    expected = entry.lfs.sha256 if entry.lfs is not None else None
    if expected is not None and file_digest(file) != expected:
        message = f"{file.name} arrived with a SHA-256 other than the hub names ({expected[:16]}…)."
        raise RunFailure("digest_mismatch", message)


def _progress(beat: Beat, total: int) -> type:
    """What the library takes for a progress bar: it counts the bytes of all files and asks whether to go on."""
    done = 0

    class Bytes:
        def __init__(self, *_: Any, initial: int = 0, **__: Any) -> None:
            self.update(initial)

        def update(self, count: float = 0) -> None:
            nonlocal done
            done += int(count)
            beat(min(done, total), total)

        def __enter__(self) -> Bytes:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def close(self) -> None:
            return None

    return Bytes
