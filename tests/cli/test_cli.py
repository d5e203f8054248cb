"""The `ier1` command, as a person calls it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes.chain_helpers import BRIGHTER, ORIGINAL, planner
from fakes.chat_fakes import NONSENSE, photo, reply
from fakes.chat_server import chat_server, slow
from fakes.commands import ier1, refused
from PIL import Image

from ier1_plugin.cli.main import app
from ier1_plugin.editors import EDITORS
from ier1_plugin.pipeline.system import PRESET, SYSTEM, shipped
from ier1_plugin.pipeline.trace import read_trace
from ier1_plugin.runs.folder import locked
from ier1_plugin.task.images import open_image

ROOT = Path(__file__).parents[2]
FLIP = "flip it horizontally"
COMMANDS = [command.callback.__name__ for command in app.registered_commands if command.callback]
# half a second each, or more
HEAVY = (
    "PIL datasets diffusers gradio matplotlib numpy omegaconf openai pandas ray scipy tenacity tensorboard torch "
    "transformers verl"
)


def pixels(file: Path | str) -> bytes:
    return open_image(file).tobytes()


@pytest.mark.parametrize("source", ["trace.json", "out.png"])
def test_an_edit_tells_its_plan_and_is_made_again_from_what_it_writes(image: Path, tmp_path: Path, source: str):
    more = ("--mode", "multi-turn", "--seed", 7, "-o", "out.png", "--trace", "trace.json", "--save-steps", "steps")
    with chat_server(lambda body, number: reply(BRIGHTER)) as server:
        result = ier1("edit", image, "brighter, and mirror it", *planner(server.url), *more)
    assert result.stdout.split() == ["out.png"]
    assert "1. Relighting photo to brighter\n2. Transform photo to flipped horizontally" in result.stderr
    trace = json.loads(Path("trace.json").read_text(encoding="utf-8"))
    assert trace == read_trace(Path("out.png"))
    assert trace["plan"]["decomposer"]["model"] == f"openai:{server.url}#fake"
    assert sorted(file.name for file in Path("steps").iterdir()) == ["step-01.png", "step-02.png"]
    assert pixels("steps/step-02.png") == pixels("out.png") != pixels(image)
    # again, without asking, with the mode and the seed of the trace, unless others are given
    ier1("edit", image, "--plan", source, "--editor", "pillow", "-o", "again.png")
    assert pixels("again.png") == pixels("out.png")
    given = ("--seed", 0, "--mode", "single-turn", "--save-steps", "steps")
    ier1("edit", image, "--plan", source, "--editor", "pillow", *given, "-o", "once.png")
    made = [(read_trace(Path(name))["mode"], read_trace(Path(name))["seed"]) for name in ("again.png", "once.png")]
    assert made == [("multi-turn", 7), ("single-turn", 0)]
    # steps of the earlier edit are not taken for steps of this one
    assert [file.name for file in Path("steps").iterdir()] == ["step-01.png"]
    assert len(server.bodies) == 1


def test_a_dry_run_prints_a_plan_that_can_be_changed_and_used_and_tells_a_fallback(image: Path):
    with chat_server(lambda body, number: NONSENSE) as server:
        dry = ier1("edit", image, "brighter, and mirror it", *planner(server.url), "--dry-run")
    plan = json.loads(dry.stdout)
    assert not Path("photo-edited.png").exists()
    assert "note: no readable decomposition in 2 replies" in dry.stderr
    assert len(server.bodies) == 2
    plan["sub_requests"] = ["Crop photo to left half only"]
    Path("plan.json").write_text(json.dumps(plan), encoding="utf-8")
    ier1("edit", image, "--plan", "plan.json", "--editor", "pillow")
    with Image.open("photo-edited.png") as edited:
        assert edited.size == (32, 48)


def test_a_jpeg_is_written_where_the_name_says_so_and_the_method_original_needs_no_agent(image: Path):
    ier1("edit", image, FLIP, *ORIGINAL, "-o", "out.jpg", "--trace", "new/trace.json")
    with Image.open("out.jpg") as edited:
        assert edited.format == "JPEG"
    assert read_trace(Path("new/trace.json"))["plan"]["method"] == "original"
    Image.new("RGBA", (8, 8), (200, 60, 40, 0)).save("logo.png")
    for output, mode in (("logo.jpg", "RGB"), ("flipped.png", "RGBA")):
        told = ier1("edit", "logo.png", FLIP, *ORIGINAL, "-o", output).stderr
        assert ("transparent" in told) == (mode == "RGB")
        with Image.open(output) as edited:
            assert edited.mode == mode


def test_a_system_by_name_a_config_a_preset_and_an_option_win_in_this_order(image: Path):
    config, preset = Path("my.yaml"), Path("mine.yaml")
    config.write_text("seed: 3\nmode: multi-turn\neditor: qwen-image-edit\nload_kwargs: {after_load: []}\n")
    preset.write_text("editor: pillow\nload_kwargs: {}\n")
    options = ("--system", "flux-kontext-original", "--config", config, "--preset", preset, "--seed", 5)
    ier1("edit", image, FLIP, *options)
    trace = read_trace(Path("photo-edited.png"))
    made = trace["plan"]["method"], trace["mode"], trace["editor"], trace["seed"]
    assert made == ("original", "multi-turn", "pillow", 5)


def test_the_default_sequencer_is_the_model_that_was_named(image: Path):
    replies = [reply(BRIGHTER), f'["{FLIP}"]']
    with chat_server(lambda body, number: replies[number]) as server:
        agent = ("--decomposer", f"openai:{server.url}#m", "--max-tokens", 5000)
        ier1("edit", image, "mirror", *agent, "--editor", "pillow")
    assert [(body["model"], body["max_completion_tokens"]) for body in server.bodies] == [("m", 5000)] * 2
    assert isinstance(server.bodies[1]["messages"][0]["content"][0]["text"], str)


def test_a_batch_reports_counts_and_fails_if_an_item_did(image: Path):
    lines = [{"id": "good", "image": "photo.png"}, {"id": "bad", "image": "missing.png"}]
    Path("in.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    batch = ("batch", "in.jsonl", "--out", "out", "--request", FLIP, *ORIGINAL)
    result = ier1(*batch, exit_code=1)
    assert "1 edited, 1 failed, 0 open" in result.stderr
    assert "--retry-failed" in result.stderr
    assert result.stdout.split() == [str(Path("out/results.jsonl").resolve())]
    photo().save("missing.png")
    ier1(*batch, "--retry-failed")


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
    assert reason in refused("batch", *arguments)
    assert not Path("out").exists()


def test_a_batch_goes_on_alone_with_the_same_settings_and_writes_no_password(image: Path):
    with chat_server(lambda body, number: reply(BRIGHTER)) as server:
        url = server.url.replace("//", "//me:hunter22@")
        batch = ("batch", image.parent, "--out", "out", "--request", "brighter", *planner(url))
        ier1(*batch)
        line = refused(*batch, "--seed", "3")
        with locked(Path("out")):
            assert "another run" in refused(*batch)
    assert "(seed 0, now 3)" in line
    written = b"".join(file.read_bytes() for file in Path("out").rglob("*") if file.is_file())
    assert b"hunter22" not in written + line.encode()


def test_models_lists_every_editor_system_and_preset():
    result = ier1("models")
    assert all(name in result.stdout for name in EDITORS)
    for kind in (SYSTEM, PRESET):
        assert all(f"--{kind} {name}\n" in result.stdout for name in shipped(kind))
    assert "GEMINI_API_KEY" in result.stdout


def test_the_python_example_runs(image: Path):
    code = (ROOT / "examples" / "edit.py").read_text(encoding="utf-8")
    with chat_server(lambda body, number: reply(BRIGHTER)) as server:
        code = code.replace("http://127.0.0.1:8000/v1", server.url).replace("flux-kontext", "pillow")
        Path("edit.py").write_text(code.replace("portrait.jpg", "photo.png"), encoding="utf-8")
        ended = subprocess.run([sys.executable, "edit.py"], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "Relighting photo to brighter" in ended.stdout
    assert Path("edited.png").is_file()


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_loads_nothing_heavy_and_names_the_arguments():
    stdout = run_python(f"""
import sys
import ier1_plugin
assert "typer" not in sys.modules
import runpy
for command in ("", *{COMMANDS!r}):
    sys.argv = ["ier1", *command.split(), "--help"]
    try:
        runpy.run_module("ier1_plugin.cli" if command else "ier1_plugin.cli.main", run_name="__main__")
    except SystemExit as ended:
        assert not ended.code
loaded = set({HEAVY.split()!r}) & set(sys.modules)
assert not loaded, loaded
""")
    assert all(f"Usage: ier1 {command} " in stdout for command in COMMANDS)


def test_an_edit_loads_no_model_library_that_it_does_not_need(image: Path):
    run_python(f"""
import sys
from typer.testing import CliRunner
from ier1_plugin.cli.main import app
assert CliRunner().invoke(app, ["edit", "photo.png", "{FLIP}", *{ORIGINAL!r}]).exit_code == 0
assert not {{"torch", "transformers", "diffusers", "ray", "openai"}} & set(sys.modules)
""")


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
