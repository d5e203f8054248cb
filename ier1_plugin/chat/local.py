"""A vision-language model in this process: the weights of a folder, through transformers, on the GPU or the CPU.

    chat = LocalChat("checkpoints/easy_r1/qwen25vl_7b/decomposer-step-80")
    chat.budget    # (3136, 1003520), from the folder's decomposer.json
    chat(Question(messages("remove the lamp"), (photo,)))      # "<think> The lamp goes. </think> ..."

Token ids are those of EasyR1's dataset for the same row: same template, same processor call (verl/utils/dataset.py).
"""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

from ier1_plugin.chat import BUDGET, ChatRequest
from ier1_plugin.chat.server import ChatError, RequestRejected
from ier1_plugin.prompts import path as prompt_path
from ier1_plugin.task.decomposer import FILE_NAME, HUB_ID, Decomposer, DecomposerError


class LocalChat:
    """What `chat.local_chat` makes. Threads take turns."""

    local = True

    def __init__(self, folder: str, budget: tuple[int, int] | None = None) -> None:
        """`folder`: with weights, or a model id of the hub. ChatError: nothing there, or nothing that can be loaded."""
        self.name = f"local:{folder}"
        self.facts = _facts(folder)
        self.budget = budget or ((self.facts.min_pixels, self.facts.max_pixels) if self.facts else BUDGET)
        self.prompt = _own_prompt(Path(folder), self.facts)
        self._lock = threading.Lock()
        self._model: Any
        self._processor: Any
        self._model, self._processor = _load(folder)

    def __call__(self, question: ChatRequest) -> str:
        """RequestRejected: the model can't take this question. ChatError: it is closed, or out of memory."""
        if question.schema:
            raise ChatError(
                f"{self.name} can't be held to a schema; serve it (python -m ier1_plugin.training.serve) or leave it out"
            )
        with self._lock:
            if self._model is None:
                raise ChatError(f"{self.name} is closed")
            return self._answer(question)

    def inputs(self, question: ChatRequest) -> Any:
        """What the model gets: input_ids [1, n], attention_mask [1, n], pixel_values [patches, values], ..."""
        prompt = self._processor.apply_chat_template(question.messages, add_generation_prompt=True, tokenize=False)
        images = list(question.images) or None
        return self._processor(images, [prompt], add_special_tokens=False, return_tensors="pt")

    def close(self) -> None:
        """Frees the memory of the weights."""
        import torch

        with self._lock:
            self._model = self._processor = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _longest(self, question: ChatRequest) -> int:
        """In tokens; never more than the training allowed: a model that never had to stop later rambles on."""
        trained = self.facts.max_response_length if self.facts else None
        return min(question.max_tokens, trained or question.max_tokens)

    def _answer(self, question: ChatRequest) -> str:
        import torch

        try:
            inputs = self.inputs(question).to(self._model.device)
            with torch.inference_mode(), torch.random.fork_rng():
                torch.manual_seed(question.seed)
                output = self._model.generate(**inputs, max_new_tokens=self._longest(question), **_sampling(question))
        except torch.OutOfMemoryError:
            raise ChatError(f"{self.name}: out of GPU memory; free some, or lower --max-pixels") from None
        except ValueError as error:
            raise RequestRejected(f"{self.name} can't take the question: {error}") from None
        reply = output[0, inputs["input_ids"].shape[1] :]
        return self._processor.tokenizer.decode(reply, skip_special_tokens=True)


def _sampling(question: ChatRequest) -> dict[str, Any]:
    """Greedy, or from all tokens, whatever the folder's generation_config.json says."""
    plain = {"top_p": None, "top_k": None, "repetition_penalty": 1.0}
    if question.temperature == 0:
        return plain | {"do_sample": False, "temperature": None}
    # None would mean the 50 likeliest tokens
    return plain | {"do_sample": True, "temperature": question.temperature, "top_k": 0, "top_p": 1.0}


def _facts(folder: str) -> Decomposer | None:
    """None for weights that did not come from `python -m ier1_plugin.training.export`, such as the base model."""
    if not (Path(folder) / FILE_NAME).exists():
        return None
    try:
        return Decomposer.read(Path(folder))
    except DecomposerError as error:
        raise ChatError(str(error)) from None


def _own_prompt(folder: Path, facts: Decomposer | None) -> Path | None:
    """The prompt that lies beside the weights, if they were trained with another than this package's."""
    if facts is None:
        return None
    prompt = folder / facts.prompt
    if not prompt.is_file():
        raise ChatError(f"{prompt} is missing: {folder / FILE_NAME} names it as the prompt of the training")
    return None if prompt.read_bytes() == prompt_path("decompose").read_bytes() else prompt


def _load(folder: str) -> tuple[Any, Any]:
    """The model, on the GPU if there is one, and its processor."""
    if not (Path(folder) / "config.json").is_file() and (Path(folder).exists() or not HUB_ID.fullmatch(folder)):
        raise ChatError(
            f"no model in {folder}: config.json is missing; make one with python -m ier1_plugin.training.export"
        )
    try:
        import torch

        from ier1_plugin.chat.torchvision_ops import define_missing_schemas

        # before transformers looks for torchvision
        define_missing_schemas(torch)
        from transformers import AutoModelForImageTextToText, AutoProcessor
    except ImportError as error:
        raise ChatError(f"local: needs torch and transformers ({error}); pip install -e '.[local]'") from None
    gpu = torch.cuda.is_available()
    try:
        if not Path(folder).is_dir():
            _find_on_the_hub(folder)
        processor = AutoProcessor.from_pretrained(folder)
        model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto" if gpu else torch.float32)
    except Exception as error:  # the hub client, safetensors and transformers each raise their own
        reason = str(error).strip().split("\n")[0]
        raise ChatError(f"{folder} can't be loaded as a vision-language model: {reason}") from error
    return model.to("cuda" if gpu else "cpu").eval(), processor


def _find_on_the_hub(model_id: str) -> None:
    """Fails once where the hub can't be reached; transformers would ask for every file, over and over, aloud."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()
    hf_hub_download(model_id, "config.json")
