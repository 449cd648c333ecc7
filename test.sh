#!/usr/bin/env bash
# Everything that must hold: lint, types, import laws, all tests. `--long` adds the long forms.
# Further arguments go to pytest: ./test.sh -k upload
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=backend/setup.sh
. backend/setup.sh

long=()
if [ "${1:-}" = "--long" ]; then
    long=(--long)
    shift
fi
setup_environment dev
setup_weights

export PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
bin="$SLM_VENV/bin"
cd backend
"$bin/ruff" check --quiet . ../client ../examples ../docs
"$bin/ruff" format --quiet --check . ../client ../examples ../docs
"$bin/mypy" app slm
(cd ../client && "$bin/mypy" slm_client)
"$bin/lint-imports" --no-cache
(cd ../client && "$SLM_PYTHON" -m pytest -q "$@")
exec "$SLM_PYTHON" -m pytest -q ${long[@]+"${long[@]}"} "$@"
