#!/usr/bin/env bash
# Serves the editor of the picture reward: FLUX.2 klein 4B, four steps an edit, by vLLM-Omni's /v1/images/edits.
#
#   pip install vllm==0.30.0 vllm-omni==0.30.0   # one version of both, in an environment of its own (Python 3.12)
#   CUDA_VISIBLE_DEVICES=6 bash examples/serve_editor.sh
#   CUDA_VISIBLE_DEVICES=6 MODEL=Qwen/Qwen-Image-Edit-2511 PORT=8200 bash examples/serve_editor.sh
#
# It makes one edit at a time: recipes_8xa100.md says when two servers are worth it. Further arguments go to vLLM-Omni.
# The same address is the editor of `ier1 edit --editor images-api:URL#MODEL`.
# Not run: this project's figures were made without a GPU.
set -euo pipefail
exec vllm serve "${MODEL:-black-forest-labs/FLUX.2-klein-4B}" --omni --host "${HOST:-127.0.0.1}" \
  --port "${PORT:-8200}" "$@"
