"""What each editor needs and whether it is available on this machine, without loading any of it.

describe(["gpt-image"])[0].why    # "OPENAI_API_KEY is not set"
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from ier1_plugin.chat.gemini import KEY_NAMES
from ier1_plugin.editors.base import is_installed, packages_of
from ier1_plugin.editors.local.icedit import LORA, MODEL
from ier1_plugin.editors.local.loading import PACKAGES, is_cached, is_offline
from ier1_plugin.runs.hardware import has_gpu

KONTEXT = "black-forest-labs/FLUX.1-Kontext-dev"
QWEN, QWEN_PLUS = "Qwen/Qwen-Image-Edit", "Qwen/Qwen-Image-Edit-2511"


@dataclass(frozen=True)
class Needs:
    """What an editor is and what it needs."""

    summary: str = ""
    usage: str = ""
    """How its spec is written, if that is more than its name."""
    packages: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    """Environment variables, one of which must be set."""
    weights: tuple[str, ...] = ()
    """Hub ids."""
    gigabytes: int = 0
    """Of the weights in bfloat16, counted from the sizes of their parameters."""


@dataclass(frozen=True)
class Description:
    """One line of `ier1 models`."""

    name: str
    summary: str
    usage: str
    available: bool
    why: str
    """What is missing, or what to know before using it; empty if there is nothing."""


NEEDS: dict[str, Needs] = {
    "flux-kontext": Needs(
        "FLUX.1-Kontext-dev by diffusers", "flux-kontext[:FOLDER]", PACKAGES, weights=(KONTEXT,), gigabytes=34
    ),
    "qwen-image-edit": Needs(
        "Qwen-Image-Edit by diffusers", "qwen-image-edit[:FOLDER]", PACKAGES, weights=(QWEN,), gigabytes=58
    ),
    "qwen-image-edit-plus": Needs(
        "Qwen-Image-Edit-2511 by diffusers",
        "qwen-image-edit-plus[:FOLDER]",
        PACKAGES,
        weights=(QWEN_PLUS,),
        gigabytes=58,
    ),
    "diffusers": Needs("any editing pipeline of diffusers", "diffusers:FOLDER or diffusers:HUB_ID", PACKAGES),
    "icedit": Needs(
        "FLUX.1-Fill-dev with the ICEdit LoRA, on a diptych",
        "icedit[:FOLDER]",
        (*PACKAGES, "peft"),
        weights=(MODEL, LORA),
        gigabytes=34,
    ),
    "nano-banana": Needs("Google's image model", "nano-banana[:MODEL]", ("google.genai",), KEY_NAMES),
    "gpt-image": Needs("OpenAI's image models", "gpt-image[:MODEL]", ("openai",), ("OPENAI_API_KEY",)),
    "images-api": Needs(
        "any server with OpenAI's /v1/images/edits: vllm-omni, SGLang, a proxy", "images-api:URL#MODEL", ("openai",)
    ),
    "seededit": Needs("SeedEdit 3.0 on Volcengine Ark", "seededit[:MODEL]", ("openai",), ("ARK_API_KEY",)),
    "folder": Needs("finished images of another system, by item id", "folder:DIR"),
    "pillow": Needs("exact edits without a model: crop, flip, rotate, resize, tone, tint, blur, border, caption"),
    "route": Needs("exact edits to one editor, the rest to another", "route:EXACT,GENERATIVE"),
}


def memory_gb() -> int:
    """Memory of the machine, in gigabytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 10**9


def describe(names: Iterable[str]) -> list[Description]:
    """A description of each name; one that is not in NEEDS is assumed to need nothing."""
    descriptions = []
    for name in names:
        needs, missing, notes = NEEDS.get(name, Needs()), [], []
        packages = packages_of(module for module in needs.packages if not is_installed(module))
        if packages:
            missing.append(f"pip install {packages}")
        if needs.keys and not any(os.environ.get(key, "").strip() for key in needs.keys):
            missing.append(f"{' or '.join(needs.keys)} is not set")
        absent = ", ".join(hub_id for hub_id in needs.weights if not is_cached(hub_id))
        if absent and is_offline():
            missing.append(f"{absent}: not downloaded, and HF_HUB_OFFLINE is set")
        elif absent:
            notes.append(f"{absent} will be downloaded ({needs.gigabytes} GB)")
        if "diffusers" in needs.packages and not has_gpu():
            # a CPU computes in float32, which takes twice the room
            if memory_gb() < 2 * needs.gigabytes:
                missing.append(
                    f"no GPU was found, and {needs.gigabytes} GB of weights do not fit into {memory_gb()} GB"
                )
            else:
                notes.append("no GPU was found: very slow")
        descriptions.append(
            Description(name, needs.summary, needs.usage or name, not missing, "; ".join(missing + notes))
        )
    return descriptions
