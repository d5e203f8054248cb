"""A vision-language model in this process: the weights of a folder, through transformers, on the GPU or the CPU.

    chat = LocalChat("checkpoints/easy_r1/qwen25vl_7b/decomposer-step-80")
    chat.budget    # (3136, 1003520), from the folder's decomposer.json
    chat(ChatRequest(messages("remove the lamp"), (photo,))).text      # "<think> The lamp goes. </think> ..."

Token ids are those of EasyR1's dataset for the same row: same template, same processor call (verl/utils/dataset.py).
"""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

from ier1_plugin.chat.request import BUDGET, Chat, ChatError, ChatRequest, Completion, RequestRejected
from ier1_plugin.prompts import path as prompt_path
from ier1_plugin.task.decomposer import FILE_NAME, HUB_ID, Decomposer, DecomposerError


class LocalChat(Chat):
    """The weights in one folder. Threads take turns."""

    local = True

    def __init__(self, folder: str, budget: tuple[int, int] | None, max_tokens: int) -> None:
        """`folder`: one with weights, or a model id of the hub. ChatError: there are none, or they can't be loaded."""
        self.name = f"local:{folder}"
        self.facts = decomposer_facts(Path(folder))
        self.max_tokens = max_tokens
        self.budget = budget or ((self.facts.min_pixels, self.facts.max_pixels) if self.facts else BUDGET)
        if self.facts:
            prompt = Path(folder) / self.facts.prompt
            if not prompt.is_file():
                raise ChatError(f"{prompt} is missing: {FILE_NAME} beside it names it as the prompt of the training")
            same = prompt.read_bytes() == prompt_path("decompose").read_bytes()
            self.prompt = None if same else prompt
        self._lock = threading.Lock()
        self._model: Any
        self._processor: Any
        self._model, self._processor = _load(folder)

    def __call__(self, request: ChatRequest, /) -> Completion:
        if request.schema:
            raise ChatError(f"{self.name} can't be held to a schema; serve it (ier1 serve) or leave it out")
        import torch

        # no more than the training allowed: a model that never had to stop later rambles on
        longest = min(request.max_tokens, (self.facts and self.facts.max_response_length) or request.max_tokens)
        sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if request.temperature:
            # from all tokens, whatever generation_config.json says; a top_k of None would mean the 50 likeliest
            sampling = {"do_sample": True, "temperature": request.temperature, "top_p": 1.0, "top_k": 0}
        with self._lock:
            if self._model is None:
                raise ChatError(f"{self.name} is closed")
            try:
                inputs = self.inputs(request).to(self._model.device)
                with torch.inference_mode(), torch.random.fork_rng():
                    torch.manual_seed(request.seed)
                    output = self._model.generate(**inputs, max_new_tokens=longest, repetition_penalty=1.0, **sampling)
            except torch.OutOfMemoryError:
                raise ChatError(f"{self.name}: out of GPU memory; free some, or lower --max-pixels") from None
            except ValueError as error:
                raise RequestRejected(f"{self.name} can't take the request: {error}") from None
            asked = inputs["input_ids"].shape[1]
            reply = output[0, asked:]
            return Completion(
                text=self._processor.tokenizer.decode(reply, skip_special_tokens=True),
                cut_off=len(reply) >= longest,
                model=self.name,
                prompt_tokens=asked,
                completion_tokens=len(reply),
            )

    def inputs(self, request: ChatRequest) -> Any:
        """The model's inputs: input_ids [1, n], attention_mask [1, n], pixel_values [patches, values], ..."""
        from ier1_plugin.task.images import open_image

        prompt = self._processor.apply_chat_template(request.messages, add_generation_prompt=True, tokenize=False)
        images = [open_image(image) if isinstance(image, bytes) else image for image in request.images]
        return self._processor(images or None, [prompt], add_special_tokens=False, return_tensors="pt")

    def close(self) -> None:
        """Frees the memory of the weights."""
        import torch

        with self._lock:
            self._model = self._processor = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def decomposer_facts(folder: Path) -> Decomposer | None:
    """The folder's decomposer.json; None for weights from elsewhere, such as the base model. ChatError: it is
    damaged."""
    try:
        return Decomposer.read(folder) if (folder / FILE_NAME).exists() else None
    except DecomposerError as error:
        raise ChatError(str(error)) from None


def check_weights(folder: str) -> None:
    """ChatError: it is neither a folder with weights nor a model id of the hub."""
    if not (Path(folder) / "config.json").is_file() and (Path(folder).exists() or not HUB_ID.fullmatch(folder)):
        raise ChatError(f"no model in {folder}: config.json is missing; make one with ier1 merge")


def _load(folder: str) -> tuple[Any, Any]:
    """The model, on the GPU if there is one, and its processor."""
    check_weights(folder)
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
            # fails once where the hub can't be reached; transformers would ask for every file, over and over, aloud
            from huggingface_hub import hf_hub_download
            from huggingface_hub.utils import logging

            logging.set_verbosity_error()
            hf_hub_download(folder, "config.json")
        processor = AutoProcessor.from_pretrained(folder)
        model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype="auto" if gpu else torch.float32)
    except Exception as error:  # the hub client, safetensors and transformers each raise their own
        reason = str(error).strip().split("\n")[0]
        raise ChatError(f"{folder} can't be loaded as a vision-language model: {reason}") from error
    return model.to("cuda" if gpu else "cpu").eval(), processor
