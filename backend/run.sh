#!/usr/bin/env bash
# Sets up what is missing and serves on http://localhost:8000 with reload: ./run.sh [PORT]
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=backend/setup.sh
. ./setup.sh
setup_environment ""
exec "$SLM_PYTHON" -m uvicorn app.main:app --reload --reload-dir app --reload-dir slm --host 0.0.0.0 --port "${1:-8000}"
