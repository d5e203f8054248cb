#!/usr/bin/env bash
# Merges the shards of an EasyR1 checkpoint into a Hugging Face folder: weights, tokenizer, processor with the pixel
# limits of the training, prompt, decomposer.json and a model card. Needs neither EasyR1 nor a GPU.
#
#   bash examples/merge_checkpoint.sh checkpoints/imageedit_r1/qwen25vl_7b_grpo                  # its last step
#   bash examples/merge_checkpoint.sh checkpoints/imageedit_r1/qwen25vl_7b_grpo/global_step_80 out=decomposer upload=me/decomposer
#
# key=value sets the option --key of `ier1 merge` (see its --help): out, config, min_pixels, max_pixels,
# prompt, base_model, dtype, upload.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
if [ -z "${PYTHON:-}" ] && [ -x "$root/.venv/bin/python" ]; then
    python=$root/.venv/bin/python
fi

arguments=()
for argument in "$@"; do
    if [[ $argument =~ ^(out|config|min_pixels|max_pixels|prompt|base_model|dtype|upload)=(.*)$ ]]; then
        arguments+=("--${BASH_REMATCH[1]//_/-}" "${BASH_REMATCH[2]}")
    else
        arguments+=("$argument")
    fi
done
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m ier1_plugin.cli merge ${arguments[@]+"${arguments[@]}"}
