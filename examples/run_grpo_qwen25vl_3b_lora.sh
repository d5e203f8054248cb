#!/usr/bin/env bash
# One 24 GB card: Qwen2.5-VL-3B-Instruct with LoRA. Needs EasyR1's current source, and peft < 0.21:
#
#   git clone https://github.com/hiyouga/EasyR1 && pip install --no-deps -e EasyR1
#   DATA_DIR=data/paper_small bash examples/run_grpo_qwen25vl_3b_lora.sh
#
# Build the rows with `bash examples/build_paper_data.sh max_pixels=501760 output=data/paper_small`; larger images would
# be scaled down again in every epoch. Any key of EasyR1 can follow as key=value.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

DATA_DIR=${DATA_DIR:-data/paper_small}
exec "${PYTHON:-python3}" -m ier1_plugin.cli train config=examples/grpo_qwen25vl_3b_lora.yaml \
  "data.train_files=$DATA_DIR/train.parquet" "data.val_files=$DATA_DIR/val.parquet" "$@"
