#!/usr/bin/env bash
# Runs lint, types and tests in .venv (made first, if needed). --full adds what takes longer than a minute a test and
# keeps what it printed under tests/results/. Other arguments go to pytest: bash tests/run.sh -k reward
set -euo pipefail
cd "$(dirname "$0")/.."

bash examples/make_venv.sh
bin=${IER1_VENV:-.venv}/bin
"$bin/ruff" format --check --quiet .
"$bin/ruff" check --quiet .
"$bin/pyright" --pythonpath "$bin/python"

# no test may reach for a model hub
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
if [ "${1:-}" = "--full" ]; then
    shift
    mkdir -p tests/results
    "$bin/python" -m pytest --durations=10 "$@" 2>&1 | tee "tests/results/full-$(date -u +%F).txt"
else
    exec "$bin/python" -m pytest -m "not full" "$@"
fi
