#!/usr/bin/env bash
# Makes .venv for the quickstart and the tests: EasyR1 from PyPI, what it needs without a GPU, and this package.
# Does nothing when .venv is up to date. IER1_VENV names another folder, TORCH_INDEX_URL another index for torch, for
# instance PyTorch's CPU index, so that a laptop need not fetch CUDA.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${IER1_VENV:-.venv}
python=${PYTHON:-python3}
wanted=$(cat examples/make_venv.sh constraints.txt setup.py | sha256sum | cut -d' ' -f1)
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

echo "Making $venv (about 2 GB; minutes on a slow line)"
"$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
# torch first and alone: whatever is installed after it finds it there and does not bring a CUDA build
echo "  torch"
pip ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} torch==2.13.0
echo "  what EasyR1 and this package need"
pip -c constraints.txt -e '.[all]'
echo "  EasyR1"
# --no-deps: EasyR1 asks for vllm and flash-attn, torchvision for a torch of its own
pip -c constraints.txt --no-deps lazyllm-verl==0.3.2.dev2 torchvision torchdata qwen-vl-utils av
echo "$wanted" >"$venv/.made-from"
