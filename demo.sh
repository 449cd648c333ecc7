#!/usr/bin/env bash
# Sets up what is missing, starts the service, fine-tunes a real model on examples/, prints what it learned.
#
#   ./demo.sh [--report FILE] [--exit]
#
# --report FILE   the printed figures as JSON    --exit   stop the service at the end
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
# shellcheck source=backend/setup.sh
. "$here/backend/setup.sh"

leave=no
tour=()
while [ $# -gt 0 ]; do
    case "$1" in
    --exit) leave=yes ;;
    --report | --svg)
        [ $# -ge 2 ] || { echo "$1 needs a file name" >&2; exit 2; }
        case "$2" in /*) tour+=("$1" "$2") ;; *) tour+=("$1" "$PWD/$2") ;; esac
        shift
        ;;
    -h | --help)
        sed -n '2,6s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    *)
        echo "Unknown option $1; see ./demo.sh --help" >&2
        exit 2
        ;;
    esac
    shift
done

setup_environment ""
setup_weights
echo "Set-up done."

cd "$here/backend"
slm="$SLM_VENV/bin/slm"
url="$("$slm" serve --background --next-free --json | "$SLM_PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["url"])')"
echo "The service answers at $url (log: backend/data/service.log)."
status=0
"$SLM_PYTHON" "$here/examples/demo.py" --url "$url" ${tour[@]+"${tour[@]}"} || status=$?
if [ "$leave" = yes ]; then
    "$slm" stop
else
    echo "The service goes on. Look around:  $url/docs  or  .venv/bin/slm list models"
    echo "Train on your own file:            .venv/bin/slm train --data FILE.csv"
    echo "Stop it:                           .venv/bin/slm stop"
fi
exit "$status"
