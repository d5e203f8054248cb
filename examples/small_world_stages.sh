#!/usr/bin/env bash
# What quickstart.sh and small_world_study.sh share: stages that are done once. Source it with `name` set to the
# script's own name, `out` to its folder and `host`, if it is not EasyR1, to verl.
set -euo pipefail

if "${PYTHON:-python3}" -c 'import sys; from ier1_plugin.training.cpu.guard import has_gpu; sys.exit(not has_gpu())' 2>/dev/null; then
    echo "$name: this machine has a GPU, and the $name trains without one;" \
        "train a real model with: bash examples/run_grpo_qwen25vl_3b_lora.sh" >&2
    exit 1
fi
mkdir -p "$out"
exec 9>"$out/.lock"
if command -v flock >/dev/null && ! flock -n 9; then
    echo "$name: another $name is at work in $out" >&2
    exit 1
fi
host=${host:-easyr1} config=examples/grpo_small_world.yaml python=${IER1_VENV:-.venv}/bin/python
if [ "$host" = verl ]; then
    bash examples/make_venv_verl.sh 9>&-
    config=examples/verl_small_world.yaml python=${IER1_VENV_VERL:-.venv-verl}/bin/python
else
    bash examples/make_venv.sh 9>&-
fi
# this checkout, whatever copy of the package the environment has
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
# threads that wait for each other must sleep: by default they spin, and a busy machine gets four times slower
export OMP_WAIT_POLICY=PASSIVE
# Ray's workers, which do all the work here, would make way for every other program of the machine
export RAY_worker_niceness=${RAY_worker_niceness:-0}

# the commands of the stages so far, line by line: a stage is done again if one of these has changed
commands=''

# stage NAME "what it does" RESULT COMMAND...: runs COMMAND, unless RESULT is there and $out/.NAME says that it came
# from the same commands. A change of the code does nothing anew: remove the folder of the stage, or $out.
stage() {
    local stamp=$out/.$1 what=$2 result=$3 before=$SECONDS
    commands+="$1: ${*:4}"$'\n'
    if [ -e "$result" ] && [ "$(cat "$stamp" 2>/dev/null)" = "${commands%$'\n'}" ]; then
        echo "== $what: $result is there"
        return
    fi
    echo "== $what"
    rm -f "$stamp"
    # without the lock: whatever a stage leaves running must not hold it
    if ! "${@:4}" 9>&-; then
        echo "$name: stopped, since this failed: $what" >&2
        exit 1
    fi
    if ! [ -e "$result" ]; then
        echo "$name: stopped, since this left no $result: $what" >&2
        exit 1
    fi
    echo -n "$commands" >"$stamp"
    echo "   $((SECONDS - before)) s"
}

# fresh FOLDER: what other commands left in it goes; what a killed run of these left stays
fresh() {
    if [ "$(cat "$1/.made-from" 2>/dev/null)" != "${commands%$'\n'}" ]; then rm -rf "$1"; fi
    mkdir -p "$1"
    echo -n "$commands" >"$1/.made-from"
}

# build_rows FOLDER COUNT OPTIONS...
build_rows() {
    "$python" data_prep/build_rl_dataset.py --source photos --output "$1" --limit "$2" \
        --min-pixels 3136 --max-pixels 3136 "${@:3}"
}

# warm_up FOLDER STEPS OPTIONS...
warm_up() {
    "$python" -m ier1_plugin.small_world.warm_up --out "$1" --steps "$2" "${@:3}"
}

# grpo ROWS WARM FOLDER STEPS key=value...: EasyR1 or verl, unmodified, with its console condensed; continues where a
# killed run stopped
grpo() {
    local keys=("worker.actor.model.model_path=$2" "trainer.save_checkpoint_path=$3" "trainer.max_steps=$4")
    if [ "$host" = verl ]; then
        keys=("actor_rollout_ref.model.path=$2" "trainer.default_local_dir=$3" "trainer.total_training_steps=$4")
    fi
    fresh "$3"
    # EasyR1 never closes its bars, and Ray draws them all anew with every line that a worker prints: off with them
    TQDM_DISABLE=1 TENSORBOARD_DIR=$3/tensorboard "$python" -m ier1_plugin.cli train --host "$host" --cpu \
        "config=$config" "data.train_files=$1/train.parquet" "data.val_files=$1/val.parquet" "${keys[@]}" \
        "${@:5}" 2>&1 | "$python" -m ier1_plugin.small_world.progress --log "$3/log.txt" && return
    tail -n 12 "$3/log.txt" >&2
    echo "$name: the full output is in $3/log.txt" >&2
    return 1
}

# merge CHECKPOINT FOLDER
merge() {
    rm -rf "$2"
    "$python" -m ier1_plugin.cli merge "$1" --out "$2" --config "$config"
}
