"""Reward speed: 4,096 responses of 1 KB, best of several runs, against a floor and a peer in the same process.

    python tests/benchmarks/reward.py
    floor (regex + JSON + sets)   0.066 s
    ours                          0.080 s   1.21 x floor
    ours, rows with a case        0.082 s   1.24 x floor

The floor is what any such reward must do at least: find four tags, parse three arrays, intersect sets. The peer is the
`r1v` example reward of EasyR1, where its source is at hand (EASYR1_SOURCE).
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from machine import in_turns, machine

from ier1_plugin.task.actions import ACTIONS
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.rows import Case, write_answer
from ier1_plugin.task.schema import Decomposition
from reward_fns.decomposition import compute_score

RESPONSES, ROLLOUTS, BYTES, REPEATS = 4096, 8, 1024, 7
WORDS = ["coat", "hair", "sky", "lamp", "sofa", "window", "scarlet", "navy"]
WORDS += ["warm", "brighter", "larger", "left", "wall"]
PATTERN = re.compile(
    r"<think>(.*?)</think>\s*<action>(.*?)</action>\s*<subjects>(.*?)</subjects>\s*<goals>(.*?)</goals>", re.S
)


def batch(with_case: bool = False) -> list[dict]:
    """Eight rollouts a prompt, which draw their phrases from a dozen of that prompt's own, as a sampled group does."""
    rng = random.Random(0)
    inputs = []
    for index in range(RESPONSES):
        if index % ROLLOUTS == 0:
            pool = [f"the {rng.choice(WORDS)} {rng.choice(WORDS)} {rng.randrange(10**6)}" for _ in range(12)]
            case = Case(f"item-{index}", "make the coat red", f"{index:064}.jpg") if with_case else None
            gold = write_answer(Decomposition.of(rng.sample(list(ACTIONS), 2), pool[:2], pool[6:8]), case)
        said = Decomposition.of(rng.sample(list(ACTIONS), 2), rng.sample(pool[:6], 3), rng.sample(pool[6:], 2))
        bare = len(render_response(said, ""))
        think = " ".join(rng.choice(WORDS) for _ in range(BYTES))[: BYTES - bare]
        inputs.append({"response": render_response(said, think), "response_length": 250, "ground_truth": gold})
    return inputs


def floor(inputs: list[dict]) -> list[dict]:
    scores = []
    for item in inputs:
        gold, match = json.loads(item["ground_truth"]), PATTERN.fullmatch(item["response"])
        sets = [set(json.loads(match[i])) for i in (2, 3, 4)] if match else [set()] * 3
        wanted = [set(gold[name]) for name in ("actions", "subjects", "goals")]
        f1 = [2 * len(p & g) / (len(p) + len(g)) for p, g in zip(sets, wanted, strict=True)]
        scores.append({"overall": (1.0 + sum(f1)) / 4, "format": 1.0, "action": f1[0], "subject": f1[1], "goal": f1[2]})
    return scores


def r1v() -> Callable[[list[dict]], list] | None:
    source = os.environ.get("EASYR1_SOURCE")
    if not source:
        return None
    file = Path(source) / "examples" / "reward_function" / "r1v.py"
    spec: Any = importlib.util.spec_from_file_location("r1v", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if getattr(module, "REWARD_TYPE", "batch") == "batch":
        return module.compute_score
    return lambda inputs: [module.compute_score(item) for item in inputs]


def cold(inputs: list[dict]) -> list[dict]:
    """Ours with empty caches: every batch of a training run is new to it."""
    from ier1_plugin.task import rows, scoring

    rows.read_answer.cache_clear()
    rows.read_gold.cache_clear()
    scoring._cached_normalise.cache_clear()
    return compute_score(inputs)


def main() -> None:
    inputs = batch()
    size = sum(len(item["response"]) for item in inputs) / len(inputs)
    print(f"{len(inputs)} responses of {size:.0f} bytes, {ROLLOUTS} rollouts a prompt")
    print(machine())
    work = {
        "floor": partial(floor, inputs),
        "ours": partial(cold, inputs),
        "case": partial(cold, batch(with_case=True)),
    }
    if peer := r1v():
        work["peer"] = partial(peer, inputs)
    best = {name: min(turns).wall for name, turns in in_turns(work, REPEATS).items()}
    print(f"floor (regex + JSON + sets)   {best['floor']:.3f} s")
    for name, what in (("ours", "ours"), ("case", "ours, rows with a case")):
        print(f"{what:<30}{best[name]:.3f} s   {best[name] / best['floor']:.2f} x floor")
    if peer:
        print(
            f"EasyR1's r1v example          {best['peer']:.3f} s   ours takes {best['ours'] / best['peer']:.2f} of it"
        )
    else:
        print("EasyR1's r1v example          not run: EASYR1_SOURCE is not set")


if __name__ == "__main__":
    main()
