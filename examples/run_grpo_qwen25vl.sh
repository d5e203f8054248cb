#!/usr/bin/env bash
# The paper's training: Qwen2.5-VL-7B-Instruct, GRPO, 8 GPUs, 3 epochs.
#
#   DATA_DIR=/data/paper bash examples/run_grpo_qwen25vl.sh   # train; run again to continue
#   DATA_DIR=/data/paper bash examples/run_grpo_qwen25vl.sh --check   # only list what is wrong
#   bash examples/run_grpo_qwen25vl.sh trainer.logger='[console,wandb]' trainer.val_generations_to_log=8
#
# DATA_DIR holds the train.parquet and val.parquet of examples/build_paper_data.sh, or of data_prep/build_rl_dataset.py
# with --min-pixels 3136 --max-pixels 1003520. Any key of EasyR1 can follow as key=value. Relative paths count from the
# repository root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

DATA_DIR=${DATA_DIR:-data/paper}
exec "${PYTHON:-python3}" -m ier1_plugin.cli train config=examples/grpo_qwen25vl.yaml \
  "data.train_files=$DATA_DIR/train.parquet" "data.val_files=$DATA_DIR/val.parquet" "$@"
