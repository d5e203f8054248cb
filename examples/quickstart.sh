#!/usr/bin/env bash
# From nothing to a reward that rises, on a laptop without a GPU: makes .venv, builds rows from real photographs, warms
# up a tiny Qwen2.5-VL, trains it with GRPO in EasyR1 on Ray, shows its rewards before and after, and edits three
# photographs with it: quickstart/index.html.
#
#   bash examples/quickstart.sh                               # a quarter of an hour; everything under quickstart/
#   bash examples/quickstart.sh --controls                    # and what proves it: learning rate 0, shuffled photos
#   bash examples/quickstart.sh --reward picture              # train on the edited photos, without gold: quickstart/picture/
#   bash examples/quickstart.sh --host verl                   # in upstream verl with vLLM on the CPU: quickstart/verl/
#   STEPS=2 bash examples/quickstart.sh                       # a short version, under quickstart/steps-2/
#   bash examples/quickstart.sh worker.actor.optim.lr=1e-4    # any key of the trainer can follow
#
# A second run does only what is missing or was asked for with other arguments. IER1_VENV: another folder than .venv;
# IER1_VENV_VERL: another than .venv-verl.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

controls=no reward=words host=easyr1
overrides=()
while [ $# -gt 0 ]; do
    case $1 in
        --controls) controls=yes ;;
        --reward) reward=${2:-nothing}; if [ $# -gt 1 ]; then shift; fi ;;
        --host) host=${2:-nothing}; if [ $# -gt 1 ]; then shift; fi ;;
        *=*) overrides+=("$1") ;;
        *) echo "quickstart: $1 is neither --controls, --host, --reward nor key=value" >&2; exit 2 ;;
    esac
    shift
done
if [ "$reward" != words ] && [ "$reward" != picture ]; then
    echo "quickstart: --reward $reward; wanted words or picture" >&2
    exit 2
fi
if [ "$host" != easyr1 ] && [ "$host" != verl ]; then
    echo "quickstart: --host $host; wanted easyr1 or verl" >&2
    exit 2
fi
# a step takes verl, which waits for its own queues, twice as long
FULL_STEPS=160
if [ "$host" = verl ]; then FULL_STEPS=80; fi
STEPS=${STEPS:-$FULL_STEPS}
if ! [[ $STEPS =~ ^[1-9][0-9]*$ ]]; then
    echo "quickstart: STEPS=$STEPS; wanted a number of GRPO steps, for instance STEPS=2" >&2
    exit 2
fi

# a short version has short stages, and a folder of its own
out=quickstart rows=4000 warm_up_steps=400 validated=400 row_options=() curve_options=()
named=EasyR1 lr=worker.actor.optim.lr kwargs=worker.reward.reward_function_kwargs
reward_key=worker.reward.reward_function file=reward_fns/picture.py:compute_score
if [ "$host" = verl ]; then
    out=quickstart/verl named=verl lr=actor_rollout_ref.actor.optim.lr kwargs=reward.custom_reward_function.reward_kwargs
    reward_key=reward.custom_reward_function.path file=reward_fns/picture.py
fi
if [ "$reward" = picture ]; then out=$out/picture; fi
if [ "$STEPS" -ne "$FULL_STEPS" ]; then out=$out/steps-$STEPS; fi
if [ "$reward" = picture ]; then
    # every word has weight 0: the plans are known by their pictures alone, and their F1 is only logged
    row_options=(--case-images) curve_options=(--pictures "$out/grpo/pictures")
    overrides=(
        "$reward_key=$file" $kwargs.editor=small-world $kwargs.judge=pixel
        $kwargs.format_weight=0.25 $kwargs.picture_weight=1.0
        $kwargs.action_weight=0.0 $kwargs.subject_weight=0.0 $kwargs.goal_weight=0.0
        ${overrides[@]+"${overrides[@]}"}
    )
fi
short=no
if [ "$STEPS" -lt 20 ]; then short=yes rows=400 warm_up_steps=20 validated=40; fi
control_steps=$((STEPS < 20 ? STEPS : 20))

name=quickstart started=$SECONDS
. examples/small_world_stages.sh

evaluate() {
    local model=$1 folder=$2
    shift 2
    "$python" -m ier1_plugin.small_world.evaluate "$model" --rows "$out/rows/val.parquet" --limit "$validated" \
        --out "$folder" "$@"
}

curves() {
    "$python" -m ier1_plugin.cli curves "$1" --out "$out/curves" ${curve_options[@]+"${curve_options[@]}"}
}

page() {
    "$python" -m ier1_plugin.small_world.page --model "$out/model" --rows "$out/rows/val.parquet" \
        --curves "$out/curves/reward_curves.png" --out "$out/index.html"
}

stage rows "building $rows rows from photographs" "$out/rows/val.parquet" build_rows "$out/rows" "$rows" ${row_options[@]+"${row_options[@]}"}
stage warm "making a tiny Qwen2.5-VL and warming it up, $warm_up_steps steps" "$out/warm/config.json" \
    warm_up "$out/warm" "$warm_up_steps"
stage before "validating it before GRPO" "$out/before/greedy.jsonl" evaluate "$out/warm" "$out/before"
warmed_up=$commands
stage grpo "GRPO in $named on Ray, $STEPS steps" "$out/grpo/global_step_$STEPS" \
    grpo "$out/rows" "$out/warm" "$out/grpo" "$STEPS" ${overrides[@]+"${overrides[@]}"}
stage merged "merging the checkpoint" "$out/model/config.json" merge "$out/grpo/global_step_$STEPS" "$out/model"
stage after "validating it after GRPO" "$out/after/greedy.jsonl" evaluate "$out/model" "$out/after"
stage curves "drawing the curves" "$out/curves/reward_curves.png" curves "$out/grpo"
stage page "editing three photographs with the trained model" "$out/index.html" page

proofs=()
if [ $controls = yes ]; then
    stage shuffled "control: validating it with shuffled photos" "$out/shuffled/greedy.jsonl" \
        evaluate "$out/model" "$out/shuffled" --shuffle-photos
    commands=$warmed_up
    stage grpo-lr0 "control: GRPO with learning rate 0, $control_steps steps" "$out/grpo-lr0/global_step_$control_steps" \
        grpo "$out/rows" "$out/warm" "$out/grpo-lr0" "$control_steps" ${overrides[@]+"${overrides[@]}"} "$lr=0"
    stage merged-lr0 "merging its checkpoint" "$out/model-lr0/config.json" \
        merge "$out/grpo-lr0/global_step_$control_steps" "$out/model-lr0"
    stage no-learning "validating it" "$out/no-learning/greedy.jsonl" \
        evaluate "$out/model-lr0" "$out/no-learning" --seed 1
    proofs=(--shuffled "$out/shuffled" --no-learning "$out/no-learning")
fi

echo
"$python" -m ier1_plugin.evaluation.decomposition --rows "$out/rows/val.parquet" --before "$out/before" \
    --after "$out/after" ${proofs[@]+"${proofs[@]}"} --out "$out/report.txt"
if [ $short = yes ]; then
    echo "This was a short version: it shows that every stage runs. To see the reward rise, run it without STEPS."
fi
cat <<END
Done in $((SECONDS - started)) s. Files:
  $out/rows/            the rows, as EasyR1 reads them, and report.json on them
  $out/warm/            the tiny model before GRPO
  $out/grpo/            checkpoints, TensorBoard logs, log.txt: the trainer's full output
  $out/model/           the model after GRPO, for transformers
  $out/curves/          reward_curves.png and .csv; with --reward picture, pictures.html: the last plans and their edits
  $out/index.html       open it: the curves, and three photographs before and after
  $out/report.txt       the table above; before/ and after/ hold every response
END
