"""The seam to EasyR1: says what this project brings, checks the run, and hands over to EasyR1's own main.

    python -m ier1_plugin.training.easyr1 config=examples/grpo_qwen25vl.yaml data.train_files=rl/train.parquet \\
        data.val_files=rl/val.parquet trainer.max_steps=2 --check

Keys are EasyR1's own, later ones win. `--check` stops after the preflight; `--cpu` trains a tiny model without a GPU.
Exit code 0, or 1 with one line for each problem.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ier1_plugin import prompts
from ier1_plugin.training.run_config import RUN_CONFIG

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Runs `python -m ier1_plugin.training.easyr1 ARGUMENTS`; returns the exit code."""
    options = _parser().parse_intermixed_args(arguments)
    from ier1_plugin.training.preflight import host

    if problems := list(host.versions()):
        return _refuse(problems)
    raw, config, problems = _read(options)
    problems += host.engines(options.cpu)
    problems += _preflight(config, options.cpu) if config is not None else []
    if problems:
        return _refuse(problems)
    if options.check:
        print("preflight: no problems")
        return 0
    return launch(raw, config, options.cpu)


def defaults() -> dict[str, Any]:
    """What this project registers with EasyR1: prompt, columns and reward, each unless the run says otherwise."""
    return {
        "data": {
            "prompt_key": "problem",
            "answer_key": "answer",
            "image_key": "images",
            "format_prompt": str(prompts.path("decompose")),
        },
        "worker": {"reward": {"reward_function": f"{ROOT / 'reward_fns' / 'decomposition.py'}:compute_score"}},
    }


def launch(raw: Any, config: Any, cpu: bool) -> int:
    """Starts EasyR1 on `raw`, the config without its defaults; `config` is the same with them."""
    from ier1_plugin.training.preflight import places

    for log in places.keep_earlier_logs(config):
        print(f"kept the log of an earlier part: {log}")
    # Ray's workers must not take it relative to a folder of their own
    os.environ.setdefault("TENSORBOARD_DIR", os.path.abspath("tensorboard_log"))
    if cpu and (problems := _start_ray(config)):
        return _refuse(problems)
    leave_config(config, places.checkpoint_folder(config))
    print(f"checkpoints go to {places.checkpoint_folder(config)}", flush=True)
    try:
        _easyr1_main(raw)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130
    return 0


def leave_config(config: Any, folder: Path) -> None:
    """Leaves the run's config beside its checkpoints, which hold no pixel budget, so that merging finds it."""
    from verl import __version__

    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{RUN_CONFIG}.part"
    partial.write_text(as_yaml(config, easyr1_version=__version__), encoding="utf-8")
    os.replace(partial, folder / RUN_CONFIG)


def as_yaml(config: Any, **more: str) -> str:
    """`config` and `more` as YAML, every number to its last digit."""
    import yaml

    # not OmegaConf.save: importing EasyR1 makes PyYAML's own dumper round floats to three digits
    # (verl/utils/py_functional.py, float_representer), and a learning rate of 1.5e-4 becomes 0.0
    return yaml.safe_dump(OmegaConf.to_container(config) | more, sort_keys=False)  # pyright: ignore[reportOperatorIssue]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m ier1_plugin.training.easyr1", description="GRPO of the decomposition agent in EasyR1."
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config=FILE.yaml and EasyR1's own keys")
    parser.add_argument("--check", action="store_true", help="only check the run; list every problem, one a line")
    parser.add_argument("--cpu", action="store_true", help="train a tiny model without a GPU, with stand-ins for CUDA")
    return parser


def _read(options: argparse.Namespace) -> tuple[Any, Any, list[str]]:
    """The config without and with EasyR1's defaults (None if something in it is wrong), and the problems."""
    from ier1_plugin.training.preflight import configuration

    raw, problems = configuration.given(options.overrides, defaults())
    if raw is None:
        return None, None, problems
    _make_absolute(raw)
    if options.cpu:
        problems += _stand_in(raw, options.check)
    config, more = configuration.typed(raw)
    return raw, config, problems + more


def _preflight(config: Any, cpu: bool) -> list[str]:
    from ier1_plugin.training import preflight

    lines = preflight.lines(config, cpu)
    for line in lines:
        if isinstance(line, preflight.Note):
            print(f"note: {line}")
    return [line for line in lines if not isinstance(line, preflight.Note)]


def _make_absolute(raw: Any) -> None:
    """Paths that EasyR1 would take relative to the folder of a Ray worker, or that lie in this project."""
    for key in ("data.train_files", "data.val_files"):
        _replace(raw, key, "@", (Path(),))
    for key, mark in (("data.format_prompt", ""), ("worker.reward.reward_function", ":")):
        _replace(raw, key, mark, (Path(), ROOT))


def _replace(raw: Any, key: str, mark: str, folders: tuple[Path, ...]) -> None:
    """Makes the file of `key`, up to `mark`, absolute; leaves a file that isn't there for the preflight to name."""
    value = _select(raw, key)
    path = value.split(mark, 1)[0] if mark else value
    found = next((folder / path for folder in folders if path and (folder / path).is_file()), None)
    if found is not None:
        OmegaConf.update(raw, key, f"{found.absolute()}{value.removeprefix(path)}")


def _select(raw: Any, key: str) -> str:
    """The text of a key; "" where it is unset, no text, or can't be resolved."""
    try:
        value = OmegaConf.select(raw, key)
    except OmegaConfBaseException:
        return ""
    return value if isinstance(value, str) else ""


def _stand_in(raw: Any, check: bool) -> list[str]:
    """Arms the CPU stand-ins, unless one of their conditions is not met; the problems if so.

    A mere check arms them for any model, since without them EasyR1's config can't be read on a machine without a GPU.
    """
    from ier1_plugin.training.cpu import guard, install

    model = _select(raw, "worker.actor.model.model_path")
    problems = guard.refusals(True, os.path.abspath(model) if Path(model).exists() else model)
    if not problems or (check and not guard.has_gpu()):
        install()
    return problems


def _start_ray(config: Any) -> list[str]:
    """Starts or joins Ray with the stand-ins in every worker; a cluster with a GPU in it is refused."""
    import ray

    from ier1_plugin.training.cpu import guard, ray_init_kwargs

    settings = ray_init_kwargs(config.trainer.n_gpus_per_node, os.environ.get("RAY_ADDRESS"))
    # without an address Ray would join whatever cluster was last started on this machine
    ray.init(**{"address": "local", **settings})
    problems = guard.refusals(True, config.worker.actor.model.model_path, guard.gpu_nodes())
    if problems:
        ray.shutdown()
    return problems


def _easyr1_main(raw: Any) -> None:
    from verl.trainer import main as easyr1

    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        file.write(as_yaml(raw))
        file.flush()
        # EasyR1 reads its config from the command line only
        sys.argv = [easyr1.__file__, f"config={file.name}"]
        easyr1.main()


def _refuse(problems: list[str]) -> int:
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
