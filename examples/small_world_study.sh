#!/usr/bin/env bash
# The paper's comparisons in the small world, on a laptop without a GPU: the request as it is, the agents without RL,
# with RL, without the goal reward, in several turns, and trained on fewer rows. Three trainings of each, from three
# seeds, edit the same photographs, judged by exact comparison with the gold edit. Ends with a page:
# study/report/index.html.
#
#   bash examples/small_world_study.sh            # everything under study/
#   bash examples/small_world_study.sh --quick    # one seed and half the steps, under study/quick/
#   SEEDS="1 2 3 4 5" bash examples/small_world_study.sh
#
# The same command continues where it was interrupted, and does only what is missing or has changed. STEPS, SEEDS, ROWS,
# WARM_UP_STEPS and ITEMS change the numbers below; IER1_VENV: another folder than .venv.
#
# It is a test bench: a model of a million parameters, requests that a program wrote, an editor that computes. Its
# figures are not the paper's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name=small_world_study
out=study
quick=no
for argument in "$@"; do
    case $argument in
        --quick) quick=yes ;;
        *) echo "$name: $argument is not --quick" >&2; exit 2 ;;
    esac
done
if [ $quick = yes ]; then
    out=study/quick
    : "${SEEDS:=1}" "${STEPS:=40}" "${ITEMS:=200}" "${DECOMPOSED:=100}"
fi
: "${SEEDS:=1 2 3}" "${STEPS:=80}" "${ITEMS:=400}" "${DECOMPOSED:=200}"
# fewer warm-up steps than the quickstart: what GRPO can teach is what the warm-up left open
: "${ROWS:=4000}" "${WARM_UP_STEPS:=400}"
# prompts a step, as examples/grpo_small_world.yaml has them: a step more is 16 rows more
BATCH=16
# nobody has looked at the benchmark's items from here on: the ones before are the rows that trainings validate on
FIRST=400
for number in $SEEDS $STEPS $ITEMS $DECOMPOSED $ROWS $WARM_UP_STEPS; do
    if ! [[ $number =~ ^[1-9][0-9]*$ ]]; then
        echo "$name: $number is not a number; SEEDS, STEPS, ITEMS, DECOMPOSED, ROWS and WARM_UP_STEPS are" >&2
        exit 2
    fi
done
# the data sizes: a quarter, a half and all of the rows that a full training sees in its one epoch
all=$((STEPS * BATCH)) half=$(((STEPS + 1) / 2 * BATCH)) quarter=$(((STEPS + 3) / 4 * BATCH))
last=$((FIRST + ITEMS))
if [ $last -gt 1000 ] || [ $all -gt $((ROWS * 9 / 10)) ]; then
    echo "$name: too much: the benchmark has 1000 items, of which $last are wanted, and $all rows of $ROWS x 0.9" >&2
    exit 2
fi

started=$SECONDS
. examples/small_world_stages.sh

# train KIND ROWS key=value...: GRPO for one epoch of the first ROWS rows, from the warm-up of this seed
train() {
    local kind=$1 rows=$2 steps=$(($2 / BATCH))
    shift 2
    commands=$warmed_up
    stage "grpo-$kind" "seed $seed: GRPO $kind, $rows rows, $steps steps" "$out/grpo-$kind/global_step_$steps" \
        grpo "$study/rows" "$out/warm" "$out/grpo-$kind" "$steps" \
        "data.train_files=$study/rows/train.parquet@train[:$rows]" "data.seed=$seed" \
        "worker.rollout.seed=$seed" trainer.val_before_train=false trainer.val_freq=-1 "$@"
    stage "model-$kind" "seed $seed: merging it" "$out/model-$kind/config.json" \
        merge "$out/grpo-$kind/global_step_$steps" "$out/model-$kind"
    trained+=$commands
}

# system NAME line...: a YAML file for it
system() {
    local called=$1
    shift
    files+=("$study/systems/${#files[@]}.yaml")
    printf '%s\n' "name: $called" "editor: small-world" "$@" >"${files[-1]}"
}

# chain NAME MODEL line...: agents with each seed's decomposer MODEL, which sees as many pixels as in training
chain() {
    local called=$1 model=$2 seed
    shift 2
    for seed in $SEEDS; do
        system "$called, seed $seed" "decomposer: local:$study/seed-$seed/$model" "sequencer: rule" \
            "min_pixels: 3136" "max_pixels: 3136" "$@"
    done
}

systems() {
    rm -rf "$study/systems"
    mkdir -p "$study/systems"
    files=()
    system "Original" "method: original"
    chain "$without" warm
    chain "$with" model-all
    chain "$with, multi-turn" model-all "mode: multi-turn"
    chain "$with, no goal reward" model-without-goal
    chain "$with, $half rows" model-half
    chain "$with, $quarter rows" model-quarter
}

# judged ITEMS
judged() {
    fresh "$study/evaluation"
    "$python" -m ier1_plugin.cli.main evaluate --benchmark "small-world:$1" --judge pixel -j 2 \
        --out "$study/evaluation" --system "${files[@]}"
}

# decomposed COUNT
decomposed() {
    fresh "$out/decomposition"
    local models=() kind
    for kind in warm model-quarter model-half model-all model-without-goal; do
        models+=(--decomposition "local:$out/$kind")
    done
    "$python" -m ier1_plugin.cli.main evaluate "${models[@]}" --rows "$study/rows/val.parquet" --sample "$1" \
        --out "$out/decomposition" >"$out/decomposition/table.txt"
}

# runs NAME: all seeds of it, as a list in YAML
runs() {
    local seed list=''
    for seed in $SEEDS; do list+="${list:+, }\"$1, seed $seed\""; done
    echo "[$list]"
}

# several runs are one row; that editors compute leaves several turns nothing to spoil
comparisons() {
    cat >"$study/comparisons.yaml" <<END
With and without RL:
  without RL: $(runs "$without")
  with RL: $(runs "$with")
With and without the goal reward:
  with goal: $(runs "$with")
  without goal: $(runs "$with, no goal reward")
Single-turn and multi-turn (with exact edits no error can pile up):
  single-turn: $(runs "$with")
  multi-turn: $(runs "$with, multi-turn")
Training rows:
  0: $(runs "$without")
  $quarter: $(runs "$with, $quarter rows")
  $half: $(runs "$with, $half rows")
  $all: $(runs "$with")
END
}

report() {
    "$python" -m ier1_plugin.cli.main report "$study/evaluation" --comparisons "$study/comparisons.yaml" \
        --out "$study/report"
}

study=$out all_trained='' with="ImageEdit-R1" without="ImageEdit-R1 without RL"
stage rows "building $ROWS rows from photographs" "$study/rows/val.parquet" build_rows "$study/rows" "$ROWS"
built=$commands
for seed in $SEEDS; do
    out=$study/seed-$seed commands=$built trained=''
    mkdir -p "$out"
    stage warm "seed $seed: making a tiny Qwen2.5-VL and warming it up, $WARM_UP_STEPS steps" "$out/warm/config.json" \
        warm_up "$out/warm" "$WARM_UP_STEPS" --seed "$seed"
    warmed_up=$commands
    train all "$all"
    train without-goal "$all" worker.reward.reward_function_kwargs.goal_weight=0.0
    train half "$half"
    train quarter "$quarter"
    commands=$trained
    stage decomposition "seed $seed: taking $DECOMPOSED requests apart" "$out/decomposition/table.txt" decomposed "$DECOMPOSED"
    all_trained+=$trained
done
out=$study
systems
commands=$all_trained$(cat "${files[@]}")$'\n'
stage evaluation "editing $ITEMS photographs with ${#files[@]} systems, and judging" "$out/evaluation/evaluation.json" judged "$FIRST-$last"
comparisons
commands+=$(cat "$study/comparisons.yaml")$'\n'
stage report "making the report" "$study/report/index.html" report

for seed in $SEEDS; do
    echo
    echo "Decompositions, seed $seed"
    sed '/ by number of operations/,$d' "$study/seed-$seed/decomposition/table.txt"
done
cat <<END
Done in $((SECONDS - started)) s. Files:
  $study/report/index.html             open it: tables, curves, and the photographs case by case
  $study/evaluation/                   every edit and judgement
  $study/seed-*/decomposition/         how well requests were taken apart, with table.txt
  $study/seed-*/grpo-*/                EasyR1's checkpoints and logs
END
