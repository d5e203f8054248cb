"""The seam to upstream verl: our rows, prompt and reward in verl's own config, checked, and over to verl's own main.

    train(["config=examples/verl_qwen25vl.yaml", "data.train_files=rl/train.parquet",
           "data.val_files=rl/val.parquet", "trainer.total_training_steps=2"], check=True)
    -> 0, or 1 after one line on stderr for each problem

Keys are verl's own, and under `data` those of EasyR1 that verl lacks: answer_key, format_prompt, min_pixels,
max_pixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ier1_plugin import prompts
from ier1_plugin.runs.hardware import has_gpu
from ier1_plugin.runs.secrets import without_secrets
from ier1_plugin.training.easyr1 import PACKAGE, ROOT, on_every_node, refuse, run_main, text_of
from ier1_plugin.training.preflight.run import JOB_CONFIG

DATASET = {"path": "pkg://ier1_plugin.training.verl_dataset", "name": "EditDataset"}
# a path that begins with this names a module
PACKAGE_PATH = "pkg://"
PATHS = (
    "data.format_prompt",
    "actor_rollout_ref.model.path",
    "actor_rollout_ref.model.tokenizer_path",
    "reward.custom_reward_function.path",
    "trainer.resume_from_path",
    "trainer.rollout_data_dir",
    "trainer.validation_data_dir",
)
MODEL = "actor_rollout_ref.model.path"


def train(overrides: Sequence[str], check: bool = False, cpu: bool = False) -> int:
    """Trains, or with `check` only looks for problems. Returns the exit code.

    `overrides`: `config=FILE` and verl's own `key=value` (Hydra's `+` before a key is allowed), later ones win. `cpu`:
    a tiny model, without a GPU.
    """
    from ier1_plugin.training import preflight
    from ier1_plugin.training.preflight import configuration
    from ier1_plugin.training.preflight import verl as checks
    from ier1_plugin.training.preflight.reward_file import fill_in

    if problems := list(checks.versions(cpu)):
        return refuse(problems)
    raw, problems = configuration.read([override.lstrip("+") for override in overrides], defaults())
    if raw is None:
        return refuse(problems)
    make_absolute(raw)
    if cpu:
        problems += arm(text_of(raw, MODEL))
    config, more = checks.compose(raw)
    problems += more
    run = None
    if config is not None:
        config.trainer.default_local_dir = os.path.abspath(os.path.expanduser(config.trainer.default_local_dir))
        run = checks.run_of(config, cpu, elsewhere=check and not cpu and not has_gpu())
        # the folders of a reward on pictures
        fill_in(config, run.config, checks.REWARD_KWARGS)
        for line in preflight.lines(run, checks.CHECKS, checks.in_verl_words):
            if isinstance(line, preflight.Note):
                print(f"note: {line}")
            else:
                problems.append(line)
    if problems or run is None:
        return refuse(problems)
    if check:
        print("preflight: no problems")
        return 0
    return launch(config, run.config, cpu)


def defaults() -> dict[str, Any]:
    """Prompt, columns, rows and reward, each unless the run says otherwise."""
    reward = Path("reward_fns", "decomposition.py")
    folder = ROOT if (ROOT / reward).is_file() else PACKAGE
    return {
        "data": {
            "prompt_key": "problem",
            "answer_key": "answer",
            "image_key": "images",
            "format_prompt": str(prompts.path("decompose")),
            "custom_cls": DATASET,
        },
        "reward": {"custom_reward_function": {"path": str(folder / reward), "name": "score_one"}},
    }


def make_absolute(raw: Any) -> None:
    """Makes paths absolute, which verl would take relative to the folder of a Ray worker."""
    files = [key for key in ("data.train_files", "data.val_files") if text_of(raw, key)]
    for key in (*files, *PATHS):
        path = os.path.expanduser(text_of(raw, key))
        folders = (Path(), ROOT, PACKAGE) if key in PATHS else (Path(),)
        found = next((folder / path for folder in folders if path and (folder / path).exists()), None)
        made = key in ("trainer.rollout_data_dir", "trainer.validation_data_dir")
        if path and not path.startswith(PACKAGE_PATH) and (found or made):
            file = found if found and found.is_file() else None
            OmegaConf.update(raw, key, str(on_every_node(file)) if file else os.path.abspath(found or path))


def arm(model: str) -> list[str]:
    """Lets verl run on the CPU in this process, unless one of the conditions is not met; the problems if so."""
    from ier1_plugin.training.cpu import guard
    from ier1_plugin.training.cpu.verl_platform import ENV_VARS

    problems = guard.refusals(os.path.abspath(model) if Path(model).exists() else model, model_key=MODEL)
    if not problems:
        os.environ.update(ENV_VARS)
    return problems


def launch(config: Any, view: Any, cpu: bool) -> int:
    """Starts verl's main on its whole config, which `view` says in EasyR1's names. The exit code."""
    from ier1_plugin.training.preflight import places

    if JOB_CONFIG not in os.environ:
        # as EasyR1 does itself; in a job, workers have the variable from its runtime environment
        curves = os.path.abspath(os.path.expanduser(os.environ.get("TENSORBOARD_DIR") or "tensorboard_log"))
        names = config.trainer.project_name, config.trainer.experiment_name
        os.environ["TENSORBOARD_DIR"] = os.path.join(curves, *names)
    if cpu and (problems := start_ray(config)):
        return refuse(problems)
    from verl import __version__
    from verl.trainer import main_ppo  # pyright: ignore[reportAttributeAccessIssue]  # upstream's, not EasyR1's

    left = without_secrets(OmegaConf.to_container(config, resolve=True)) | {"verl_version": __version__}
    # one key of EasyR1's for two of verl's, and what the files hold: see places.same_run
    left |= {"worker": {"reward": {"reward_function": view.worker.reward.reward_function}}}
    left |= {places.CONTENTS: places.contents(view)}
    return run_main(lambda: main_ppo.main(config), Path(config.trainer.default_local_dir), left)


def start_ray(config: Any) -> list[str]:
    """Starts or joins Ray for a run on CPUs; a cluster with a GPU in it is refused."""
    import ray
    from verl.trainer.constants_ppo import get_ppo_ray_runtime_env

    from ier1_plugin.training.cpu import guard, ray_init_kwargs
    from ier1_plugin.training.cpu.verl_platform import ENV_VARS
    from ier1_plugin.training.preflight.verl import needed_cpus

    settings = ray_init_kwargs(config.trainer.n_gpus_per_node)
    if "num_cpus" in settings:
        settings["num_cpus"] = max(settings["num_cpus"], needed_cpus(config))
    runtime_env = settings["runtime_env"]
    # EasyR1's stand-ins are not for this host
    runtime_env.pop("worker_process_setup_hook", None)
    runtime_env["env_vars"] = get_ppo_ray_runtime_env(config)["env_vars"] | runtime_env["env_vars"] | ENV_VARS
    ray.init(**{"address": "local", **settings})
    if problems := guard.refusals(OmegaConf.select(config, MODEL), model_key=MODEL):
        ray.shutdown()
    return problems
