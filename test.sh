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
setup_workbench dev
setup_weights dev

export PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
bin="$SLM_VENV/bin"
cd backend
"$bin/ruff" check --quiet . ../client ../examples ../docs ../work
"$bin/ruff" format --quiet --check . ../client ../examples ../docs ../work
"$bin/mypy" app slm
(cd ../client && "$bin/mypy" slm_client)
(cd ../work && "$bin/mypy")
"$bin/lint-imports" --no-cache

# A selection (-k …) may leave a part without any test; all parts together may not be without any.
run=0
for part in ../client ../work .; do
    status=0
    [ "$part" = . ] && more=(${long[@]+"${long[@]}"}) || more=()
    (cd "$part" && "$SLM_PYTHON" -m pytest -q ${more[@]+"${more[@]}"} "$@") || status=$?
    [ "$status" = 0 ] || { [ "$status" = 5 ] && [ $# -gt 0 ]; } || exit "$status"
    [ "$status" = 5 ] || run=$((run + 1))
done
[ "$run" -gt 0 ] || { echo "No test fits $*" >&2; exit 5; }
