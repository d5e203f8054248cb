#!/usr/bin/env bash
# Serves a merged decomposer (examples/merge_checkpoint.sh) with vLLM's OpenAI-compatible server, with the pixel limits
# that it was trained with. Needs vLLM and a GPU.
#
#   bash examples/serve_decomposer.sh checkpoints/.../decomposer-step-80
#   bash examples/serve_decomposer.sh FOLDER port=8001 tensor_parallel_size=2 host=0.0.0.0 -- --enforce-eager
#
# key=value sets vLLM's option --key; what stands after -- is passed on as it is.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python3}" -m ier1_plugin.cli serve "$@"
