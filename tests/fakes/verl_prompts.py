"""Run by test_verl_host.py in verl's environment: what verl's agent loop makes of our rows.

python tests/fakes/verl_prompts.py MODEL train.parquet out.json
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import torch
from omegaconf import OmegaConf

from ier1_plugin.chat.torchvision_ops import define_missing_schemas

define_missing_schemas(torch)
from transformers import AutoProcessor  # noqa: E402
from verl.utils.tokenizer.continuous_token_wiring import (  # noqa: E402  # pyright: ignore[reportMissingImports]
    create_continuous_token_builder,
)

from ier1_plugin.small_world.tiny_model import PIXELS, encode  # noqa: E402
from ier1_plugin.training.verl_dataset import EditDataset  # noqa: E402


def main(model: str, rows: str, out: str) -> None:
    processor = AutoProcessor.from_pretrained(model)
    columns = {"prompt_key": "problem", "answer_key": "answer", "image_key": "images"}
    config = OmegaConf.create(columns | {"min_pixels": PIXELS, "max_pixels": PIXELS, "filter_overlong_prompts": False})
    dataset = EditDataset(rows, processor.tokenizer, config, processor)
    builder = create_continuous_token_builder(processor.tokenizer, hf_model_type="qwen2_5_vl", processor=processor)
    found = []
    for index in range(len(dataset)):
        row = dataset[index]
        images, videos, audios = asyncio.run(EditDataset.process_multi_modal_info(row["raw_prompt"], 14, config))
        features: dict[str, torch.Tensor] = {}
        ids = builder.build_initial_tokens(
            row["raw_prompt"], images=images, videos=videos, audios=audios, mm_inputs_out=features
        )
        request = dataset.dataframe[index]["problem"].removeprefix("<image>")
        ours = encode(processor, [request], images)
        assert ids == ours["input_ids"][0].tolist()
        assert torch.equal(features["pixel_values"], ours["pixel_values"])
        found.append({"ids": ids, "answer": row["reward_model"]["ground_truth"], "source": row["data_source"]})
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
