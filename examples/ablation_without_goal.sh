#!/usr/bin/env bash
# The paper's goal ablation (section 4.2): the same training with and without the goal reward, and both curves in one
# figure. The goal reward is still logged where it does not count.
#
#   DATA_DIR=/data/paper bash examples/ablation_without_goal.sh
#   CONFIG=examples/grpo_qwen3vl.yaml bash examples/ablation_without_goal.sh trainer.total_epochs=1
#
# Any key of EasyR1 can follow as key=value and goes to both runs; a run that was cut off continues.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

DATA_DIR=${DATA_DIR:-data/paper}
CONFIG=${CONFIG:-examples/grpo_qwen25vl.yaml}
PYTHON=${PYTHON:-python3}
# a folder for each run: in one that they share, the second would continue from the first
CHECKPOINTS=${CHECKPOINTS:-$PWD/checkpoints}
export TENSORBOARD_DIR=${TENSORBOARD_DIR:-$PWD/tensorboard_log}

train() { # NAME GOAL_WEIGHT OVERRIDES...
  local name=$1 goal_weight=$2
  shift 2
  "$PYTHON" -m ier1_plugin.cli train "config=$CONFIG" \
    "data.train_files=$DATA_DIR/train.parquet" "data.val_files=$DATA_DIR/val.parquet" "$@" \
    trainer.project_name=ablation_goal "trainer.experiment_name=$name" \
    "trainer.save_checkpoint_path=$CHECKPOINTS/ablation_goal/$name" trainer.load_checkpoint_path=null \
    "worker.reward.reward_function_kwargs.goal_weight=$goal_weight"
}

train with_goal 1.0 "$@"
train without_goal 0.0 "$@"
[[ " $* " != *" --check "* ]] || exit 0

"$PYTHON" -m ier1_plugin.cli curves "with goal=$TENSORBOARD_DIR/ablation_goal/with_goal" \
  "without goal=$TENSORBOARD_DIR/ablation_goal/without_goal"
