# Sets up what is missing; sourced by demo.sh, test.sh and run.sh. Plain bash 3.2, no GNU-only flags.
#
#   setup_environment [dev]   a virtual environment at the root with the requirements (dev: the tests' ones too)
#   setup_workbench [dev]     what the workbench needs, into the same environment (alone it needs no PyTorch)
#   setup_weights [dev]       the bundled base model (dev: both), into the user's cache folder
#
# A repeat with unchanged requirement files takes no time. TORCH_INDEX_URL is honoured for PyTorch alone; SLM_VENV
# puts the environment elsewhere (never into backend/, which `--reload` watches).
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
    {
        echo "Python 3.11 or newer with its venv module is needed, and was not found."
        echo "  Debian, Ubuntu:  sudo apt install python3-venv      macOS:  brew install python@3.12"
    } >&2
    return 1
}

_slm_announce() {
    local torch="PyTorch, about 100 MB"
    echo "Setting up in $SLM_VENV. This downloads:"
    if [ -n "${TORCH_INDEX_URL:-}" ]; then
        echo "  PyTorch from $TORCH_INDEX_URL (about 200 MB for the CPU build, gigabytes for a CUDA build)"
    elif [ "$(uname -s)" = "Linux" ] && [ "$(uname -m)" = "x86_64" ]; then
        torch="PyTorch, about 2.5 GB, 6 GB on disk: the ordinary index has it with CUDA on Linux"
        if command -v nvidia-smi >/dev/null 2>&1; then
            echo "  $torch"
        else
            echo "  $torch."
            echo "    No NVIDIA GPU was found. For the CPU build (about 200 MB) stop now with Ctrl-C and call this again as"
            echo "    TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu $0"
        fi
    else
        echo "  $torch"
    fi
    echo "  other packages, about 150 MB"
}

# The digest of what decides an installation: requirement files, and where it is (scripts hold absolute paths).
_slm_digest() {
    { cat "$@" && echo "$SLM_ROOT"; } |
        "$SLM_PYTHON" -c 'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())'
}

_slm_pip() {
    local quiet="--quiet"
    # Someone who looks on sees that the long download lives; a log need not.
    [ ! -t 1 ] || quiet="--no-input"
    (cd "$SLM_ROOT/backend" && "$SLM_PYTHON" -m pip install "$quiet" --disable-pip-version-check "$@")
}

setup_environment() {
    local digest dev_digest found torch
    local plain=("$SLM_ROOT/backend/requirements.txt" "$SLM_ROOT/backend/pyproject.toml" "$SLM_ROOT/client/pyproject.toml")
    local stamp="$SLM_VENV/.slm-setup" dev_stamp="$SLM_VENV/.slm-setup-dev"
    if "$SLM_PYTHON" -c '' >/dev/null 2>&1; then
        digest="$(_slm_digest "${plain[@]}")" || return 1
        dev_digest="$(_slm_digest "${plain[@]}" "$SLM_ROOT/backend/requirements-dev.txt")" || return 1
        if [ "${1:-}" = "dev" ]; then
            [ "$(cat "$dev_stamp" 2>/dev/null)" != "$dev_digest" ] || return 0
        else
            [ "$(cat "$stamp" 2>/dev/null)" != "$digest" ] || return 0
        fi
        echo "Bringing $SLM_VENV up to date."
    else
        _slm_announce
        found="$(_slm_find_python)" || return 1
        "$found" -m venv --clear "$SLM_VENV" || return 1
        digest="$(_slm_digest "${plain[@]}")" || return 1
        dev_digest="$(_slm_digest "${plain[@]}" "$SLM_ROOT/backend/requirements-dev.txt")" || return 1
    fi
    rm -f "$stamp" "$dev_stamp"
    if [ -n "${TORCH_INDEX_URL:-}" ]; then
        torch="$(grep '^torch==' "$SLM_ROOT/backend/requirements.txt")"
        _slm_pip --index-url "$TORCH_INDEX_URL" "$torch" || return 1
    fi
    if [ "${1:-}" = "dev" ]; then
        _slm_pip -r requirements.txt -r requirements-dev.txt || return 1
        echo "$dev_digest" >"$dev_stamp"
    else
        _slm_pip -r requirements.txt || return 1
    fi
    echo "$digest" >"$stamp"
}

setup_workbench() {
    local digest found stamp="$SLM_VENV/.slm-setup-work${1:+-dev}" wanted="requirements${1:+-dev}.txt"
    if ! "$SLM_PYTHON" -c '' >/dev/null 2>&1; then
        echo "Setting up in $SLM_VENV. This downloads about 150 MB of packages for the workbench."
        found="$(_slm_find_python)" || return 1
        "$found" -m venv --clear "$SLM_VENV" || return 1
    fi
    digest="$(_slm_digest "$SLM_ROOT/work/requirements.txt" "$SLM_ROOT/work/$wanted" "$SLM_ROOT/client/pyproject.toml")" ||
        return 1
    [ "$(cat "$stamp" 2>/dev/null)" != "$digest" ] || return 0
    rm -f "$stamp"
    (cd "$SLM_ROOT/work" && "$SLM_PYTHON" -m pip install --quiet --disable-pip-version-check -r "$wanted") ||
        return 1
    echo "$digest" >"$stamp"
}

setup_weights() {
    _slm_weights smollm2 smollm2-135m-instruct "SmolLM2-135M-Instruct: 93 MB to download, 0.5 GB" || return 1
    [ "${1:-}" != "dev" ] || _slm_weights minilm minilm-l6 "MiniLM L6: 84 MB to download, 91 MB"
}

_slm_weights() {
    local models
    models="$(cd "$SLM_ROOT/backend" && "$SLM_PYTHON" -c 'from app.cli.places import settings; print(settings().models_dir)')" ||
        return 1
    [ ! -f "$models/$2/slm-weights.json" ] || return 0
    echo "Fetching the bundled base model $3 in $models (once)."
    (cd "$SLM_ROOT/backend" && "$SLM_VENV/bin/slm" pull "$1" --direct)
}
