"""What the chain itself costs: start-up, time an edit, throughput of a batch, memory.

    python tests/benchmarks/inference.py                 # all four; a minute and a half
    python tests/benchmarks/inference.py throughput      # or by name: start, overhead, throughput, memory

Throughput: `ier1 batch` with a planner of 100 ms and an editor of 200 ms, each of which takes four requests at a time;
20 edits a second is the most that such an editor gives. The servers run in a process of their own.
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from urllib.request import urlopen

from machine import Listener, costs, in_turns, machine, photo, servers, timed

PLANNER_SECONDS, EDITOR_SECONDS, SLOTS = 0.1, 0.2, 4
ITEMS, SIDE = 300, 256
SCALES = (10, 500, 5000)
REPLY = (
    '<think> I look. </think>\n<action>["Recoloring"]</action>\n<subjects>["coat"]</subjects>\n<goals>["red"]</goals>'
)


def start() -> None:
    """Import and `ier1 --help`, median of 15 runs in turn with a bare Python."""
    commands = {
        "bare python": ["-c", "pass"],
        "import ier1_plugin": ["-c", "import ier1_plugin"],
        "ier1 --help": ["-m", "ier1_plugin.cli.main", "--help"],
    }
    work = {name: partial(run_silently, [sys.executable, *arguments]) for name, arguments in commands.items()}
    for name, turns in in_turns(work, 15).items():
        print(f"{name:<22} {1000 * median(turn.wall for turn in turns):6.0f} ms")


def run_silently(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def overhead() -> None:
    """The chain around agents and an editor that do nothing, for each edit, and the PNG beside it; best of 30."""
    from ier1_plugin.pipeline.agents import rule
    from ier1_plugin.pipeline.chain import ImageEditR1
    from ier1_plugin.task.images import png_bytes
    from ier1_plugin.task.schema import Decomposition

    gold = Decomposition(("Delete", "Recoloring"), ("lamp", "sofa"), ("navy",))
    agents = ImageEditR1(lambda image, request: gold, rule, lambda image, instruction, seed: image)
    for side in (512, 1024):
        image = photo(side)
        edit = partial(agents.edit, image, "remove the lamp and make the sofa navy")
        trace = edit(mode="multi-turn").trace
        work: dict[str, Callable[[], object]] = {
            mode: partial(edit, mode=mode) for mode in ("single-turn", "multi-turn")
        }
        work["PNG"] = partial(png_bytes, image, trace.to_json())
        for name, turns in in_turns(work, 30).items():
            count = len(trace.steps) if name == "multi-turn" else 1
            print(f"{side} x {side}, {name:<11}   {1000 * min(turns).wall / count:6.2f} ms")


def throughput() -> None:
    """`ier1 batch` from the first request to the last answer, as the servers saw it."""
    with tempfile.TemporaryDirectory() as folder, servers(__file__, "serve") as addresses:
        planner, editor = json.loads(addresses)
        wall = timed(partial(run_silently, batch_command(Path(folder), planner, editor))).wall
        with urlopen(f"{editor}/stats") as response:
            seconds, edits, plans = json.load(response)
    assert (edits, plans) == (ITEMS, ITEMS)
    most = SLOTS / EDITOR_SECONDS
    limits = f"the editor gives {most:.1f} a second at most, the planner {SLOTS / PLANNER_SECONDS:.1f}"
    print(f"{ITEMS} images of {SIDE} x {SIDE}; {limits}")
    for what, took in (("from first request to last answer", seconds), ("with the start of the command", wall)):
        print(f"{what:<34} {took:6.2f} s   {edits / took:5.2f} a second   {edits / took / most:.1%}")


def batch_command(folder: Path, planner: str, editor: str) -> list[str]:
    photo(SIDE).save(folder / "photo.jpg", quality=90)
    rows = ({"id": f"item-{number}", "image": "photo.jpg", "request": f"red coat {number}"} for number in range(ITEMS))
    (folder / "in.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    agents = ["--decomposer", f"openai:{planner}#m", "--sequencer", "rule"]
    editing = ["--editor", f"images-api:{editor}#m", "--editor-settings", json.dumps({"canvas_pixels": SIDE**2})]
    place = [str(folder / "in.jsonl"), "--out", str(folder / "out"), "-j", "12"]
    return [sys.executable, "-m", "ier1_plugin.cli.main", "batch", *place, *agents, *editing]


def serve() -> None:
    """A planner and an editor of SLOTS slots each; prints their addresses."""
    png = io.BytesIO()
    photo(SIDE).save(png, "PNG", compress_level=1)
    image = json.dumps({"data": [{"b64_json": base64.b64encode(png.getvalue()).decode()}]}).encode()
    message = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": REPLY}}]}
    planner = Listener(PLANNER_SECONDS, SLOTS, json.dumps(message).encode())

    def stats() -> bytes:
        return json.dumps([editor.ended[-1] - planner.began[0], len(editor.ended), len(planner.ended)]).encode()

    editor = Listener(EDITOR_SECONDS, SLOTS, image, stats)
    print(json.dumps([planner.address, editor.address]), flush=True)
    threading.Event().wait()


def memory() -> None:
    """The most memory that a batch ever had, for batches of different lengths, each in a process of its own."""
    for count in SCALES:
        seconds, _, peak = costs(__file__, "memory-of", count)
        print(f"{count:>5} images   {peak:6.1f} MiB at most   {1000 * seconds / count:6.2f} ms an image")


def memory_of(count: int) -> None:
    from ier1_plugin.data.items import Item
    from ier1_plugin.pipeline.agents import rule
    from ier1_plugin.pipeline.batch import Batch, run
    from ier1_plugin.pipeline.batch_folder import BatchFolder
    from ier1_plugin.task.schema import Decomposition

    gold = Decomposition(("Recoloring",), ("coat",), ("red",))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        photo(SIDE).save(path, quality=90)
        batch = Batch(
            items=lambda: (Item(f"item-{number}", str(path), f"red coat {number}") for number in range(count)),
            folder=BatchFolder(Path(folder) / "out"),
            make_agents=lambda: (lambda image, request: gold, rule),
            make_editor=lambda: lambda image, instruction, seed: image,
        )
        assert run(batch)["edited"] == count


PARTS: dict[str, Callable[[], None]] = {part.__name__: part for part in (start, overhead, throughput, memory)}


def main() -> None:
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["memory-of", count]:
            memory_of(int(count))
        case names if set(names) <= set(PARTS):
            print(machine())
            for name in names or PARTS:
                print(f"\n{name}: {(PARTS[name].__doc__ or '').strip()}")
                PARTS[name]()
        case names:
            raise SystemExit(f"no benchmark {' '.join(names)}; known: {', '.join(PARTS)}")


if __name__ == "__main__":
    main()
