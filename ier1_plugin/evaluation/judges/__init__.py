"""Judges by name: vision-language models, and the pixel judge of the small world.

    make_judge("openai:gpt-4o-2024-11-20")                             # the key is in OPENAI_API_KEY
    make_judge("openai:http://127.0.0.1:8000/v1#Qwen/Qwen2.5-VL-72B")  # any server that speaks that protocol
    make_judge("gemini:gemini-2.5-flash", max_side=768)                # GEMINI_API_KEY or GOOGLE_API_KEY
    make_judge("pixel")                                                # compares with the gold edit; see pixel.py

Its server, also one that OPENAI_BASE_URL or GOOGLE_GEMINI_BASE_URL sets, and its settings are part of a judge's name.
"""

from __future__ import annotations

from typing import Any

from ier1_plugin.evaluation.judges.base import PIXEL, Judge

__all__ = ["PIXEL", "make_judge"]


def make_judge(spec: str, **settings: Any) -> Judge:
    """The judge that `spec` names. `settings`: see `vlm.vlm_judge`; the pixel judge takes none.

    EvaluationError: there is no such judge, or it is not available on this machine (no key, no client).
    """
    if spec == PIXEL:
        from ier1_plugin.evaluation.judges.pixel import pixel_judge

        return pixel_judge()
    from ier1_plugin.evaluation.judges.vlm import vlm_judge

    return vlm_judge(spec, **settings)
