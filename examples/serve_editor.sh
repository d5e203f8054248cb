#!/usr/bin/env bash
# Serves the editor of the picture reward: FLUX.2 klein 4B, four steps an edit, by vLLM-Omni's /v1/images/edits.
#
#   pip install vllm-omni    # in an environment of its own: it pins other versions than this project
#   CUDA_VISIBLE_DEVICES=6 bash examples/serve_editor.sh
#   CUDA_VISIBLE_DEVICES=6 MODEL=Qwen/Qwen-Image-Edit-2511 PORT=8200 bash examples/serve_editor.sh
#
# Further arguments go to vLLM-Omni. The same address is the editor of `ier1 edit --editor images-api:URL#MODEL`.
# Not run: this project's figures were made without a GPU.
set -euo pipefail
exec vllm serve "${MODEL:-black-forest-labs/FLUX.2-klein-4B}" --omni --host "${HOST:-127.0.0.1}" \
  --port "${PORT:-8200}" "$@"
