"""Stand-in for the part of vLLM that EasyR1 calls, on the CPU, in plain transformers.

    llm = LLM("/models/tiny", dtype="float32")
    llm.generate([{"prompt_token_ids": [5, 6, 7], "multi_modal_data": {"image": [photo]}}], SamplingParams(n=4))
    -> [RequestOutput(outputs=[CompletionOutput(token_ids=[...]), ...])]

Only importable as `vllm` after `ier1_plugin.training.cpu.install()`. Not covered: video, stop strings, penalties, log
probabilities, tensor parallelism, and everything about GPU memory.
"""

from __future__ import annotations

from vllm.engine import LLM, CompletionOutput, RequestOutput
from vllm.sampling import SamplingParams

__all__ = ["LLM", "CompletionOutput", "RequestOutput", "SamplingParams"]
__version__ = "0.8.5+cpu.standin"
