"""What the picture reward costs a training: a call in the small world, and how near a call comes to what servers give.

    python tests/benchmarks/picture_reward.py                    # both
    python tests/benchmarks/picture_reward.py --log FOLDER       # and its share of the steps in TensorBoard's logs
    python tests/benchmarks/picture_reward.py --side 512         # photos and edits of the second part, in pixels

An editor of 200 ms and a judge of 100 ms, for 32 requests at a time each: 160 edits a second, and no more. They run
in a process of their own; every sample is a real one: its response read, its photo sent, its edit decoded, kept, sent
to the judge, and the judgement written to disk.
"""

from __future__ import annotations

import argparse
import base64
import json
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path

from machine import Listener, machine, photo, servers, timed

from ier1_plugin.evaluation.picture import PictureReward, PictureSettings, Weights
from ier1_plugin.small_world.world import samples
from ier1_plugin.task.images import encode, png_bytes
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.rows import Case, write_answer
from ier1_plugin.task.schema import Decomposition

EDITOR_SECONDS, JUDGE_SECONDS, SLOTS = 0.2, 0.1, 32
MOST = SLOTS / EDITOR_SECONDS
# servers queue, so that none of their slots is empty while this process encodes and decodes
CONCURRENCY = SLOTS + SLOTS // 2
PHOTOS, PLANS = 96, 8
GOALS = ("brighter", "darker", "warmer", "cooler", "sharper", "softer", "higher contrast", "lower contrast")
VERDICT = json.dumps({"images_seen": 2, "reasoning": "It is.", "fulfilment": 4, "quality": 2, "preservation": 3})
MESSAGE = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": VERDICT}}]}
JUDGED = json.dumps(MESSAGE | {"model": "fake", "usage": {"prompt_tokens": 1700, "completion_tokens": 40}}).encode()


def batch(cases: Iterator[Case]) -> list[dict[str, str]]:
    """PLANS different plans for every case."""
    plans = [Decomposition(("Adjust",), ("photo",), (goal,)) for goal in GOALS[:PLANS]]
    responses = [render_response(plan, "I look at the photo.") for plan in plans]
    return [{"response": text, "ground_truth": write_answer(None, case)} for case in cases for text in responses]


def small_world(log: Path | None) -> None:
    """A call of 128 samples, as a step of the quickstart makes: no plan known, then all of them."""

    def cases(folder: Path) -> Iterator[Case]:
        for number, sample in enumerate(islice(samples("val", 0), 16)):
            (folder / f"{number}.png").write_bytes(png_bytes(sample.photo.open()))
            yield Case(sample.id, sample.request, f"{number}.png")

    with tempfile.TemporaryDirectory() as name:
        inputs = batch(cases(Path(name)))
        reward = PictureReward(PictureSettings("small-world", "pixel", (name,), f"{name}/warm up"), Weights())
        reward(inputs)
        reward = PictureReward(PictureSettings("small-world", "pixel", (name,), f"{name}/store"), Weights())
        for what in ("every plan new", "every plan known"):
            seconds, cpu = timed(partial(reward, inputs))
            print(f"{len(inputs)} samples, {what:<17} {seconds:6.2f} s, CPU {1000 * cpu / len(inputs):5.1f} ms each")
    if log:
        # as the reward measured it: EasyR1 computes log-probabilities beside it, and its own timer leaves that out
        rewards, steps = (logged(log, tag) for tag in ("reward/seconds", "timing_s/step"))
        print(f"{len(steps)} logged steps: {sum(rewards):.1f} of {sum(steps):.1f} s, {sum(rewards) / sum(steps):.1%}")


def logged(folder: Path, tag: str) -> list[float]:
    """The values of a tag in all event files at or below `folder`."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    files = (EventAccumulator(str(file)).Reload() for file in sorted(folder.rglob("events.out.tfevents.*")))
    return [event.value for events in files if tag in events.Tags()["scalars"] for event in events.Scalars(tag)]


def served(side: int) -> None:
    """A call of 768 samples, as a step of the 8-GPU recipe makes, against servers."""
    with servers(__file__, "--serve", "--side", str(side)) as line, tempfile.TemporaryDirectory() as name:
        editor, judge = json.loads(line)
        for number in range(PHOTOS):
            Path(name, f"{number}.jpg").write_bytes(encode(photo(side, number), lossless=False))
        settings = PictureSettings(
            f"images-api:{editor}#e",
            f"openai:{judge}#j",
            (name,),
            f"{name}/store",
            concurrency=CONCURRENCY,
            editor_settings={"canvas_pixels": side**2},
        )
        inputs = batch(Case(f"case-{number}", "do it", f"{number}.jpg") for number in range(PHOTOS))
        # the first requests pay for imports and connections
        reward = PictureReward(settings, Weights())
        reward(inputs[: 2 * SLOTS])
        rest = inputs[2 * SLOTS :]
        seconds, cpu = timed(partial(reward, rest))
    rate, worth = len(rest) / seconds, 1000 * cpu / len(rest)
    print(f"{len(rest)} samples, photos of {side} x {side}, editor 200 ms, judge 100 ms, {SLOTS} at a time each")
    print(f"{seconds:.2f} s, {rate:.1f} a second, {rate / MOST:.1%} of {MOST:.0f}; CPU {worth:.1f} ms each")


def serve(side: int) -> None:
    """Prints the addresses of editor and judge."""
    data = base64.b64encode(png_bytes(photo(side, 200))).decode()
    editor = Listener(EDITOR_SECONDS, SLOTS, json.dumps({"data": [{"b64_json": data}]}).encode())
    judge = Listener(JUDGE_SECONDS, SLOTS, JUDGED)
    print(json.dumps([editor.address, judge.address]), flush=True)
    threading.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, help="of a training on pictures")
    parser.add_argument("--side", type=int, default=128, help="of the photos in pixels (default: 128)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.side)
    print(machine())
    small_world(options.log)
    served(options.side)


if __name__ == "__main__":
    main()
