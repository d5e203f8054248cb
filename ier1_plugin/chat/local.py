"""A vision-language model in this process: the weights of a folder, through transformers, on the GPU or the CPU.

    chat = LocalChat("checkpoints/easy_r1/qwen25vl_7b/decomposer-step-80")
    chat.budget    # (3136, 1003520), from the folder's decomposer.json
    chat(ChatRequest(messages("remove the lamp"), (photo,))).text      # "<think> The lamp goes. </think> ..."

Token ids are those of EasyR1's dataset for the same row: same template, same processor call (verl/utils/dataset.py).
Requests that threads make at the same time are answered together, as one batch. In it a row's floating-point sums are
added up in another order than alone, so that now and then, between two tokens that are all but equally likely, a greedy
answer may take the other one.
"""

from __future__ import annotations

import gc
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ier1_plugin.chat.request import BUDGET, Chat, ChatError, ChatRequest, Completion, RequestRejected
from ier1_plugin.prompts import path as prompt_path
from ier1_plugin.task.decomposer import FILE_NAME, HUB_ID, Decomposer, DecomposerError

MAX_BATCH, BATCH_TOKENS = 64, 16_384
"""Most requests answered together, and most tokens of their padded prompts: a dozen images of the full BUDGET. As many
callers fill batches; of large images a second one gathers while the first is answered."""


@dataclass(eq=False)
class _Waiting:
    """A request that waits for its reply."""

    inputs: Any
    """As `LocalChat.inputs`."""
    max_tokens: int
    temperature: float
    seed: int
    alone: bool
    """True: in no batch with others. A sample has to depend on its own seed only."""
    reply: Completion | None = None

    def tokens(self) -> int:
        return self.inputs["input_ids"].shape[1]


class LocalChat(Chat):
    """The weights in one folder. Greedy requests of several threads are answered together."""

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
        self._model: Any
        self._processor: Any
        self._model, self._processor = _load(folder)
        self._preparing = threading.Lock()
        self._turn = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._busy = self._closed = False
        self._batch = MAX_BATCH

    def __call__(self, request: ChatRequest, /) -> Completion:
        if request.schema:
            raise ChatError(f"{self.name} can't be held to a schema; serve it (ier1 serve) or leave it out")
        import torch

        # no more than the training allowed: a model that never had to stop later rambles on
        longest = min(request.max_tokens, (self.facts and self.facts.max_response_length) or request.max_tokens)
        try:
            # fast tokenizers can't be used by two threads at a time
            with self._preparing:
                inputs = self.inputs(request)
        except ValueError as error:
            raise RequestRejected(f"{self.name} can't take the request: {error}") from None
        mine = _Waiting(inputs, longest, request.temperature, request.seed, alone=bool(request.temperature))
        with self._turn:
            self._waiting.append(mine)
        try:
            # the thread whose turn it is answers for those that wait; what it can't answer, they try themselves
            while True:
                with self._turn:
                    self._turn.wait_for(lambda: mine.reply or not self._busy)
                    if mine.reply:
                        return mine.reply
                    if self._closed:
                        raise ChatError(f"{self.name} is closed")
                    batch, self._busy = self._batch_of(mine), True
                try:
                    self._answer(batch)
                except torch.OutOfMemoryError:
                    if len(batch) == 1:
                        raise ChatError(f"{self.name}: out of GPU memory; free some, or lower --max-pixels") from None
                    self._batch = len(batch) // 2
                except (ValueError, RuntimeError) as error:
                    if len(batch) == 1 and isinstance(error, ValueError):
                        raise RequestRejected(f"{self.name} can't take the request: {error}") from None
                    if len(batch) == 1:
                        raise
                    mine.alone = True
                finally:
                    with self._turn:
                        self._busy = False
                        self._turn.notify_all()
        finally:
            with self._turn:
                self._waiting.remove(mine)

    def _batch_of(self, mine: _Waiting) -> list[_Waiting]:
        """`mine` and those that can be answered with it."""
        batch, longest = [mine], mine.tokens()
        for other in self._waiting:
            padded = max(longest, other.tokens()) * (len(batch) + 1)
            if mine.alone or len(batch) == self._batch:
                break
            if other is mine or other.alone or other.reply or padded > BATCH_TOKENS:
                continue
            # with images and without them are two kinds of input
            if other.max_tokens == mine.max_tokens and other.inputs.keys() == mine.inputs.keys():
                batch.append(other)
                longest = max(longest, other.tokens())
        return batch

    def _answer(self, batch: list[_Waiting]) -> None:
        """Fills in the replies. Requests of a batch have the same `max_tokens`; one that samples is alone."""
        import torch

        first, asked = batch[0], max(each.tokens() for each in batch)
        sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if first.temperature:
            # from all tokens, whatever generation_config.json says; a top_k of None would mean the 50 likeliest
            sampling = {"do_sample": True, "temperature": first.temperature, "top_p": 1.0, "top_k": 0}
        # prompts are padded on the left, so that all of them end where the replies begin
        padding = {"input_ids": self._processor.tokenizer.pad_token_id or 0}
        inputs = {}
        for name, value in first.inputs.items():
            rows = [each.inputs[name] for each in batch]
            if value.shape[:2] == first.inputs["input_ids"].shape:
                rows = [
                    torch.cat([row.new_full((1, asked - row.shape[1], *row.shape[2:]), padding.get(name, 0)), row], 1)
                    for row in rows
                ]
            inputs[name] = torch.cat(rows).to(self._model.device)
        with torch.inference_mode(), torch.random.fork_rng():
            torch.manual_seed(first.seed)
            output = self._model.generate(**inputs, max_new_tokens=first.max_tokens, repetition_penalty=1.0, **sampling)
        ends = self._model.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends}
        for each, reply in zip(batch, output[:, asked:].tolist(), strict=True):
            # behind its end a row is padded to the longest reply
            end = next((place for place, token in enumerate(reply) if token in ends), None)
            reply = reply if end is None else reply[: end + 1]
            each.reply = Completion(
                text=self._processor.tokenizer.decode(reply, skip_special_tokens=True),
                cut_off=end is None,
                model=self.name,
                prompt_tokens=each.tokens(),
                completion_tokens=len(reply),
            )

    def inputs(self, request: ChatRequest) -> Any:
        """The model's inputs: input_ids [1, n], attention_mask [1, n], pixel_values [patches, values], ..."""
        from ier1_plugin.task.images import open_image

        prompt = self._processor.apply_chat_template(request.messages, add_generation_prompt=True, tokenize=False)
        images = [open_image(image) if isinstance(image, bytes) else image for image in request.images]
        return self._processor(images or None, [prompt], add_special_tokens=False, return_tensors="pt")

    def close(self) -> None:
        """Frees the memory of the weights, as soon as the batch under way is answered."""
        import torch

        with self._turn:
            self._closed = True
            self._turn.wait_for(lambda: not self._busy)
            self._model = None
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
    prepare_step_masks(model)
    return model.to("cuda" if gpu else "cpu").eval(), processor


def prepare_step_masks(model: Any) -> None:
    """Spares a padded batch the cost of its masks while tokens are generated one at a time.

    transformers 4.57 builds the mask of each step with torch.vmap (masking_utils.sdpa_mask_recent_torch), which takes
    longer than the step of a small model. A single new token sees all that is not padding; a mask with four dimensions
    that says so is taken as it is. Models with other than full attention stay as they are.
    """
    import torch

    text_model: Any = getattr(getattr(model, "model", None), "language_model", None)
    config: Any = getattr(text_model, "config", None)
    if set(getattr(config, "layer_types", None) or ()) != {"full_attention"} or config._attn_implementation != "sdpa":
        return

    def prepare(module: Any, arguments: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        mask: Any = options.get("attention_mask")
        new: Any = options.get("inputs_embeds")
        # a row alone has no padding, and needs no mask
        padded = isinstance(mask, torch.Tensor) and mask.ndim == 2 and len(mask) > 1
        if padded and new is not None and new.shape[1] == 1:
            options["attention_mask"] = mask[:, None, None, :].bool()
        return arguments, options

    text_model.register_forward_pre_hook(prepare, with_kwargs=True)
