"""The `LLM` that EasyR1's rollout builds: a transformers model that takes the trained weights and samples from them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MethodType, SimpleNamespace
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer, GenerationConfig

from vllm.decoding import generate
from vllm.prompts import read_prompt
from vllm.sampling import SamplingParams
from vllm.weights import RolloutWeights

# rows x (prompt + response) that are decoded at once: about 70 MB of cache for a model of a million parameters
MAX_CACHED_TOKENS = 2**16


@dataclass
class CompletionOutput:
    token_ids: list[int]


@dataclass
class RequestOutput:
    """The answers to one prompt."""

    outputs: list[CompletionOutput]


class LLM:
    """A vision-language model. Takes vLLM's arguments and uses model, dtype, seed, load_format and max_model_len."""

    def __init__(
        self,
        model: str,
        trust_remote_code: bool = False,
        dtype: str = "float32",
        seed: int = 0,
        load_format: str = "auto",
        max_model_len: int | None = None,
        **_: Any,
    ) -> None:
        print(f"rollout=cpu-standin: {model} is sampled by transformers on the CPU, vLLM is not used")
        options: dict[str, Any] = {"torch_dtype": getattr(torch, dtype), "attn_implementation": "sdpa"}
        options["trust_remote_code"] = trust_remote_code
        if load_format == "dummy":
            # as in vLLM: random until the first synchronisation
            config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code)
            self.model = AutoModelForImageTextToText.from_config(config, **options).eval()
        else:
            self.model = AutoModelForImageTextToText.from_pretrained(model, **options).eval()
        for module in self.model.modules():
            if type(module) in _ORIGINAL_FORWARDS:
                module.forward = MethodType(_ORIGINAL_FORWARDS[type(module)], module)
        self.tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=trust_remote_code)
        # the fast one, as in EasyR1's worker: both must see the same pixels
        self.processor = AutoProcessor.from_pretrained(model, trust_remote_code=trust_remote_code, use_fast=True)
        try:
            ends = GenerationConfig.from_pretrained(model).eos_token_id
        except OSError:
            ends = None
        ends = self.tokenizer.eos_token_id if ends is None else ends
        self.end_tokens: list[int] = ends if isinstance(ends, list) else [ends]
        self.seed, self.max_model_len = seed, max_model_len
        self._streams: dict[int, torch.Generator] = {}
        self._weights = RolloutWeights(self.model)
        self._loras: set[int] = set()
        # the path on which EasyR1's sharding manager reaches the weights
        runner = SimpleNamespace(model=self._weights, encoder_cache={})
        executor = SimpleNamespace(driver_worker=SimpleNamespace(worker=SimpleNamespace(model_runner=runner)))
        self.llm_engine = SimpleNamespace(
            model_executor=executor, add_lora=self._add_lora, list_loras=lambda: set(self._loras)
        )

    def generate(
        self,
        prompts: list[Mapping[str, Any]],
        sampling_params: SamplingParams,
        lora_request: Any = None,
        use_tqdm: bool = False,
    ) -> list[RequestOutput]:
        """One RequestOutput with n completions for each prompt. The adapter is merged already, whatever the request."""
        read = [read_prompt(prompt, self.processor) for prompt in prompts]
        longest = max((len(prompt.token_ids) for prompt in read), default=0)
        if self.max_model_len is not None and longest > self.max_model_len:
            raise ValueError(f"a prompt has {longest} tokens, max_model_len is {self.max_model_len}")
        # as many at once as the cache has room for
        n = sampling_params.n
        at_once = max(1, MAX_CACHED_TOKENS // ((longest + sampling_params.max_tokens) * n))
        stream = self._stream(self.seed if sampling_params.seed is None else sampling_params.seed)
        outputs: list[RequestOutput] = []
        for start in range(0, len(read), at_once):
            part = read[start : start + at_once]
            samples = generate(self.model, part, sampling_params, self.end_tokens, self.tokenizer.pad_token_id, stream)
            groups = (samples[i : i + n] for i in range(0, len(samples), n))
            outputs += [RequestOutput([CompletionOutput(tokens) for tokens in group]) for group in groups]
        return outputs

    def sleep(self, level: int = 1) -> None:
        """Nothing to free: the model stays in memory."""

    def wake_up(self, tags: list[str] | None = None) -> None:
        """Nothing to load."""

    def _add_lora(self, request: Any) -> bool:
        self._weights.add_lora(request.lora_tensors, request.peft_config)
        self._loras = {request.lora_int_id}
        return True

    def _stream(self, seed: int) -> torch.Generator:
        if seed not in self._streams:
            # ranks sample different prompts and must not share their noise
            rank = int(os.environ.get("RANK", "0"))
            self._streams[seed] = torch.Generator().manual_seed(seed + 1_000_003 * rank)
        return self._streams[seed]


def _original_forwards() -> dict[type, Any]:
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen2_5
    from transformers.models.qwen2_vl import modeling_qwen2_vl as qwen2

    classes = [qwen2.Qwen2VLModel, qwen2.Qwen2VLForConditionalGeneration]
    classes += [qwen2_5.Qwen2_5_VLModel, qwen2_5.Qwen2_5_VLForConditionalGeneration]
    try:
        from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen3
    except ImportError:  # transformers < 4.57
        pass
    else:
        classes += [qwen3.Qwen3VLModel, qwen3.Qwen3VLForConditionalGeneration]
    return {cls: cls.forward for cls in classes}


# EasyR1 exchanges these methods for ones without a cache when padding_free=true (models/monkey_patch.py), after this
# module has been imported
_ORIGINAL_FORWARDS = _original_forwards()
