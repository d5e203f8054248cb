#!/usr/bin/env bash
# What a reward on pictures is worth, on a laptop without a GPU: the request as it is, agents without RL, and agents
# with RL on words (clean gold, careless gold, an annotator's own words, without the goal reward, on fewer rows), on
# pictures without any gold, and on both. Three trainings of each, from three seeds, edit the same photographs, judged by
# exact comparison with the gold edit. Ends with a table and a page: study/index.html.
#
#   bash examples/small_world_study.sh            # everything under study/; hours
#   bash examples/small_world_study.sh --quick    # one seed, half the steps and photographs, under study/quick/
#   SEEDS="1 2 3 4 5" bash examples/small_world_study.sh
#
# The same command continues where it was interrupted, and does only what is missing or has changed. STEPS, SEEDS, ROWS,
# WARM_UP_STEPS, WARM_UP_ROWS and ITEMS change the numbers below; IER1_VENV: another folder than .venv.
#
# It is a test bench: a model of a million parameters, requests that a program wrote, an editor that computes. Its
# figures are not the paper's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name=small_world_study
out=study
for argument in "$@"; do
    case $argument in
        --quick) out=study/quick ;;
        *) echo "$name: $argument is not --quick" >&2; exit 2 ;;
    esac
done
if [ $out = study/quick ]; then
    : "${SEEDS:=1}" "${STEPS:=60}" "${ITEMS:=200}" "${WARM_UP_STEPS:=600}"
fi
: "${SEEDS:=1 2 3}" "${STEPS:=120}" "${ITEMS:=400}" "${WARM_UP_STEPS:=900}" "${WARM_UP_ROWS:=16000}" "${ROWS:=1200}"
# prompts a step, as examples/grpo_small_world.yaml has them: a step more is 8 rows more
BATCH=8
# no number above was chosen by the benchmark's items from here on
FIRST=1000
for number in $SEEDS $STEPS $ITEMS $ROWS $WARM_UP_STEPS $WARM_UP_ROWS; do
    if ! [[ $number =~ ^[1-9][0-9]*$ ]]; then
        echo "$name: $number is not a number; SEEDS, STEPS, ITEMS, ROWS, WARM_UP_STEPS and WARM_UP_ROWS are" >&2
        exit 2
    fi
done
# the data sizes: a quarter, a half and all of the rows that a full training sees in its one epoch
all=$((STEPS * BATCH)) half=$(((STEPS + 1) / 2 * BATCH)) quarter=$(((STEPS + 3) / 4 * BATCH))
last=$((FIRST + ITEMS))
if [ $last -gt 1400 ] || [ $all -gt $((ROWS * 9 / 10)) ]; then
    echo "$name: too much: the benchmark ends at item 1400, $last is wanted, and $all rows of $ROWS x 0.9" >&2
    exit 2
fi

started=$SECONDS
. examples/small_world_stages.sh

# the ways of training, in the order of the table: KIND -> what it is called
kinds=(warm words random systematic pictures both components without-goal half quarter)
called() {
    case $1 in
        warm) echo "agents without RL" ;;
        words) echo "RL on words" ;;
        random) echo "RL on words of a careless annotator" ;;
        systematic) echo "RL on an annotator's own words" ;;
        pictures) echo "RL on pictures, without gold" ;;
        both) echo "RL on pictures and the annotator's own words" ;;
        components) echo "the same, components normalised" ;;
        without-goal) echo "RL on words, without the goal reward" ;;
        half) echo "RL on words, $half rows" ;;
        quarter) echo "RL on words, $quarter rows" ;;
    esac
}

kwargs=worker.reward.reward_function_kwargs
picture=(worker.reward.reward_function=reward_fns/picture.py:compute_score $kwargs.editor=small-world $kwargs.judge=pixel)
without_words=($kwargs.format_weight=0.25 $kwargs.action_weight=0.0 $kwargs.subject_weight=0.0 $kwargs.goal_weight=0.0)

# annotated: the same rows with the gold of two annotators
annotated() {
    local faults
    for faults in random systematic; do
        "$python" -m ier1_plugin.small_world.annotator "$study/rows/train.parquet" --faults $faults \
            --out "$study/rows/$faults.parquet"
    done
}

# train KIND ROWS GOLD key=value...: GRPO for one epoch of the first ROWS rows of GOLD.parquet, from this seed's warm-up
train() {
    local kind=$1 rows=$2 gold=$3 steps=$(($2 / BATCH))
    shift 3
    commands=$warmed_up
    stage "grpo-$kind" "seed $seed: $(called "$kind"), $steps steps" "$out/grpo-$kind/global_step_$steps" \
        grpo "$study/rows" "$out/warm" "$out/grpo-$kind" "$steps" \
        "data.train_files=$study/rows/$gold.parquet@train[:$rows]" "data.seed=$seed" \
        "worker.rollout.seed=$seed" trainer.val_before_train=false trainer.val_freq=-1 "$@"
    stage "model-$kind" "seed $seed: merging it" "$out/model-$kind/config.json" \
        merge "$out/grpo-$kind/global_step_$steps" "$out/model-$kind"
    trained+=$commands
}

# system NAME line...: a YAML file for it
system() {
    local file="$study/systems/${#files[@]}.yaml" called=$1
    shift
    files+=("$file")
    printf '%s\n' "name: $called" "editor: small-world" "$@" >"$file"
}

systems() {
    local kind seed
    rm -rf "$study/systems"
    mkdir -p "$study/systems"
    files=()
    system "the request as it is" "method: original"
    for kind in "${kinds[@]}"; do
        for seed in $SEEDS; do
            # as many pixels as in training
            system "$(called "$kind"), seed $seed" "decomposer: local:$study/seed-$seed/$(model "$kind")" \
                "sequencer: rule" "min_pixels: 3136" "max_pixels: 3136"
        done
    done
}

model() { if [ "$1" = warm ]; then echo warm; else echo "model-$1"; fi; }

judged() {
    fresh "$study/evaluation"
    "$python" -m ier1_plugin.cli.main evaluate --benchmark "small-world:$1" --judge pixel -j 2 \
        --out "$study/evaluation" --system "${files[@]}"
}

# runs KIND: all seeds of it, as a list in YAML
runs() {
    local seed list=''
    for seed in $SEEDS; do list+="${list:+, }\"$(called "$1"), seed $seed\""; done
    echo "[$list]"
}

# several runs are one row
comparisons() {
    local kind
    {
        echo "Over the agents without RL:"
        for kind in "${kinds[@]}"; do echo "  $(called "$kind"): $(runs "$kind")"; done
        echo "Over an annotator's own words:"
        for kind in systematic both components; do echo "  $(called "$kind"): $(runs "$kind")"; done
        echo "Over RL on words:"
        for kind in words pictures without-goal; do echo "  $(called "$kind"): $(runs "$kind")"; done
        echo "Training rows:"
        echo "  0: $(runs warm)"
        echo "  $quarter: $(runs quarter)"
        echo "  $half: $(runs half)"
        echo "  $all: $(runs words)"
    } >"$study/comparisons.yaml"
}

report() {
    "$python" -m ier1_plugin.cli.main report "$study/evaluation" --comparisons "$study/comparisons.yaml" \
        --out "$study/report"
}

page() {
    "$python" -m ier1_plugin.evaluation.report.study "$study" --without-rl "$(called warm)"
}

study=$out all_trained=''
stage rows "building $ROWS rows from photographs" "$study/rows/val.parquet" build_rows "$study/rows" "$ROWS" --case-images
stage annotators "two annotators with faults" "$study/rows/systematic.parquet" annotated
built=$commands
for seed in $SEEDS; do
    out=$study/seed-$seed commands=$built trained=''
    mkdir -p "$out"
    stage warm "seed $seed: making a tiny Qwen2.5-VL and warming it up, $WARM_UP_STEPS steps" "$out/warm/config.json" \
        warm_up "$out/warm" "$WARM_UP_STEPS" --rows "$WARM_UP_ROWS" --other-words 0.2 --seed "$seed"
    warmed_up=$commands
    train words "$all" train
    train pictures "$all" train "${picture[@]}" "${without_words[@]}" $kwargs.picture_weight=1.0
    train systematic "$all" systematic
    train both "$all" systematic "${picture[@]}" $kwargs.picture_weight=3.0
    train random "$all" random
    train components "$all" systematic "${picture[@]}" $kwargs.picture_weight=3.0 $kwargs.normalise=components
    train without-goal "$all" train $kwargs.goal_weight=0.0
    train half "$half" train
    train quarter "$quarter" train
    all_trained+=$trained
done
out=$study
systems
commands=$all_trained$(cat "${files[@]}")$'\n'
stage evaluation "editing $ITEMS photographs with ${#files[@]} systems, and judging" "$out/evaluation/evaluation.json" judged "$FIRST-$last"
comparisons
commands+=$(cat "$study/comparisons.yaml")$'\n'
stage report "making the report" "$study/report/index.html" report
stage page "making the page" "$study/index.html" page

cat "$study/table.md"
cat <<END
Done in $((SECONDS - started)) s. Files:
  $study/index.html                    open it: the table and the curves
  $study/report/index.html             every comparison with its intervals, and the photographs case by case
  $study/evaluation/                   every edit and judgement
  $study/seed-*/grpo-*/                EasyR1's checkpoints and logs
END
