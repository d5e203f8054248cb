#!/usr/bin/env bash
# GRPO on what the plans do to the photos: Qwen2.5-VL-7B-Instruct on six GPUs, the editor and the judge on one each.
#
#   CUDA_VISIBLE_DEVICES=6 bash examples/serve_editor.sh &
#   CUDA_VISIBLE_DEVICES=7 bash examples/serve_judge.sh &
#   DATA_DIR=/data/paper MODEL=decomposer bash examples/run_grpo_qwen25vl_picture.sh   # train; run again to continue
#
# DATA_DIR holds rows that were built with --case-images. MODEL is where training starts: the merged folder of the
# training on words (examples/merge_checkpoint.sh), or Qwen/Qwen2.5-VL-7B-Instruct. Any key of EasyR1 can follow.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

DATA_DIR=${DATA_DIR:-data/paper}
# Ray would count all eight
export CUDA_VISIBLE_DEVICES=${CUDA_VISIBLE_DEVICES:-0,1,2,3,4,5}
exec "${PYTHON:-python3}" -m ier1_plugin.cli train config=examples/grpo_qwen25vl_picture.yaml \
  "data.train_files=$DATA_DIR/train.parquet" "data.val_files=$DATA_DIR/val.parquet" \
  ${MODEL:+"worker.actor.model.model_path=$MODEL"} "$@"
