#!/usr/bin/env bash
# Makes .venv-transformers5: the editors beside a newer pair of diffusers and transformers than EasyR1 allows. It serves
# one test, which shows that Qwen-Image-Edit gets wrong positions there unless they are repaired:
#   bash examples/make_venv_transformers5.sh
#   IER1_TRANSFORMERS5_PYTHON=.venv-transformers5/bin/python bash tests/run.sh --full -k positions
# TORCH_INDEX_URL names another index for torch, for instance PyTorch's CPU index.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=${IER1_VENV_TRANSFORMERS5:-.venv-transformers5}
python=${PYTHON:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "$python is $("$python" --version 2>&1); wanted Python 3.10 or newer. Name one: PYTHON=python3.11 bash $0" >&2
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
# torchvision 0.28 wants exactly this torch; newer ones would replace it
pip torchvision==0.28.0 diffusers==0.42.1 'transformers>=5.3,<6' accelerate safetensors -e .
"$venv/bin/python" -m pip check
