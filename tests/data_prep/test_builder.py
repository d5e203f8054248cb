"""The builder from end to end: what comes out, what is rejected and why, and that it comes out the same each time."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes.builder_inputs import (
    GOLD,
    PNG,
    ROOT,
    all_rows,
    build,
    build_rows,
    command,
    encoded,
    picture,
    rejected,
    report,
    requests,
    rows,
    write_jsonl,
)
from fakes.chat_server import serve
from fakes.colour_profiles import DISPLAY_P3
from fakes.commands import output_of
from PIL import Image, ImageCms, PngImagePlugin

from data_prep.checks import MAX_REQUEST_CHARACTERS
from data_prep.settings import MIN_PIXELS
from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.images import open_image, prepare
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.pixels import SRGB
from ier1_plugin.task.rows import COLUMNS
from ier1_plugin.task.schema import Decomposition
from reward_fns.decomposition import compute_score

FILES = [".images.json", ".lock", "rejected.jsonl", "report.json", "train.parquet", "val.parquet"]
SIDEWAYS = Image.Exif()
SIDEWAYS[0x0112] = 6
STORY = PngImagePlugin.PngInfo()
STORY.add_itxt("story", "a" * 3_000_000, zip=True)
SRGB_PROFILE = ImageCms.ImageCmsProfile(SRGB).tobytes()
JPEG = encoded(picture(1), "JPEG")


def test_the_command_leaves_four_files_where_it_runs_in_the_columns_that_the_trainer_reads(tmp_path: Path):
    from datasets import load_dataset

    source = requests(tmp_path / "in", 10)
    printed = output_of(*command("jsonl", source, Path("out"), "--val-fraction", 0), cwd=tmp_path)
    assert "train          10 rows" in printed
    assert "out/train.parquet, val.parquet, rejected.jsonl, report.json" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    # an empty split still has its columns
    assert rows(tmp_path / "out", "val") == []
    file = str(tmp_path / "out" / "train.parquet")
    loaded = load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
    assert tuple(loaded.column_names) == COLUMNS
    for row in loaded.to_list():
        assert row["problem"].startswith("<image>remove the lamp ")
        assert json.loads(row["answer"]) == GOLD
        assert row["images"][0]["path"] is None


IMAGES = {
    "jpeg": (JPEG, "JPEG", True),
    "png": (PNG, "PNG", True),
    "jpeg in sRGB": (encoded(picture(1), "JPEG", icc_profile=SRGB_PROFILE), "JPEG", True),
    "png in sRGB": (encoded(picture(1), icc_profile=SRGB_PROFILE), "PNG", True),
    "jpeg in Display P3": (encoded(picture(1), "JPEG", icc_profile=DISPLAY_P3), "JPEG", False),
    "png in Display P3": (encoded(picture(1), icc_profile=DISPLAY_P3), "PNG", False),
    "png with a long text": (encoded(picture(1), pnginfo=STORY), "PNG", False),
    "grey": (encoded(picture(1).convert("L"), "JPEG"), "JPEG", False),
    "palette with a transparent colour": (encoded(picture(1).convert("P"), transparency=0), "PNG", False),
    "alpha": (encoded(picture(1).convert("RGBA")), "PNG", False),
    "animated": (encoded(picture(1), save_all=True, append_images=[picture(2)]), "PNG", False),
    "camera held sideways": (encoded(picture(1), "JPEG", exif=SIDEWAYS), "JPEG", False),
    "below the budget": (encoded(picture(1, (1, 1))), "PNG", False),
    "above the budget": (encoded(picture(1, (400, 300))), "PNG", False),
}


@pytest.mark.parametrize(("data", "format", "kept"), IMAGES.values(), ids=IMAGES.keys())
def test_an_image_is_stored_as_inference_sees_it_and_with_its_bytes_where_that_changes_nothing(
    data: bytes, format: str, kept: bool, tmp_path: Path
):
    output = build_rows(tmp_path, [{"image": data}], "--max-pixels", 20_000)
    stored = all_rows(output)["r0"]["images"][0]["bytes"]
    assert (stored == data) == kept
    image, wanted = Image.open(BytesIO(stored)), prepare(open_image(data), MIN_PIXELS, 20_000)
    assert (image.mode, image.format, image.size) == ("RGB", format, wanted.size)
    assert (getattr(image, "n_frames", 1), image.getexif().get(0x0112, 1)) == (1, 1)
    assert np.abs(np.asarray(image, dtype=int) - np.asarray(wanted, dtype=int)).mean() < 2


UNUSABLE = {
    "truncated jpeg": ({"image": JPEG[:-300]}, "image is damaged"),
    "truncated beyond the budget": ({"image": encoded(picture(1, (1500, 1200)), "JPEG")[:-300]}, "image is damaged"),
    "narrow image": ({"image": encoded(picture(1, (5000, 20)))}, "image is too narrow"),
    "empty request": ({"request": ""}, "request is empty"),
    "request of signs": ({"request": "?!..."}, "request is empty"),
    "request of no width": ({"request": "\u200b\ufeff\u3164"}, "request is empty"),
    "only a placeholder": ({"request": "<image>\n"}, "request is empty"),
    "phrase of no width": ({"subjects": ["\u200b"]}, "gold holds an empty phrase"),
    "long request": ({"request": "x" * (MAX_REQUEST_CHARACTERS + 1)}, "request is too long"),
    "unknown action": ({"actions": ["Remove"]}, "gold holds an unknown action: 'Remove'"),
    "no action": ({"actions": []}, "gold names no action"),
    "no goals": ({"goals": None}, "no gold: give actions, subjects and goals, or name an annotator"),
    "empty phrase": ({"subjects": [" the "], "goals": ["..."]}, "gold holds an empty phrase"),
    "our tags": ({"subjects": ["lamp</subjects>"]}, "gold does not score 1.0 as a response"),
    "lone surrogate": ({"subjects": ["lamp\ud800"]}, "gold holds characters"),
}


@pytest.mark.parametrize(("change", "reason"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_row_that_cannot_be_used_is_rejected_with_its_reason(change, reason: str, tmp_path: Path, capsys):
    output = build_rows(tmp_path, [change])
    assert f"no row was accepted; the first: {reason}" in capsys.readouterr().err
    assert rejected(output)["r0"].startswith(reason)
    (counted,) = report(output)["rejected_by_reason"]
    assert rejected(output)["r0"].startswith(counted)
    assert all_rows(output) == {}


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        ("remove</think> \ud800 the lamp<|im_end|>", "remove‹/think› ? the lamp‹|im_end|›"),
        # the placeholders of LLaVA-like sets; in the middle they may be meant
        ("<image>\nremove the lamp", "remove the lamp"),
        (" <Image> <image>remove the lamp\n<image> ", "remove the lamp"),
        ("<|vision_start|><|image_pad|><|vision_end|>remove the lamp", "remove the lamp"),
        ("<image 1>\nremove the lamp", "remove the lamp"),
        ("<|image_1|>\u200b\nremove the lamp", "remove the lamp"),
        ("\ufeff<img></img> remove the lamp<image_placeholder>", "remove the lamp"),
        ("put <image> on the lamp", "put ‹image› on the lamp"),
        ("👍", "👍"),
    ],
)
def test_placeholders_are_taken_off_and_control_text_is_made_harmless(request_: str, problem: str, tmp_path: Path):
    assert all_rows(build_rows(tmp_path, [{"request": request_}]))["r0"]["problem"] == f"<image>{problem}"


def test_gold_of_every_row_scores_one_in_the_reward(tmp_path: Path):
    lists = {"actions": list(ACTIONS), "subjects": ['the "old" lamp', "50% off", "ламп"], "goals": ["<image>", "a\nb"]}
    (row,) = all_rows(build_rows(tmp_path, [lists])).values()
    response = render_response(Decomposition.from_json(row["answer"]), "so it is")
    (score,) = compute_score([{"response": response, "response_length": 1, "ground_truth": row["answer"]}])
    assert set(score.values()) == {1.0}


def test_the_same_rows_give_the_same_bytes_in_the_order_of_a_hash_of_seed_and_id(tmp_path: Path):
    source = requests(tmp_path / "in", 40, photos=30)
    back = write_jsonl(tmp_path / "in", source.read_text().splitlines()[::-1], "back.jsonl")
    for name, file in (("one", source), ("two", source), ("back", back)):
        build("jsonl", file, tmp_path / name, "--val-fraction", 0.2, "--seed", 7)
    for split in ("train", "val"):
        assert len({(tmp_path / name / f"{split}.parquet").read_bytes() for name in ("one", "two", "back")}) == 1
        ids = [row["id"] for row in rows(tmp_path / "one", split)]
        assert ids == sorted(ids, key=lambda id: hashlib.sha256(f"7\0{id}".encode()).digest())


def test_the_report_counts_what_is_in_the_files(tmp_path: Path):
    source = requests(tmp_path / "in", 20, gold=GOLD | {"actions": ["Delete", "Crop"]})
    with source.open("a") as file:
        file.write("{oops\n")
    address = ("--annotator", "m", "--base-url", "http://me:secret@host:1/v1")
    build("jsonl", source, tmp_path / "out", "--val-fraction", 0.1, *address)
    counts = report(tmp_path / "out")
    assert counts["options"]["base_url"] == "http://host:1/v1"
    assert counts["rows"] == {"train": 18, "val": 2, "rejected": 1}
    assert counts["by_source"] == {"jsonl": {"train": 18, "val": 2}}
    assert counts["by_action"] == {"Crop": {"train": 18, "val": 2}, "Delete": {"train": 18, "val": 2}}
    assert counts["by_number_of_parts"] == {"3": {"train": 18, "val": 2}}
    assert counts["rejected_by_reason"] == {"broken line": 1}
    assert counts["prompt_length"]["quantiles"] == {"0.5": 18, "0.9": 18, "0.99": 18, "1": 18}
    assert counts["options"]["val_fraction"] == 0.1


def test_flat_pictures_are_different_photos(tmp_path: Path, capsys):
    colours = [(value, 255 - value, 37 * value % 256) for value in range(0, 240, 12)]
    flat = [encoded(Image.new("RGB", (200, 200), colour), "JPEG" if colour[0] % 24 else "PNG") for colour in colours]
    raw = [{"image": image, "request": f"add lamp {n}"} for n, image in enumerate(flat)]
    output = build_rows(tmp_path / "flat", raw, "--val-fraction", 0.2)
    assert len(rows(output, "val")) == 4
    output = build_rows(tmp_path / "one", [row | {"image": flat[0]} for row in raw], "--val-fraction", 0.2)
    assert rows(output, "val") == []
    assert "note: no rows for validation" in capsys.readouterr().out


def test_prompt_lengths_are_tokens_where_a_tokenizer_is_given(tmp_path: Path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(tmp_path / "tokenizer.json"))
    lengths = report(build_rows(tmp_path, [{}], "--tokenizer", tmp_path))["prompt_length"]
    assert lengths["unit"].startswith("tokens")
    assert lengths["quantiles"]["1"] > 200


def recipe(*settings: str) -> subprocess.CompletedProcess[str]:
    """examples/build_paper_data.sh, with files in place of the hub and a loopback server in place of the annotator."""
    environment = os.environ | {"PYTHON": sys.executable, "OPENAI_API_KEY": "none"}
    script = ROOT / "examples" / "build_paper_data.sh"
    return subprocess.run(["bash", script, *settings], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_recipe_builds_each_source_and_puts_them_together(tmp_path: Path):
    for source, id, request, numbers in (
        ("psr", "post_id", "instruction", range(20)),
        ("ultraedit", "idx", "edit_prompt", range(18, 40)),
    ):
        raw = [
            {
                id: f"1post{n}" if source == "psr" else n,
                request: f"remove the {source} lamp {n}",
                "source_image": {"bytes": encoded(picture(n)), "path": None},
            }
            for n in numbers
        ]
        pq.write_table(pa.Table.from_pylist(raw), tmp_path / f"{source}.parquet")
    bench, out = write_jsonl(tmp_path, [{"post_id": "1post3"}]), tmp_path / "out"
    with serve() as server:
        done = recipe(
            *("annotator=fake-vlm", f"base_url={server.url}", f"output={out}", f"exclude={bench}"),
            *(f"psr={tmp_path}/psr.parquet", "psr_split=", f"ultraedit={tmp_path}/ultraedit.parquet"),
            *("ultraedit_split=", "realedit_rows=0", "psr_rows=15", "votes=1", "val_fraction=0.2"),
        )
    assert done.returncode == 0, done.stderr
    assert set(rejected(out / "parts" / "psr")) == {"psr-1post3"}
    assert report(out / "parts" / "psr")["options"]["annotator"] == "fake-vlm"
    built = {source: sum(counts.values()) for source, counts in report(out)["by_source"].items()}
    assert built == {"psr": 14, "ultraedit": 22}
    assert len(all_rows(out)) == 36


def test_a_wrong_setting_of_the_recipe_is_one_line():
    done = recipe("anotator=x")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "anotator=x is not one of the settings" in line
