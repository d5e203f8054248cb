"""How near judging comes to what its server gives: 1,000 judgements of 200 ms, 32 at a time.

    python tests/benchmarks/judge.py                # photos of 256 x 256
    python tests/benchmarks/judge.py --side 1024    # as large as judges see them by default

32 requests at a time of 200 ms each are 160 judgements a second, and no more. The server runs in a process of its own;
every judgement is a real one: two files read and hashed, decoded, encoded and sent, the reply read and written to disk.
A second run over the same folder takes everything from disk.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from functools import partial
from pathlib import Path

from machine import Listener, machine, photo, servers, timed
from PIL import Image

from ier1_plugin.evaluation import folder as evaluation_folder
from ier1_plugin.evaluation.judges import make_judge
from ier1_plugin.evaluation.judges.base import Judge, Pair
from ier1_plugin.evaluation.judges.judging import JudgementStore, judge_all
from ier1_plugin.evaluation.records import BenchmarkItem
from ier1_plugin.task.images import encode, png_bytes

SECONDS, JOBS, JUDGEMENTS = 0.2, 32, 1000
MOST = JOBS / SECONDS
SCORE = {"fulfilment": 4, "quality": 2, "preservation": 3}
VERDICT = json.dumps({"images_seen": 2, "reasoning": "The lamp is gone.", **SCORE})
MESSAGE = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": VERDICT}}]}
REPLY = json.dumps(MESSAGE | {"model": "fake", "usage": {"prompt_tokens": 1700, "completion_tokens": 40}}).encode()


def make_pairs(folder: Path, side: int) -> list[Pair]:
    """Different photos with different edits."""
    pairs = []
    for number in range(JUDGEMENTS):
        source, edited = folder / f"{number}.jpg", folder / f"{number}-edited.png"
        image = photo(side, number)
        source.write_bytes(encode(image, lossless=False))
        edited.write_bytes(png_bytes(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
        pairs.append(Pair(BenchmarkItem(f"item-{number}", "mirror it", str(source), str(number)), "flux", edited))
    return pairs


def judge_pairs(pairs: list[Pair], judge: Judge, folder: Path) -> None:
    with JudgementStore(folder / evaluation_folder.JUDGEMENTS) as store:
        scored = sum(judgement.total == 9 for judgement in judge_all(pairs, judge, store, 1, JOBS))
    assert scored == len(pairs), f"only {scored} of {len(pairs)} were scored"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=256, help="of the photos in pixels (default: 256)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        print(Listener(SECONDS, JOBS, REPLY).address, flush=True)
        threading.Event().wait()
    print(machine())
    with servers(__file__, "--serve") as address, tempfile.TemporaryDirectory() as name:
        report(Path(name), make_judge(f"openai:{address}#fake"), options.side)


def report(folder: Path, judge: Judge, side: int) -> None:
    pairs = make_pairs(folder, side)
    # the first request pays for imports and connections
    judge_pairs(pairs[:JOBS], judge, folder / "warm up")
    seconds, cpu = timed(partial(judge_pairs, pairs, judge, folder))
    rate = JUDGEMENTS / seconds
    print(f"{JUDGEMENTS:,} judgements of {SECONDS * 1000:.0f} ms, {JOBS} at a time, photos of {side} x {side}")
    worth = 1000 * cpu / JUDGEMENTS
    print(f"{seconds:.2f} s, {rate:.1f} a second, {rate / MOST:.1%} of {MOST:.0f}; CPU {worth:.1f} ms each")
    again = timed(partial(judge_pairs, pairs, judge, folder)).wall
    print(f"again, from disk: {again:.2f} s, {JUDGEMENTS / again:,.0f} a second")


if __name__ == "__main__":
    main()
