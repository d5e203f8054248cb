#!/usr/bin/env bash
# The paper's second backbone: Qwen3-VL-8B-Instruct, GRPO, 8 GPUs, 3 epochs. Needs EasyR1's current source:
#
#   git clone https://github.com/hiyouga/EasyR1 && pip install --no-deps -e EasyR1
#   DATA_DIR=/data/paper bash examples/run_grpo_qwen3vl.sh --check
#
# The same rows as for run_grpo_qwen25vl.sh. Any key of EasyR1 can follow as key=value.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

DATA_DIR=${DATA_DIR:-data/paper}
exec "${PYTHON:-python3}" -m ier1_plugin.cli train config=examples/grpo_qwen3vl.yaml \
  "data.train_files=$DATA_DIR/train.parquet" "data.val_files=$DATA_DIR/val.parquet" "$@"
