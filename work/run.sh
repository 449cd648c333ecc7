#!/usr/bin/env bash
# Sets up what is missing and starts the workbench on http://localhost:8501 or the next free port: ./run.sh [PORT]
# It asks the service at API_BASE_URL (environment or .env; http://localhost:8000).
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=../backend/setup.sh
. ../backend/setup.sh
setup_workbench
[ $# -eq 0 ] || export WORKBENCH_PORT="$1"
exec "$SLM_PYTHON" app.py
