#!/usr/bin/env bash
# Runs one job folder over NVFlare's proof-of-concept system: bash poc_workspace/run_poc.sh [JOB_FOLDER] [--help]
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="${SITELORA_PYTHON:-$here/../.venv/bin/python}"
if [[ ! -x "$python" ]]; then
  make --no-print-directory -C "$here/.." setup
fi
exec "$python" "$here/run_poc.py" "$@"
