"""What a quickstart has trained, on one page: curves, and photographs that its model plans the edits of.

    python -m ier1_plugin.small_world.page --model quickstart/model --rows quickstart/rows/val.parquet \\
        --curves quickstart/curves/reward_curves.png --out quickstart/index.html

The page holds its images itself, so it can be mailed or moved. Each photograph goes through the whole chain, with the
model as decomposer, the `rule` as sequencer and the `pillow` editor. The model sees the photo of the row, as in
training; edited is the same crop at SIDE pixels.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

from PIL import Image

from ier1_plugin.chat import Chat, ChatError, make_chat
from ier1_plugin.editors import EditError, make_editor
from ier1_plugin.pipeline.agents import Answer, decompose, rule
from ier1_plugin.pipeline.chain import ImageEditR1
from ier1_plugin.runs.folder import write
from ier1_plugin.small_world.evaluate import Row, read_rows
from ier1_plugin.small_world.pictures import PICTURES, Photo
from ier1_plugin.small_world.tiny_model import use_cores
from ier1_plugin.small_world.world import edits_of, gold_image, gold_of, samples
from ier1_plugin.task.images import data_url, preview_url
from ier1_plugin.task.schema import Decomposition, Plan
from ier1_plugin.task.scoring import score_response

PHOTOS, EDITS = 3, 2
SIDE = 512
TEMPLATE = Path(__file__).with_suffix(".html.jinja")
NO_CROP = "the photo is the row's own, enlarged: the rows were built with another seed"


def page(model: Path, rows_file: Path, curves: Path | None, seed: int = 0) -> str:
    """The HTML. OSError, ValueError, ChatError: there is no model, or there are no rows of the small world.

    `seed`: the one that the rows were built with, to have their photos at a good resolution.
    """
    from jinja2 import Environment, StrictUndefined
    from safetensors import safe_open

    rows = chosen_rows(read_rows(rows_file), seed)
    chat = make_chat(f"local:{model}")
    use_cores()
    edits = [edited_row(chat, row, photo) for row, photo in rows]
    parameters = 0
    for file in model.glob("*.safetensors"):
        with safe_open(file, "np") as weights:
            parameters += sum(prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    pictures = [PICTURES[name] for name in dict.fromkeys(photo.picture for _, photo in rows if photo)]
    environment = Environment(undefined=StrictUndefined, autoescape=True, trim_blocks=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        edits=edits,
        curves=data_url(curves.read_bytes()) if curves and curves.is_file() else "",
        no_curves=f"{curves} is missing" if curves else "none were named",
        parameters=f"{parameters / 1e6:.1f} million",
        each=EDITS,
        seen=" x ".join(map(str, rows[0][0].photo.size)),
        credits=", ".join(f"{p.subject} by {p.credit} ({p.licence})" for p in pictures) or "see the rows",
    )


def chosen_rows(rows: list[Row], seed: int) -> list[tuple[Row, Photo | None]]:
    """The first PHOTOS rows with EDITS edits, a picture each. ValueError: there is none.

    A photo is None where rows of this `seed` do not have this one.
    """
    # 7 of "val-00007.brighter@photo"
    numbers = [row.id.partition(".")[0].rpartition("-")[2] for row in rows]
    last = max((int(number) for number in numbers if number.isdecimal()), default=-1)
    known = {sample.id: sample for sample in islice(samples("val", seed), last + 1)}
    chosen: dict[str, tuple[Row, Photo | None]] = {}
    for row in rows:
        sample = known.get(row.id)
        photo = sample.photo if sample and sample.request == row.request else None
        if len(edits_of(row.id)) == EDITS and len(chosen) < PHOTOS:
            chosen.setdefault(photo.picture if photo else row.id, (row, photo))
    if not chosen:
        raise ValueError(f"none of the {len(rows)} rows asks for {EDITS} edits")
    return list(chosen.values())


def edited_row(chat: Chat, row: Row, photo: Photo | None) -> dict[str, Any]:
    """All that the page says about one row."""
    edits = edits_of(row.id)
    image = photo.open(SIDE) if photo else row.photo.resize((SIDE, SIDE), Image.Resampling.LANCZOS)

    def decomposer(image: Image.Image, request: str) -> Answer[Decomposition | None]:
        return decompose(row.photo, request, chat=chat)

    # the subject's name is the model's to find, its place is not
    editor = make_editor("pillow", places={edit.subject: edit.box for edit in edits if edit.box})
    chain = ImageEditR1(decomposer, rule, editor)
    plan = chain.plan(image, row.request)
    after, left_out = carry_out(chain, image, plan)
    replies = plan.decomposer.replies if plan.decomposer else ()
    return {
        "request": row.request,
        "before": preview_url(image, 2 * SIDE),
        "after": preview_url(after, 2 * SIDE) if after else "",
        "gold_image": preview_url(gold_image(image, edits), 2 * SIDE),
        "parts": asdict(plan.decomposition) if plan.decomposition else None,
        "gold": asdict(gold_of(edits)),
        "sub_requests": plan.sub_requests,
        "scores": score_response(replies[-1] if replies else "", row.gold),
        "notes": [*plan.fallbacks, *left_out, *([] if photo else [NO_CROP])],
        "replies": replies,
    }


def carry_out(chain: ImageEditR1, image: Image.Image, plan: Plan) -> tuple[Image.Image | None, list[str]]:
    """The image after all sub-requests that can be made, or None; and why the others can't."""
    edited, left_out = None, []
    for sub_request in plan.sub_requests:
        try:
            edited = chain.edit(edited or image, replace(plan, sub_requests=(sub_request,))).image
        except EditError as error:
            left_out.append(f"left out: {error}")
    return edited, left_out


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m ier1_plugin.small_world.page", description="A page on a quickstart.")
    parser.add_argument("--model", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--rows", type=Path, required=True, help="val.parquet of the small world")
    parser.add_argument("--curves", type=Path, help="PNG with the curves of the rewards")
    parser.add_argument("--seed", type=int, default=0, help="that the rows were built with")
    parser.add_argument("--out", type=Path, required=True, help="HTML file to write")
    options = parser.parse_args(arguments)
    try:
        write(options.out, page(options.model, options.rows, options.curves, options.seed))
    except (OSError, ValueError, KeyError, ChatError) as error:
        print(f"page: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(options.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
