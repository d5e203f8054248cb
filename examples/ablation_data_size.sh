#!/usr/bin/env bash
# The paper's data-size ablation (section 4.2, three epochs): one training for each number of rows, and all curves in
# one figure. The rows stand in the order of a hash, so the first N are a random sample of all.
#
#   DATA_DIR=/data/paper bash examples/ablation_data_size.sh
#   SIZES="500 4000" bash examples/ablation_data_size.sh trainer.logger='[console,tensorboard,wandb]'
#
# Any key of EasyR1 can follow as key=value and goes to every run; a run that was cut off continues.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

DATA_DIR=${DATA_DIR:-data/paper}
CONFIG=${CONFIG:-examples/grpo_qwen25vl.yaml}
# the paper's gains level off at 4000; `all` shows the plateau
SIZES=${SIZES:-500 1000 2000 4000 all}
PYTHON=${PYTHON:-python3}
# a folder for each run: in one that they share, the second would continue from the first
CHECKPOINTS=${CHECKPOINTS:-$PWD/checkpoints}
export TENSORBOARD_DIR=${TENSORBOARD_DIR:-$PWD/tensorboard_log}

train() { # SIZE OVERRIDES...
  local size=$1 split
  shift
  split=$([ "$size" = all ] && echo train || echo "train[:$size]")
  "$PYTHON" -m ier1_plugin.cli train "config=$CONFIG" trainer.total_epochs=3 "$@" \
    "data.train_files=$DATA_DIR/train.parquet@$split" "data.val_files=$DATA_DIR/val.parquet" \
    trainer.project_name=ablation_data_size "trainer.experiment_name=rows_$size" \
    "trainer.save_checkpoint_path=$CHECKPOINTS/ablation_data_size/rows_$size" trainer.load_checkpoint_path=null
}

# all of them before the first one starts: the largest size may be more than there is
for size in $SIZES; do train "$size" "$@" --check; done
[[ " $* " != *" --check "* ]] || exit 0

curves=()
for size in $SIZES; do
  train "$size" "$@"
  curves+=("$size rows=$TENSORBOARD_DIR/ablation_data_size/rows_$size")
done
"$PYTHON" -m ier1_plugin.cli curves "${curves[@]}"
