"""The seam to EasyR1: adds what this project brings, checks the run, and hands over to EasyR1's own main.

train(["config=examples/grpo_qwen25vl.yaml", "data.train_files=rl/train.parquet",
       "data.val_files=rl/val.parquet", "trainer.max_steps=2"], check=True)
-> 0, or 1 after one line on stderr for each problem
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ier1_plugin import prompts
from ier1_plugin.runs.errors import UserError, one_line
from ier1_plugin.runs.folder import write
from ier1_plugin.runs.hardware import has_gpu
from ier1_plugin.runs.secrets import without_secrets
from ier1_plugin.training.run_config import RUN_CONFIG

PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent
PATHS = (
    "data.train_files",
    "data.val_files",
    "data.image_dir",
    "data.format_prompt",
    "data.override_chat_template",
    "worker.actor.model.model_path",
    "worker.actor.model.tokenizer_path",
    "worker.critic.model.model_path",
    "worker.reward.reward_function",
    "trainer.save_checkpoint_path",
    "trainer.load_checkpoint_path",
)


def train(overrides: Sequence[str], check: bool = False, cpu: bool = False) -> int:
    """Trains, or with `check` only looks for problems. Returns the exit code.

    `overrides`: `config=FILE` and EasyR1's own `key=value`, of which later ones win. `cpu`: with stand-ins for CUDA.
    """
    from ier1_plugin.training import preflight
    from ier1_plugin.training.preflight import configuration, host
    from ier1_plugin.training.preflight.reward_file import fill_in

    if problems := list(host.versions(cpu)):
        return refuse(problems)
    raw, problems = configuration.read(overrides, defaults())
    config, elsewhere = None, check and not cpu and not has_gpu()
    if raw is not None:
        make_absolute(raw)
        if cpu:
            problems += _arm_stand_ins(raw)
        config, more = configuration.typed(raw, elsewhere)
        problems += more
        if config is not None:
            fill_in(raw, config)
    run = preflight.Run(config, cpu, elsewhere=elsewhere)
    for line in preflight.lines(run) if config is not None else ():
        if isinstance(line, preflight.Note):
            print(f"note: {line}")
        else:
            problems.append(line)
    if problems:
        return refuse(problems)
    if check:
        print("preflight: no problems")
        return 0
    return launch(raw, config, cpu)


def defaults() -> dict[str, Any]:
    """What this project registers with EasyR1: prompt, columns and reward, each unless the run says otherwise."""
    # beside the package in a checkout, a container and a Ray job's working_dir; inside it where a wheel was installed
    reward = Path("reward_fns", "decomposition.py")
    folder = ROOT if (ROOT / reward).is_file() else PACKAGE
    return {
        "data": {
            "prompt_key": "problem",
            "answer_key": "answer",
            "image_key": "images",
            "format_prompt": str(prompts.path("decompose")),
        },
        "worker": {"reward": {"reward_function": f"{folder / reward}:compute_score"}},
    }


def make_absolute(raw: Any) -> None:
    """Makes paths absolute that EasyR1 would take relative to the folder of a Ray worker, or that lie in this project.

    A file that isn't there is left for the preflight to name.
    """
    for key in PATHS:
        # the shell leaves a ~ behind = alone
        if (value := text_of(raw, key)).startswith("~"):
            OmegaConf.update(raw, key, os.path.expanduser(value))
    here, project = (Path(),), (Path(), ROOT, PACKAGE)
    # what EasyR1 takes off a path: a split, the name of a function
    for key, more, folders in (
        ("data.train_files", r"@.*", here),
        ("data.val_files", r"@.*", here),
        ("data.format_prompt", r"$", project),
        ("worker.reward.reward_function", r":[^:]*$", project),
    ):
        value = text_of(raw, key)
        path = re.sub(more, "", value)
        file = next((folder / path for folder in folders if path and (folder / path).exists()), None)
        # EasyR1 would take what follows an @ in a folder's name for a split
        if file is not None and not (more == r"@.*" and "@" in str(file.absolute())):
            OmegaConf.update(raw, key, f"{on_every_node(file)}{value.removeprefix(path)}")


def on_every_node(file: Path) -> Path:
    """The absolute path of a file; in a Ray job, that of each worker's own copy where the file came with the job.

    Ray unpacks a job's working directory on every node, below that node's `ray start --temp-dir`, and starts the
    workers in it: the path that the driver sees need not be there on another node.
    """
    from ier1_plugin.training.preflight.run import JOB_CONFIG, PACKAGE_CACHE

    file, here = Path(os.path.abspath(file)), Path.cwd()
    if JOB_CONFIG in os.environ and PACKAGE_CACHE in str(here) and file.is_relative_to(here):
        return Path("/proc/self/cwd", file.relative_to(here))
    return file


def launch(raw: Any, config: Any, cpu: bool) -> int:
    """Starts EasyR1 on `raw`, the config without EasyR1's defaults; `config` is the same with them. The exit code."""
    from ier1_plugin.training.preflight import places

    for log in places.keep_earlier_logs(config):
        print(f"kept the log of an earlier part: {log}")
    # Ray's workers must not take it relative to a folder of their own
    curves = os.environ.get("TENSORBOARD_DIR") or "tensorboard_log"
    os.environ["TENSORBOARD_DIR"] = os.path.abspath(os.path.expanduser(curves))
    if cpu and (problems := _start_ray(config)):
        return refuse(problems)
    from verl import __version__
    from verl.trainer import main as easyr1

    def main() -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
            file.write(as_yaml(OmegaConf.to_container(raw)))
            file.flush()
            # EasyR1 reads its config from the command line only
            sys.argv = [easyr1.__file__, f"config={file.name}"]
            easyr1.main()

    left = without_secrets(OmegaConf.to_container(config)) | {"easyr1_version": __version__}
    return run_main(main, places.checkpoint_folder(config), left | {places.CONTENTS: places.contents(config)})


def run_main(main: Callable[[], object], folder: Path, left: Mapping[str, Any]) -> int:
    """Runs a host's own main, with `left` beside its checkpoints in `folder`. The exit code: 1 after a UserError of a
    worker, which is one line, 130 after Ctrl-C; any other error is the host's and goes through.
    """
    from ier1_plugin.training.preflight import places

    # beside the checkpoints, which hold no pixel budget, so that merging finds it
    places.keep_step_config(folder)
    write(folder / RUN_CONFIG, as_yaml(dict(left)))
    print(f"checkpoints go to {folder}", flush=True)
    try:
        main()
    except Exception as error:
        # what a worker raised, under the wrappers that Ray puts around it
        while isinstance(cause := getattr(error, "cause", None), BaseException):
            error = cause
        if not isinstance(error, UserError):
            raise
        print(one_line(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue from the last checkpoint", file=sys.stderr)
        return 130
    finally:
        places.keep_step_config(folder)
    return 0


def as_yaml(config: Any) -> str:
    """A plain dict as YAML, every number to its last digit."""
    import yaml

    # not OmegaConf.save: importing EasyR1 makes PyYAML's own dumper round floats to three digits
    # (verl/utils/py_functional.py, float_representer), and a learning rate of 1.5e-4 becomes 0.0
    return yaml.safe_dump(config, sort_keys=False)


def text_of(raw: Any, key: str) -> str:
    """The text of a key; "" where it is unset, no text, or can't be resolved."""
    try:
        value = OmegaConf.select(raw, key)
    except OmegaConfBaseException:
        return ""
    return value if isinstance(value, str) else ""


def _arm_stand_ins(raw: Any) -> list[str]:
    """Arms the CPU stand-ins, unless one of their conditions is not met; the problems if so."""
    from ier1_plugin.training.cpu import guard, install

    model = text_of(raw, "worker.actor.model.model_path")
    problems = guard.refusals(os.path.abspath(model) if Path(model).exists() else model)
    if not problems:
        install()
    return problems


def _start_ray(config: Any) -> list[str]:
    """Starts or joins Ray with the stand-ins in every worker; a cluster with a GPU in it is refused."""
    import ray

    from ier1_plugin.training.cpu import guard, ray_init_kwargs

    settings = ray_init_kwargs(config.trainer.n_gpus_per_node)
    # without an address Ray would join whatever cluster was last started on this machine
    ray.init(**{"address": "local", **settings})
    if problems := guard.refusals(config.worker.actor.model.model_path):
        ray.shutdown()
    return problems


def refuse(problems: Sequence[str]) -> int:
    """The exit code of a run that is not started, after its problems."""
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1
