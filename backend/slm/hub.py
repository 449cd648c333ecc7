"""Download a model from a Hugging Face hub (`HF_ENDPOINT`, `HF_TOKEN` honoured): safetensors or GGUF, never pickle."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from slm.errors import RunFailure
from slm.spec import HubSource

_SMALL = ("*.json", "*.txt", "*.model", "*.jinja")
_CONNECT_SECONDS = 5.0


def fetch_from_hub(
    source: HubSource,
    working: Path,
    beat: Callable[[int, int], None],
    require_space: Callable[[Path, int], None],
) -> None:
    """Fetch weights, configuration and tokenizer into `working`. Raises `RunFailure`: offline, not found, refused."""
    os.environ.pop("HF_HUB_OFFLINE", None)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    _require_reachable(endpoint)
    import httpx2
    from huggingface_hub import HfApi, constants, errors, hf_hub_download

    constants.HF_HUB_OFFLINE = False
    api = HfApi(endpoint=endpoint)
    try:
        info = api.model_info(source.hub, revision=source.revision, files_metadata=True)
        files = {entry.rfilename: entry.size or 0 for entry in info.siblings or []}
        wanted = _chosen(files, source.hub)
        total = sum(files[name] for name in wanted)
        require_space(working, total + total // 10)
        done = 0
        for name in wanted:
            beat(done, total)
            hf_hub_download(source.hub, name, revision=info.sha, local_dir=working, endpoint=endpoint)
            done += files[name]
        beat(done, total)
    except errors.GatedRepoError:
        raise RunFailure("source_forbidden", f"{source.hub} needs its terms accepted and a token (HF_TOKEN).") from None
    except errors.RevisionNotFoundError:
        raise RunFailure("source_not_found", f"{source.hub} has no revision '{source.revision}'.") from None
    except errors.RepositoryNotFoundError:
        message = f"There is no model {source.hub} at {_host(endpoint)}, or it is private and HF_TOKEN is not set."
        raise RunFailure("source_not_found", message) from None
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, httpx2.HTTPError) as error:
        message = f"The download of {source.hub} from {_host(endpoint)} broke off: {type(error).__name__}."
        raise RunFailure("offline", message) from None


def _require_reachable(endpoint: str) -> None:
    """Fail at once where the hub cannot be reached: the library itself would retry for half a minute."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_CONNECT_SECONDS).close()
    except OSError:
        raise RunFailure("offline", f"The model hub {_host(endpoint)} cannot be reached from this machine.") from None


def _host(endpoint: str) -> str:
    return urlsplit(endpoint).hostname or endpoint


def _chosen(files: dict[str, Any], repository: str) -> list[str]:
    """Top-level safetensors (else the only GGUF) and the small files beside them; pickles are refused."""
    top = [name for name in files if "/" not in name]
    weights = [name for name in top if name.endswith(".safetensors")]
    if not weights:
        weights = [name for name in top if name.endswith(".gguf")]
        if len(weights) != 1:
            found = "several GGUF files" if weights else "no safetensors and no GGUF file"
            message = f"{repository} holds {found}; pickled weights (.bin, .pt) are never loaded."
            raise RunFailure("weights_refused", message)
    small = [name for name in top if Path(name).match("*.json") or any(Path(name).match(p) for p in _SMALL)]
    return sorted({*weights, *small})
