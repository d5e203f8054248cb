#!/usr/bin/env bash
# Qwen3-VL-8B-Instruct in upstream verl 0.9.1 instead of EasyR1: GRPO, 8 GPUs, vLLM, 3 epochs.
#
#   DATA_DIR=/data/paper bash examples/run_grpo_qwen3vl_verl.sh   # train; run again to continue
#   DATA_DIR=/data/paper bash examples/run_grpo_qwen3vl_verl.sh --check   # only list what is wrong
#   bash examples/run_grpo_qwen3vl_verl.sh algorithm.filter_groups.enable=true   # drop groups that teach nothing (DAPO)
#
# DATA_DIR: as for run_grpo_qwen3vl.sh, the same rows. Needs an environment of its own, since EasyR1's package is called verl
# too: pip install 'verl[vllm]==0.9.1' TransferQueue, and this package. Any key of verl can follow as key=value. Relative
# paths count from the repository root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

DATA_DIR=${DATA_DIR:-data/paper}
exec "${PYTHON:-python3}" -m ier1_plugin.cli train --host verl config=examples/verl_qwen3vl.yaml \
  "data.train_files=$DATA_DIR/train.parquet" "data.val_files=$DATA_DIR/val.parquet" "$@"
