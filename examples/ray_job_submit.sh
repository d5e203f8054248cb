#!/usr/bin/env bash
# Training as a Ray job, on one node or several: package, prompt and reward travel with the job; data, checkpoints and
# curves lie on storage that every node sees.
#
#   RAY_ADDRESS=http://HEAD:8265 SHARED=/mnt/shared/imageedit_r1 \
#     bash examples/ray_job_submit.sh config=examples/grpo_qwen25vl.yaml trainer.nnodes=2
#
# SHARED (absolute) holds data/train.parquet and data/val.parquet; checkpoints/ and tensorboard_log/ are written there.
# EASYR1_SOURCE: EasyR1's checkout on that storage, where it is not installed on the nodes. API keys of loggers belong
# in the environment of `ray start`. The same command continues from the last checkpoint. More keys follow as key=value.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

: "${SHARED:?is not set: an absolute folder on storage that every node sees}"
PROJECT=${PROJECT:-imageedit_r1}
# the run's own name, so that it never continues from the checkpoint of another
for argument in "$@"; do
  case $argument in
    trainer.experiment_name=*) EXPERIMENT=${argument#*=} ;;
    config=*) : "${EXPERIMENT:=$(sed -n 's/^  experiment_name: *\([^ #]*\).*/\1/p' "${argument#*=}")}" ;;
  esac
done
: "${EXPERIMENT:?is not known: give config=FILE.yaml, or set EXPERIMENT}"
TENSORBOARD_DIR=${TENSORBOARD_DIR:-$SHARED/tensorboard_log}

runtime_env=$(mktemp)
trap 'rm -f "$runtime_env"' EXIT
cp examples/runtime_env.yaml "$runtime_env"
echo "env_vars:" >>"$runtime_env"
[ -z "${EASYR1_SOURCE:-}" ] || echo "  PYTHONPATH: \"$EASYR1_SOURCE\"" >>"$runtime_env"
# what the workers need of this shell; nothing secret, since Ray shows these in its dashboard
for name in TENSORBOARD_DIR HF_HOME HF_HUB_OFFLINE WANDB_MODE WANDB_DIR SWANLAB_MODE MLFLOW_TRACKING_URI; do
  [ -z "${!name:-}" ] || echo "  $name: \"${!name}\"" >>"$runtime_env"
done

"${RAY:-ray}" job submit --runtime-env "$runtime_env" -- "${PYTHON:-python3}" -m ier1_plugin.cli train \
  "data.train_files=$SHARED/data/train.parquet" "data.val_files=$SHARED/data/val.parquet" \
  "trainer.project_name=$PROJECT" "trainer.experiment_name=$EXPERIMENT" \
  "trainer.save_checkpoint_path=$SHARED/checkpoints/$PROJECT/$EXPERIMENT" "$@"
