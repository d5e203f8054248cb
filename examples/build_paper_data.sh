#!/usr/bin/env bash
# Rows for the paper's training. Its own set is not published, so this is a recipe for one of the same kind and size.
#
#   export OPENAI_API_KEY=...
#   bash examples/build_paper_data.sh annotator=gpt-4o-2024-11-20
#   bash examples/build_paper_data.sh annotator=Qwen/Qwen2.5-VL-72B-Instruct base_url=http://127.0.0.1:8000/v1
#
# Any variable below may follow as key=value; psr_rows=0 leaves a source out. A run that was stopped continues when it
# is started again, and no reply is paid for twice. At the end $output holds train.parquet and val.parquet.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

output=data/paper

# The model that labels the gold. PSR's own labels came from GPT-4o-mini in 2025; a stronger model, named by date, is
# worth its price for so few rows. There is no default: hosted models are withdrawn, and the report must name the one
# used.
annotator=
base_url=
# The reward compares sets exactly, so one odd word of one reply is noise in every rollout of that row: three votes.
votes=3
concurrency=8

# Rows read from each source. The paper's gains rise up to 4,000 rows and then level off (its ablation of data size), so
# 5,500 are read: some are duplicates, some in a benchmark, and some requests ask for no edit. The three sources are
# those that the paper tests on. More than half is people's own wording, which is what the agent is for.
#
# PSR, 82,976 requests out of a forum: long, indirect, impolite, several edits in one. The card of the full set could
# not be checked when this was written: if the builder stops at the columns, it lists those that are there, and
# psr_columns names the right ones (image=NAME,request=NAME,id=NAME). Licence CC BY-NC-SA 4.0: no commercial use, and
# the rows may be passed on under that licence only.
psr=PSRDataset/PSR
psr_split=train
psr_rows=2500
psr_columns=
# RealEdit, 48,002 training requests from the same forum. Its columns and the licence of its data are unchecked as well.
realedit=peter-sushko/RealEdit
realedit_split=train
realedit_rows=1500
realedit_columns=
# UltraEdit, written by a model over real photos: plain and short, which keeps the agent from inventing edits. It has no
# test split of its own, so training takes FreeForm_1 and the benchmark is drawn from FreeForm_0. Licence CC BY 4.0.
ultraedit=BleachNick/UltraEdit
ultraedit_split=FreeForm_1
ultraedit_rows=1500
ultraedit_columns=

# What is tested on and so must not be trained on: PSR-328, the test split of RealEdit (all of it, whichever 1,000 are
# drawn), UltraEdit's FreeForm_0. PSR and RealEdit crawl one forum, so a row goes out when its post, its photo (also
# resized or compressed) or its request is in any of the three. Parquet, CSV or JSONL, one folder or file each:
#   hf download PSRDataset/PSR-328 --repo-type dataset --local-dir data/benchmarks/psr
#   hf download peter-sushko/RealEdit --repo-type dataset --include '*test*' --local-dir data/benchmarks/realedit
#   hf download BleachNick/UltraEdit --repo-type dataset --include '*FreeForm_0-*' --local-dir data/benchmarks/ultraedit
exclude="data/benchmarks/psr data/benchmarks/realedit data/benchmarks/ultraedit"

# A twentieth of the photos, some 200 rows, is enough to see the reward to within about 0.03.
val_fraction=0.05
seed=0
# The pixel budget of examples/grpo_qwen25vl.yaml; the one of the LoRA script is half of it: max_pixels=501760.
min_pixels=3136
max_pixels=1003520

for pair in "$@"; do
  name=${pair%%=*}
  if [ "$name" = "$pair" ] || [[ ! $name =~ ^[a-z_]+$ ]] || [ -z "${!name+known}" ]; then
    echo "error: $pair is not one of the settings in $0; wanted key=value" >&2
    exit 2
  fi
  printf -v "$name" '%s' "${pair#*=}"
done
if [ -z "$annotator" ]; then
  echo "error: annotator=MODEL is needed: a vision-language model by its dated name, such as gpt-4o-2024-11-20" >&2
  exit 2
fi

build() {
  "${PYTHON:-python3}" data_prep/build_rl_dataset.py --seed "$seed" \
    --min-pixels "$min_pixels" --max-pixels "$max_pixels" "$@"
}

parts=()
for source in psr realedit ultraedit; do
  place=$source split=${source}_split rows=${source}_rows columns=${source}_columns
  [ "${!rows}" -gt 0 ] || continue
  echo "== $source: ${!rows} rows of ${!place}"
  # shellcheck disable=SC2086 # a list of paths
  build --source "$source" --input "${!place}" --output "$output/parts/$source" --limit "${!rows}" \
    ${!split:+--split "${!split}"} ${!columns:+--columns "${!columns}"} --val-fraction "$val_fraction" \
    --annotator "$annotator" ${base_url:+--base-url "$base_url"} --votes "$votes" --concurrency "$concurrency" \
    ${exclude:+--exclude $exclude}
  parts+=("$output/parts/$source")
done

# Together: each row keeps its split, and what two sources share is left out. Made anew, since parts may have changed.
echo "== all"
build --source rl-rows --input "${parts[@]}" --output "$output" --overwrite
