"""How many tokens a prompt has, from the request's text and the image's size: no pixel is decoded.

    Ruler(processor, template, min_pixels=3136, max_pixels=1003520).exact("<image>Remove the lamp", [(640, 480)])

The same count as `input_ids` of EasyR1's dataset (verl/utils/dataset.py), which decodes every image for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ier1_plugin.task.images import fit_size
from ier1_plugin.task.rows import IMAGE_PLACEHOLDER
from ier1_plugin.training.preflight.host import ask_hub, model_config

Size = tuple[int, int]
NO_LIMIT = 1 << 62
# characters of the fixed prompt on each side of a request that may change how its ends are cut into tokens
SEAM = 24


class PromptLength:
    """Measures prompts with a model's own tokenizer and image processor."""

    def __init__(self, processor: Any, template: str, min_pixels: int | None, max_pixels: int | None):
        from jinja2 import Template

        self._processor = processor
        # strip() and a lenient Template, as EasyR1 has it
        self._template = Template(template.strip())
        self._budget = (min_pixels or 1, max_pixels or NO_LIMIT)
        self._fixed: int | None = None

    def render(self, problem: str) -> str:
        return self._template.render(content=problem)

    def image_tokens(self, sizes: Sequence[Size]) -> int:
        """Tokens of images of `sizes` (width, height); ValueError if the processor refuses a shape."""
        return sum(map(self._image_tokens, sizes))

    def exact(self, problem: str, sizes: Sequence[Size]) -> int:
        """Tokens of the whole prompt, chat turn and images included."""
        content = []
        for position, text in enumerate(self.render(problem).split(IMAGE_PLACEHOLDER)):
            content += [{"type": "image"}] if position else []
            content += [{"type": "text", "text": text}] if text else []
        turns = [{"role": "user", "content": content}]
        prompt = self._processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        # each image stands for one token in the text
        return self._text_tokens([prompt])[0] + self.image_tokens(sizes) - len(sizes)

    def fast(self, rows: Sequence[tuple[str, Sequence[Size]]]) -> list[int]:
        """Tokens of many (problem, sizes): the fixed words of the prompt are counted once, at the first row."""
        if not rows:
            return []
        windows = self._text_tokens([self._window(problem) for problem, _ in rows])
        own = [text + self.image_tokens(sizes) - len(sizes) for text, (_, sizes) in zip(windows, rows, strict=True)]
        if self._fixed is None:
            self._fixed = self.exact(*rows[0]) - own[0]
        fixed = self._fixed
        return [tokens + fixed for tokens in own]

    def _window(self, problem: str) -> str:
        before, request, after = self.render(problem).partition(problem.strip())
        window = before[-SEAM:] + request + after[:SEAM] if request else before
        return window.replace(IMAGE_PLACEHOLDER, getattr(self._processor, "image_token", ""))

    def _image_tokens(self, size: Size) -> int:
        width, height = fit_size(size, *self._budget)
        images = self._processor.image_processor
        return images.get_number_of_image_patches(height, width, {}) // images.merge_size**2

    def _text_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in self._processor.tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def load_processor(config: Any) -> tuple[Any, str]:
    """The model's processor and "", or None and why prompts can't be measured with it."""
    path = config.worker.actor.model.model_path
    unreadable = model_config(path)[1] if path else "no model is set"
    if unreadable:
        return None, unreadable
    try:
        processor = _processor(config)
    except Exception as error:  # the hub client, transformers and torchvision raise their own
        return None, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    if not hasattr(getattr(processor, "image_processor", None), "get_number_of_image_patches"):
        return None, f"{type(processor).__name__} can't tell the tokens of an image from its size"
    return processor, ""


def _processor(config: Any) -> Any:
    """As EasyR1 loads it (verl/trainer/main.py), with its chat template if one is given."""
    from verl.utils.tokenizer import get_processor

    model = config.worker.actor.model
    options = {"trust_remote_code": model.trust_remote_code, "use_fast": True}
    arguments = (model.model_path, config.data.override_chat_template)
    try:
        return get_processor(*arguments, local_files_only=True, **options)
    except OSError:  # not in the cache, or not all of it
        ask_hub(model.model_path)
        return get_processor(*arguments, **options)
