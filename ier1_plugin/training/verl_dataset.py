"""Our rows for upstream verl: the same parquet files, prompt and pixel budget as in EasyR1, and so the same token ids.

    data.custom_cls.path: pkg://ier1_plugin.training.verl_dataset    data.custom_cls.name: EditDataset
    data.prompt_key, answer_key, image_key, format_prompt, min_pixels, max_pixels: as EasyR1 has them

    EditDataset("rl/train.parquet", tokenizer, config.data, processor)[0]
    -> {"raw_prompt": [{"role": "user", "content": [{"type": "image", "image": <56 x 56>}, {"type": "text", ...}]}],
        "data_source": "imageedit_r1", "reward_model": {"ground_truth": '{"actions": ...}'}, "extra_info": {...}, ...}

verl's agent loop renders the messages with the model's chat template and hands image and text to its processor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from verl.utils.dataset.rl_dataset import RLHFDataset

from ier1_plugin.prompts import path as prompt_path
from ier1_plugin.task.images import open_image, prepare
from ier1_plugin.task.rows import IMAGE_PLACEHOLDER

DATA_SOURCE = "imageedit_r1"
"""Of every row: verl takes the means of a validation over rows of one source."""


class EditDataset(RLHFDataset):
    def _build_messages(self, example: dict[str, Any], key: str) -> list[dict[str, Any]]:
        """One user turn: the prompt file around the request, each <image> of it in its place."""
        from jinja2 import Template

        file = self.config.get("format_prompt") or prompt_path("decompose")
        # strip() and a lenient Template, as EasyR1 has it (verl/utils/dataset.py there)
        text = Template(Path(file).read_text(encoding="utf-8").strip()).render(content=example[key])
        budget = self.config.get("min_pixels"), self.config.get("max_pixels")
        images = [open_image(image["bytes"]) for image in example[self.image_key]]
        if None not in budget:
            images = [prepare(image, *budget) for image in images]
        content: list[dict[str, Any]] = []
        for position, part in enumerate(text.split(IMAGE_PLACEHOLDER)):
            content += [{"type": "image", "image": images[position - 1]}] if position else []
            content += [{"type": "text", "text": part}] if part else []
        return [{"role": "user", "content": content}]

    def __getitem__(self, item: int) -> dict[str, Any]:
        row = super().__getitem__(item)
        row["reward_model"] = {"ground_truth": row.pop(self.config.get("answer_key", "answer"))}
        row["data_source"] = DATA_SOURCE
        row["extra_info"] = {"index": item, "id": row.get("id")}
        return row

    @classmethod
    def _process_multi_modal_info(cls, messages: list[dict[str, Any]], image_patch_size: int, config: Any) -> Any:
        """(images, videos, audios) of the messages, which are ready for the processor; verl's own would resize them."""
        return (
            [part["image"] for message in messages for part in message["content"] if part["type"] == "image"],
            None,
            None,
        )
