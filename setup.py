"""Packaging. The minimum versions admit EasyR1's own container image (torch 2.8, vLLM 0.11, numpy < 2)."""

from pathlib import Path

from setuptools import find_packages, setup

BASE = [
    "jinja2>=3.1",
    "numpy>=1.26",
    "omegaconf>=2.3,<2.4",
    "pillow>=10.3",
    "scipy>=1.11",
    "tenacity>=8.2",
    "tqdm>=4.66",
    "typer>=0.15",
]
EXTRAS = {
    # ier1 edit and ier1 batch with servers: agents over openai, editors over openai and google-genai
    "edit": ["google-genai>=1.30", "openai>=2"],
    # agents and editors from weights in this process
    "local": ["accelerate", "diffusers>=0.36", "peft", "torch>=2.6", "transformers>=4.56"],
    # ier1 demo; from 6.16 on gradio wants huggingface_hub 1, which transformers 4 can't have
    "demo": ["gradio>=6,<6.16"],
    # raw edit data -> RL rows
    "data": [
        "datasets>=2.19",
        "ImageHash>=4.3",
        "openai>=1.60",
        "psutil>=5.9",
        "pyarrow>=15",
        "tokenizers>=0.15",
    ],
    # ier1 evaluate, report, agreement, annotate
    "evaluation": [
        "datasets>=2.19",
        "krippendorff>=0.8",
        "matplotlib>=3.8",
        "pandas>=2.2",
        "pyarrow>=15",
        "scikit-learn>=1.3",
        "scipy>=1.14",
        "starlette>=0.40",
        "statsmodels>=0.14",
        "uvicorn>=0.30",
    ],
    # the photographs of the small world
    "small-world": ["scikit-image>=0.22", "scikit-learn>=1.3"],
    "curves": ["matplotlib>=3.8", "tensorboard>=2.15"],
    # what EasyR1 needs on a machine without a GPU; EasyR1 itself, torchvision and torchdata: examples/make_venv.sh
    "easyr1-cpu": [
        "accelerate",
        "codetiming",
        "einops",
        "mathruler",
        "msgspec",
        "pandas",
        "peft<0.21",  # from 0.21 on EasyR1 trains no LoRA weights, without a word
        "pylatexenc",
        "ray[data,default]",
        "tensordict",
        "transformers>=4.57,<5",  # EasyR1 knows no transformers 5
        "wrapt>=1.14",
    ],
    "test": [
        "hypothesis>=6.100",
        "pyright[nodejs]>=1.1.380",
        "pytest>=8",
        "pytest-httpserver>=1.0.10",
        "pytest-timeout>=2.3",
        "ruff>=0.6",
        "selenium>=4.25",
        "setuptools>=68",
    ],
}

setup(
    name="imageedit-r1",
    version="0.1.0",
    description="ImageEdit-R1 as a thin plugin for EasyR1/verl",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    # nothing but ier1_plugin goes beside other people's packages; data_prep stays in the checkout
    packages=[*find_packages(include=["ier1_plugin*"]), "ier1_plugin.reward_fns"],
    package_dir={"ier1_plugin.reward_fns": "reward_fns"},
    package_data={"ier1_plugin": ["**/*.jinja", "**/*.css", "**/*.yaml", "training/cpu/site/**/*"]},
    install_requires=BASE,
    entry_points={
        "console_scripts": ["ier1=ier1_plugin.cli.main:main"],
        # both do nothing unless `ier1 train --host verl --cpu` runs
        "verl.plugins": ["imageedit_r1=ier1_plugin.training.verl"],
        "vllm.general_plugins": ["imageedit_r1=ier1_plugin.training.cpu.verl_platform:keep_weights"],
    },
    extras_require=EXTRAS | {"all": sorted({dep for deps in EXTRAS.values() for dep in deps})},
)
