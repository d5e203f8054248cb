#!/usr/bin/env bash
# Training as a Ray job, on one node or several: package, prompt and reward travel with the job; data, checkpoints and
# curves lie on storage that every node sees.
#
#   RAY_ADDRESS=http://HEAD:8265 SHARED=/mnt/shared/imageedit_r1 \
#     bash examples/ray_job_submit.sh config=examples/grpo_qwen25vl.yaml trainer.nnodes=2
#
# SHARED (absolute) holds data/train.parquet and data/val.parquet; checkpoints/PROJECT/EXPERIMENT and tensorboard_log/
# are written there, with both names from the config unless set. EASYR1_SOURCE: EasyR1's checkout on that storage, where
# it is not installed on the nodes. PYTHON: the nodes' Python. The job gets this shell's variables for the hub, caches,
# loggers and proxies, and nothing secret: API keys of loggers belong in the environment of `ray start`. The same
# command continues from the last checkpoint. More keys follow as key=value.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Ray's own Python has a YAML reader
ray=$(command -v "${RAY:-ray}" || true)
for python in "${ray%/*}/python3" .venv/bin/python python3 "${PYTHON:-python}"; do
  if "$python" -c 'import yaml' 2>/dev/null; then exec "$python" -m ier1_plugin.training.ray_job "$@"; fi
done
echo "error: no Python with PyYAML; install Ray, which brings it, or name one: PYTHON=..." >&2
exit 1
