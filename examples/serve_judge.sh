#!/usr/bin/env bash
# Serves the judge of the picture reward, Qwen3-VL-8B-Instruct, by vLLM.
#
#   CUDA_VISIBLE_DEVICES=7 bash examples/serve_judge.sh
#   CUDA_VISIBLE_DEVICES=7 MODEL=Qwen/Qwen2.5-VL-7B-Instruct PORT=8201 bash examples/serve_judge.sh
#
# Further arguments go to vLLM, such as --gpu-memory-utilization 0.5 where an editor shares the GPU. The same address is
# the judge of `ier1 evaluate --judge openai:URL#MODEL`.
# Not run: this project's figures were made without a GPU.
set -euo pipefail
exec vllm serve "${MODEL:-Qwen/Qwen3-VL-8B-Instruct}" --host "${HOST:-127.0.0.1}" --port "${PORT:-8201}" \
  --max-model-len 16384 --limit-mm-per-prompt '{"image": 2, "video": 0}' "$@"
