#!/usr/bin/env bash
# Sets up what is missing, starts service and workbench, fine-tunes a real model on examples/, prints what it learned.
#
#   ./demo.sh [--report FILE] [--exit]
#
# --report FILE   the printed figures as JSON    --exit   stop both at the end
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
setup_workbench
setup_weights
echo "Set-up done."

cd "$here/backend"
slm="$SLM_VENV/bin/slm"
url="$("$slm" serve --background --next-free --json | "$SLM_PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["url"])')"
echo "The service answers at $url (log: backend/data/service.log)."
pages="$("$slm" workbench --background --url "$url" --json | "$SLM_PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["url"])')"
echo "The workbench is at $pages: watch there, or here."
status=0
"$SLM_PYTHON" "$here/examples/demo.py" --url "$url" ${tour[@]+"${tour[@]}"} || status=$?
if [ "$leave" = yes ]; then
    "$slm" stop
else
    echo "Both go on. Look around, train on your own file:  $pages"
    echo "The same by hand:                                 .venv/bin/slm train --data FILE.csv"
    echo "The API's description:                            $url/docs"
    echo "Stop them:                                        .venv/bin/slm stop"
fi
exit "$status"
