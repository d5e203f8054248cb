"""The `ier1` command, as a person calls it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes.chain_helpers import BRIGHTER, ORIGINAL, ier1, one_line, planner
from fakes.chat_fakes import NONSENSE, photo, reply
from fakes.chat_server import chat_server, slow
from PIL import Image, ImageChops

from ier1_plugin.pipeline.trace import read_trace

ROOT = Path(__file__).parents[2]


def same(first: Path, second: Path) -> bool:
    with Image.open(first) as one, Image.open(second) as other:
        return (
            one.size == other.size and ImageChops.difference(one.convert("RGB"), other.convert("RGB")).getbbox() is None
        )


def test_an_edit_tells_its_plan_and_writes_image_trace_and_steps(image: Path, tmp_path: Path):
    more = ("-o", tmp_path / "out.png", "--trace", tmp_path / "trace.json", "--save-steps", tmp_path / "steps")
    with chat_server(lambda body, number: reply(BRIGHTER)) as server:
        result = ier1("edit", image, "brighter, and mirror it", *planner(server.url), "--mode", "multi-turn", *more)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(tmp_path / "out.png")]
    assert "1. Relighting photo to brighter\n2. Transform photo to flipped horizontally" in result.stderr
    trace = json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))
    assert trace == read_trace(tmp_path / "out.png")
    assert trace["plan"]["decomposer"]["model"] == f"openai:{server.url}#fake"
    assert sorted(file.name for file in (tmp_path / "steps").iterdir()) == ["step-01.png", "step-02.png"]
    assert same(tmp_path / "steps" / "step-02.png", tmp_path / "out.png")
    assert not same(tmp_path / "out.png", image)


@pytest.mark.parametrize("source", ["trace.json", "out.png"])
def test_a_plan_is_done_again_without_asking_and_gives_the_same_pixels(image: Path, tmp_path: Path, source: str):
    more = ("-o", tmp_path / "out.png", "--trace", tmp_path / "trace.json", "--seed", 7, "--mode", "multi-turn")
    with chat_server(lambda body, number: reply(BRIGHTER)) as server:
        assert ier1("edit", image, "brighter, and mirror it", *planner(server.url), *more).exit_code == 0
    again = ier1("edit", image, "--plan", tmp_path / source, "--editor", "pillow", "-o", tmp_path / "again.png")
    assert again.exit_code == 0, again.output
    assert same(tmp_path / "again.png", tmp_path / "out.png")
    assert len(server.bodies) == 1
    assert (read_trace(tmp_path / "again.png")["mode"], read_trace(tmp_path / "again.png")["seed"]) == ("multi-turn", 7)


def test_what_is_said_wins_over_the_trace_even_where_it_is_the_default(image: Path, tmp_path: Path):
    made = ("-o", "out.png", "--seed", 7, "--mode", "multi-turn")
    assert ier1("edit", image, "flip it horizontally", *ORIGINAL, *made).exit_code == 0
    said = ("--seed", 0, "--mode", "single-turn", "-o", "again.png")
    assert ier1("edit", image, "--plan", "out.png", "--editor", "pillow", *said).exit_code == 0
    trace = read_trace(tmp_path / "again.png")
    assert (trace["mode"], trace["seed"]) == ("single-turn", 0)


def test_steps_of_an_earlier_edit_are_not_taken_for_steps_of_this_one(image: Path, tmp_path: Path):
    for request in ("flip it horizontally and make it brighter", "flip it horizontally"):
        (tmp_path / "plan.json").write_text(json.dumps({"sub_requests": request.split(" and ")}), encoding="utf-8")
        more = ("--editor", "pillow", "--mode", "multi-turn", "--save-steps", "steps")
        assert ier1("edit", image, "--plan", "plan.json", *more).exit_code == 0
    assert [file.name for file in (tmp_path / "steps").iterdir()] == ["step-01.png"]


def test_a_dry_run_prints_a_plan_that_can_be_changed_and_used(image: Path, tmp_path: Path):
    with chat_server(lambda body, number: reply(BRIGHTER)) as server:
        dry = ier1("edit", image, "brighter, and mirror it", *planner(server.url), "--dry-run")
    assert dry.exit_code == 0, dry.output
    plan = json.loads(dry.stdout)
    assert not (tmp_path / "photo-edited.png").exists()
    plan["sub_requests"] = ["Crop photo to left half only"]
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    assert ier1("edit", image, "--plan", tmp_path / "plan.json", "--editor", "pillow").exit_code == 0
    with Image.open(tmp_path / "photo-edited.png") as edited:
        assert edited.size == (32, 48)


def test_a_fallback_is_told(image: Path):
    with chat_server(lambda body, number: NONSENSE) as server:
        result = ier1("edit", image, "flip it horizontally", *planner(server.url))
    assert result.exit_code == 0, result.output
    assert "note: no readable decomposition in 2 replies" in result.stderr
    assert len(server.bodies) == 2


def test_a_jpeg_is_written_where_the_name_says_so_and_the_method_original_needs_no_agent(image: Path, tmp_path: Path):
    assert (
        ier1("edit", image, "flip it horizontally", *ORIGINAL, "-o", "out.jpg", "--trace", "new/trace.json").exit_code
        == 0
    )
    with Image.open(tmp_path / "out.jpg") as edited:
        assert edited.format == "JPEG"
    assert read_trace(tmp_path / "new" / "trace.json")["plan"]["method"] == "original"


def test_a_config_file_gives_the_settings_and_the_command_line_wins(image: Path, tmp_path: Path):
    (tmp_path / "my.yaml").write_text("editor: pillow\nmethod: original\nseed: 3\nmode: multi-turn\n", encoding="utf-8")
    assert ier1("edit", image, "flip it horizontally", "--config", "my.yaml", "--seed", 5).exit_code == 0
    trace = read_trace(tmp_path / "photo-edited.png")
    assert (trace["mode"], trace["seed"], trace["editor"]) == ("multi-turn", 5, "pillow")


def test_the_default_sequencer_is_the_model_that_was_named(image: Path):
    replies = [reply(BRIGHTER), '["flip it horizontally"]']
    with chat_server(lambda body, number: replies[number]) as server:
        result = ier1("edit", image, "mirror", "--decomposer", f"openai:{server.url}#m", "--editor", "pillow")
    assert result.exit_code == 0, result.output
    assert [body["model"] for body in server.bodies] == ["m", "m"]
    assert isinstance(server.bodies[1]["messages"][0]["content"][0]["text"], str)


def test_a_batch_reports_counts_and_fails_if_an_item_did(image: Path, tmp_path: Path):
    lines = [{"id": "good", "image": "photo.png"}, {"id": "bad", "image": "missing.png"}]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    result = ier1("batch", "in.jsonl", "--out", "out", "--request", "flip it horizontally", *ORIGINAL)
    assert result.exit_code == 1
    assert "1 edited, 1 failed, 0 open" in result.stderr
    assert "--retry-failed tries them once more" in result.stderr
    assert result.stdout.split() == [str(tmp_path / "out" / "results.jsonl")]
    photo().save(tmp_path / "missing.png")
    more = ("--request", "flip it horizontally", *ORIGINAL, "--retry-failed")
    assert ier1("batch", "in.jsonl", "--out", "out", *more).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((".", "--out", "/proc/nowhere", "--request", "flip it", *ORIGINAL), "/proc/nowhere"),
        ((".", "--out", "photo.png", "--request", "flip it", *ORIGINAL), "photo.png"),
        (("nothing.jsonl", "--out", "out", *ORIGINAL), "nothing.jsonl is neither a folder nor a file"),
        ((".", "--out", "out", "--editor", "pillow"), "no decomposer"),
        ((".", "--out", "out", "--method", "original"), "no editor"),
    ],
)
def test_a_batch_that_cannot_begin_is_one_line(image: Path, arguments: tuple[str, ...], reason: str):
    assert reason in one_line(ier1("batch", *arguments))
    assert not Path("out").exists()


def test_a_batch_goes_on_in_the_folder_only_with_the_same_settings(image: Path):
    more = ("--out", "out", "--request", "flip it horizontally", *ORIGINAL)
    assert ier1("batch", image.parent, *more).exit_code == 0
    assert "(seed 0, now 4)" in one_line(ier1("batch", image.parent, *more, "--seed", "4"))


def test_a_password_in_an_address_is_written_nowhere(image: Path, tmp_path: Path):
    with chat_server(lambda body, number: reply(BRIGHTER)) as server:
        url = server.url.replace("//", "//me:hunter22@")
        more = ("--request", "brighter", *planner(url))
        assert ier1("batch", image.parent, "--out", "out", *more).exit_code == 0
        told = ier1("batch", image.parent, "--out", "out", *more, "--seed", "3").output
    written = b"".join(file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file())
    assert b"hunter22" not in written + told.encode()


def test_models_lists_every_editor_system_and_preset():
    from ier1_plugin.editors import EDITORS
    from ier1_plugin.pipeline.system import PRESET, SYSTEM, shipped

    result = ier1("models")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in EDITORS)
    for kind in (SYSTEM, PRESET):
        assert all(f"--{kind} {name}\n" in result.stdout for name in shipped(kind))
    assert "GEMINI_API_KEY" in result.stdout


def test_a_wrong_command_line_is_usage_and_status_2(image: Path):
    for arguments in (("edit",), ("edit", image, "x", "--colour", "red"), ("batch", image), ("paint",)):
        result = ier1(*arguments)
        assert result.exit_code == 2
        assert "Usage: " in result.stderr


def test_a_system_by_name_a_config_a_preset_and_an_option_win_in_this_order(image: Path, tmp_path: Path):
    config = tmp_path / "my.yaml"
    config.write_text("seed: 3\nmode: multi-turn\neditor: qwen-image-edit\nload_kwargs: {after_load: []}\n")
    preset = tmp_path / "mine.yaml"
    preset.write_text("editor: pillow\nload_kwargs: {}\n")
    options = ("--system", "flux-kontext-original", "--config", config, "--preset", "mine.yaml", "--seed", 5)
    assert ier1("edit", image, "flip it horizontally", *options).exit_code == 0
    trace = read_trace(tmp_path / "photo-edited.png")
    assert (trace["plan"]["method"], trace["mode"], trace["editor"], trace["seed"]) == (
        "original",
        "multi-turn",
        "pillow",
        5,
    )


def test_the_python_example_runs(image: Path, tmp_path: Path):
    code = (ROOT / "examples" / "edit.py").read_text(encoding="utf-8")
    with chat_server(lambda body, number: reply(BRIGHTER)) as server:
        code = code.replace("http://127.0.0.1:8000/v1", server.url).replace("flux-kontext", "pillow")
        (tmp_path / "edit.py").write_text(code.replace("portrait.jpg", "photo.png"), encoding="utf-8")
        ended = subprocess.run([sys.executable, "edit.py"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "Relighting photo to brighter" in ended.stdout
    assert (tmp_path / "edited.png").is_file()


def test_help_and_a_bare_import_load_nothing_heavy():
    heavy = "torch transformers diffusers ray openai gradio datasets matplotlib PIL numpy omegaconf tenacity"
    code = f"""
import sys
import ier1_plugin
assert "typer" not in sys.modules
from typer.testing import CliRunner
from ier1_plugin.cli.main import app
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
assert CliRunner().invoke(app, ["batch", "--help"]).exit_code == 0
loaded = set({heavy.split()!r}) & set(sys.modules)
assert not loaded, loaded
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr


def test_an_edit_loads_no_model_library_that_it_does_not_need(image: Path):
    code = f"""
import sys
from typer.testing import CliRunner
from ier1_plugin.cli.main import app
assert CliRunner().invoke(app, ["edit", "photo.png", "flip it horizontally", *{ORIGINAL!r}]).exit_code == 0
assert not {{"torch", "transformers", "diffusers", "ray", "openai"}} & set(sys.modules)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_ctrl_c_during_an_edit_is_one_word_and_leaves_nothing(image: Path, tmp_path: Path):
    with chat_server(lambda body, number: slow(20.0)) as server:
        command = [sys.executable, "-m", "ier1_plugin.cli", "edit", str(image), "make it red", *planner(server.url)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while not server.bodies:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.splitlines()[-1] == "interrupted"
    assert "Traceback" not in told
    assert [file.name for file in tmp_path.iterdir()] == ["photo.png"]
