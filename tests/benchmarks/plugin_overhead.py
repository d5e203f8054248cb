"""What the plugin adds to a GRPO step: EasyR1 with our rows, prompt and reward against EasyR1 with the barest ones.

    python tests/benchmarks/plugin_overhead.py --steps 20
    bare EasyR1       0.80 s a step (middle half 0.78 to 0.83), 0.79 s of CPU
    with the plugin   0.80 s a step (middle half 0.78 to 0.82), 0.79 s of CPU   1.00 x bare, 1.00 x its CPU

Both take the same rows through the same worker, in one process and in turns, so that a busy moment of the machine meets
both. Prompts have the same number of tokens, responses exactly `--response-length`. A random model writes no tags; what
the reward costs on well-formed responses is measured by `reward.py` beside this file. Needs no GPU and refuses one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from copy import deepcopy
from functools import partial
from itertools import chain, repeat
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from fakes import easyr1_step, tiny_models  # noqa: E402
from machine import Seconds, in_turns, machine  # noqa: E402

# a thinking format and the right answer, as EasyR1's example for visual questions scores them, without its math parser
BARE_REWARD = """
import re

REWARD_TYPE = "batch"
FORMAT = re.compile(r"<think>.*?</think>\\s*<answer>(.*?)</answer>", re.DOTALL)


def score(response, ground_truth):
    match = FORMAT.fullmatch(response)
    form, accuracy = float(match is not None), float(match is not None and match.group(1).strip() == ground_truth)
    return {"overall": 0.5 * form + 0.5 * accuracy, "format": form, "accuracy": accuracy}


def compute_score(reward_inputs):
    return [score(item["response"], item["ground_truth"]) for item in reward_inputs]
"""
FILLER = " Answer."
WARM_UP = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=20, help="of each variant (at least 2)")
    parser.add_argument("--response-length", type=int, default=64, help="in tokens")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        steps = measure(Path(folder), options)
    (wall, cpu), (our_wall, our_cpu) = (medians(steps[name]) for name in ("bare", "plugin"))
    print(machine())
    print(f"{options.steps} steps of {easyr1_step.PROMPTS} prompts x {easyr1_step.SAMPLES} responses each, in turns")
    print(f"bare EasyR1       {described(steps['bare'])}")
    ratios = f"{our_wall / wall:.2f} x bare, {our_cpu / cpu:.2f} x its CPU"
    print(f"with the plugin   {described(steps['plugin'])}   {ratios}")


def measure(folder: Path, options: argparse.Namespace) -> dict[str, list[Seconds]]:
    """Seconds of each step, data loading included, by variant."""
    easyr1_step.start()
    from verl.workers.fsdp_workers import FSDPWorker

    rows = tiny_models.write_rows(folder / "rows.parquet", 8 * easyr1_step.PROMPTS)
    model = str(tiny_models.build(folder / "model", "qwen2_5_vl"))
    budget = [f"data.max_response_length={options.response_length}", "worker.rollout.ignore_eos=true"]
    config = easyr1_step.load_config(model, budget)
    (folder / "bare_reward.py").write_text(BARE_REWARD)
    variants = {"bare": with_bare_prompt(config, folder), "plugin": config}
    loaders = {name: easyr1_step.make_loader(variant, str(rows)) for name, variant in variants.items()}
    batches = {name: chain.from_iterable(repeat(loader)) for name, loader in loaders.items()}

    def step(name: str) -> None:
        easyr1_step.grpo_step(worker, rewards[name], config, next(batches[name]))

    rewards = {
        "bare": easyr1_step.make_reward(config, folder / "bare_reward.py"),
        "plugin": easyr1_step.make_reward(config),
    }
    worker = FSDPWorker(config=config.worker, role="actor_rollout_ref")
    worker.init_model()
    steps = in_turns({name: partial(step, name) for name in variants}, WARM_UP + options.steps)
    return {name: seconds[WARM_UP:] for name, seconds in steps.items()}


def with_bare_prompt(config: Any, folder: Path) -> Any:
    """The config with a prompt that says next to nothing in as many tokens as ours."""
    from verl.utils.tokenizer import get_tokenizer

    tokenizer: Any = get_tokenizer(config.worker.actor.model.model_path, use_fast=True)

    def length(text: str) -> int:
        return len(tokenizer(text)["input_ids"])

    text, wanted = "{{ content | trim }}", length(Path(config.data.format_prompt).read_text().strip())
    while length(text) < wanted:
        text += FILLER
    bare = deepcopy(config)
    bare.data.format_prompt = str(folder / "bare.jinja")
    Path(bare.data.format_prompt).write_text(text)
    return bare


def medians(steps: list[Seconds]) -> tuple[float, float]:
    return statistics.median(wall for wall, _ in steps), statistics.median(cpu for _, cpu in steps)


def described(steps: list[Seconds]) -> str:
    wall, cpu = medians(steps)
    low, _, high = statistics.quantiles((wall for wall, _ in steps), n=4)
    return f"{wall:.2f} s a step (middle half {low:.2f} to {high:.2f}), {cpu:.2f} s of CPU"


if __name__ == "__main__":
    main()
