#!/usr/bin/env bash
# Stages of a training in the small world: sourced by quickstart.sh and small_world_study.sh, which set `name` (their
# own) and `out` (the folder that holds the stamps of the stages).
set -euo pipefail

refuse_a_gpu() {
    if "${PYTHON:-python3}" -c 'import sys; from ier1_plugin.training.cpu.guard import has_gpu; sys.exit(not has_gpu())' 2>/dev/null; then
        echo "$name: this machine has a GPU, and the $name trains without one;" \
            "train a real model with: bash examples/run_grpo_qwen25vl_3b_lora.sh" >&2
        exit 1
    fi
}

# the packages, and `python`
make_environment() {
    bash examples/make_venv.sh
    python=${IER1_VENV:-.venv}/bin/python
    # this checkout, whatever copy of the package the environment has
    export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
    # threads that wait for each other must sleep: by default they spin, and a busy machine gets four times slower
    export OMP_WAIT_POLICY=PASSIVE
}

# Everything that decides a result goes into one running fingerprint: the code that builds rows and trains, then each
# stage's own command. Stages that only use what was trained add `uses`, the rest of the code: a change in there trains
# nothing anew.
code() { # find's tests...
    find ier1_plugin data_prep reward_fns examples constraints.txt setup.py -type f "$@" -print0 | sort -z |
        xargs -0 sha256sum | sha256sum
}
sources=(\( -name '*.py' -o -name '*.jinja' -o -name '*.yaml' -o -name '*.txt' \))
users=(\( -path 'ier1_plugin/evaluation/*' -o -path 'ier1_plugin/editors/*')
for module in 'agents' 'app*' 'batch*' 'chat' 'cli*' 'commands' 'endpoint' 'fingerprint' 'local_chat' 'pipeline' 'pool' \
    'prompts/judge' 'system'; do
    users+=(-o -path "ier1_plugin/$module.*")
done
users+=(\))
fingerprint=$(code "${sources[@]}" ! "${users[@]}")
uses=$(code "${sources[@]}" "${users[@]}")

# alone: keeps a second run out of $out
alone() {
    mkdir -p "$out"
    exec 9>"$out/.lock"
    if command -v flock >/dev/null && ! flock -n 9; then
        echo "$name: another $name is at work in $out" >&2
        exit 1
    fi
}

# stage NAME "what it does" RESULT COMMAND...: runs COMMAND unless RESULT is there from the same inputs
stage() {
    local stamp=$1 what=$2 result=$3 before=$SECONDS
    shift 3
    fingerprint=$(echo "$fingerprint $stamp $*" | sha256sum)
    if [ -e "$result" ] && [ "$(cat "$out/.$stamp" 2>/dev/null)" = "$fingerprint" ]; then
        echo "== $what: $result is there"
        return
    fi
    echo "== $what"
    rm -f "$out/.$stamp"
    # without the lock: whatever a stage leaves running must not hold it
    if ! "$@" 9>&-; then
        echo "$name: stopped, since this failed: $what" >&2
        exit 1
    fi
    if ! [ -e "$result" ]; then
        echo "$name: stopped, since this left no $result: $what" >&2
        exit 1
    fi
    echo "$fingerprint" >"$out/.$stamp"
    echo "   $((SECONDS - before)) s"
}

# fresh FOLDER: what another fingerprint left in it goes; what a killed run of this one left stays
fresh() {
    if [ "$(cat "$1/.made-from" 2>/dev/null)" != "$fingerprint" ]; then rm -rf "$1"; fi
    mkdir -p "$1"
    echo "$fingerprint" >"$1/.made-from"
}

# build_rows FOLDER COUNT
build_rows() {
    "$python" data_prep/build_rl_dataset.py --source photos --output "$1" --limit "$2" \
        --min-pixels 3136 --max-pixels 3136
}

# warm_up FOLDER STEPS OPTIONS...
warm_up() {
    local folder=$1 steps=$2
    shift 2
    "$python" -m ier1_plugin.small_world.warm_up --out "$folder" --steps "$steps" "$@"
}

# grpo ROWS WARM FOLDER STEPS key=value...: EasyR1, unmodified, with its console condensed; goes on where a killed run
# stopped
grpo() {
    local rows=$1 warm=$2 folder=$3 steps=$4
    shift 4
    fresh "$folder"
    # EasyR1 never closes its bars, and Ray draws them all anew with every line that a worker prints: off with them
    TQDM_DISABLE=1 TENSORBOARD_DIR=$folder/tensorboard "$python" -m ier1_plugin.cli train --cpu config=examples/grpo_small_world.yaml \
        "data.train_files=$rows/train.parquet" "data.val_files=$rows/val.parquet" \
        "worker.actor.model.model_path=$warm" "trainer.save_checkpoint_path=$folder" "trainer.max_steps=$steps" \
        "$@" 2>&1 | "$python" -m ier1_plugin.small_world.progress --log "$folder/log.txt" && return
    tail -n 12 "$folder/log.txt" >&2
    echo "$name: the full output is in $folder/log.txt" >&2
    return 1
}

# merge CHECKPOINT FOLDER
merge() {
    rm -rf "$2"
    "$python" -m ier1_plugin.cli merge "$1" --out "$2" --config examples/grpo_small_world.yaml
}
