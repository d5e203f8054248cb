"""Submits a training as a Ray job: what travels with it, where it writes, and which variables it gets.

    RAY_ADDRESS=http://HEAD:8265 SHARED=/mnt/shared python3 -m ier1_plugin.training.ray_job config=FILE trainer.nnodes=2
    -> ray job submit --runtime-env /tmp/tmp1.yaml -- python3 -m ier1_plugin.cli train data.train_files=/mnt/shared/...
           trainer.save_checkpoint_path=/mnt/shared/checkpoints/PROJECT/EXPERIMENT config=FILE trainer.nnodes=2

examples/ray_job_submit.sh runs it from the repository's root and says what the variables mean. It needs nothing but
PyYAML, which comes with Ray.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from ier1_plugin.runs.errors import UserError
from ier1_plugin.runs.secrets import without_password
from ier1_plugin.training.run_config import VERL_NAMES, look_up

RUNTIME_ENV = Path("examples", "runtime_env.yaml")
# keys whose values are files that travel, where they lie in this repository
FILES = (
    "data.format_prompt",
    "data.override_chat_template",
    "worker.reward.reward_function",
    "reward.custom_reward_function.path",
)
# keys that the environment may set too
NAMES = {"trainer.project_name": "PROJECT", "trainer.experiment_name": "EXPERIMENT"}
# what a job takes over from this shell: caches and mirrors, loggers, the way out of the network
PASSED = re.compile(
    r"(HF|TRANSFORMERS|WANDB|SWANLAB|MLFLOW|TENSORBOARD)_\w+|\w+_CACHE(_\w+)?|USE_MODELSCOPE_HUB"
    r"|(?i:(HTTP|HTTPS|ALL|NO)_PROXY)"
)
# what belongs to the machines that the job runs on
NAMED = re.compile(r"(HUGGING_FACE|NCCL|VLLM|PYTORCH|TORCH|CUDA|SSL_CERT)_\w+|\w+_CA_BUNDLE")
# Ray shows a job's variables in its dashboard
SECRET = re.compile(r"TOKEN|KEY|SECRET|PASSW|AUTH|CREDENTIAL|COOKIE|HEADER")


def main(arguments: Sequence[str]) -> int:
    """The exit code of `ray job submit`, or 1 after one line on stderr."""
    try:
        return submit(arguments, os.environ)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def submit(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    shared = env.get("SHARED", "")
    if not Path(shared).is_absolute():
        raise UserError(f"SHARED is {shared or 'not set'}; wanted an absolute folder on storage that every node sees")
    run = read_run(arguments, env)
    project, experiment = (name_of(run, key) for key in NAMES)
    passed, left = variables(env)
    runtime_env = yaml.safe_load(RUNTIME_ENV.read_text(encoding="utf-8"))
    runtime_env["excludes"] += [f"!/{path}" for path in travelling(run)]
    checkpoints, curves = "trainer.save_checkpoint_path", f"{shared}/tensorboard_log"
    if "--host=verl" in arguments or ("--host", "verl") in pairwise(arguments):
        # verl adds no names to the folder of the curves
        checkpoints, curves = VERL_NAMES[checkpoints], f"{curves}/{project}/{experiment}"
    runtime_env["env_vars"] = {"TENSORBOARD_DIR": curves} | passed
    settings = {
        "data.train_files": f"{shared}/data/train.parquet",
        "data.val_files": f"{shared}/data/val.parquet",
        "trainer.project_name": project,
        "trainer.experiment_name": experiment,
        checkpoints: f"{shared}/checkpoints/{project}/{experiment}",
    }
    if left:
        where = "set what the job needs where `ray start` runs"
        print(f"note: not passed to the job: {', '.join(left)}; {where}", file=sys.stderr)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(runtime_env, file, sort_keys=False)
        file.flush()
        command = [env.get("RAY", "ray"), "job", "submit", "--runtime-env", file.name, "--"]
        command += [env.get("PYTHON", "python3"), "-m", "ier1_plugin.cli", "train"]
        for key, value in settings.items():
            # EasyR1 reads the values as YAML, to which 007 is a number and what follows " #" a remark
            scalar = yaml.safe_dump(value, width=math.inf, allow_unicode=True).removesuffix("...\n").strip()
            command.append(f"{key}={scalar}")
        try:
            return subprocess.run([*command, *arguments], env=env, check=False).returncode
        except OSError as error:
            raise UserError(f"{command[0]} can't be run ({error.strerror}); install Ray, or name it: RAY=...") from None


def read_run(arguments: Sequence[str], env: Mapping[str, str]) -> dict[str, Any]:
    """{"config": FILE} and the values of FILES and NAMES: from key=value, else the environment, else the config.

    UserError: the config or a value is not YAML, as which EasyR1 reads both.
    """
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    file, config = given.get("config"), None
    try:
        if file:
            config = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        run = {key: look_up(config or {}, key) for key in (*FILES, *NAMES)}
        run["trainer.project_name"] = run["trainer.project_name"] or "imageedit_r1"
        run |= {key: env[name] for key, name in NAMES.items() if env.get(name)}
        return run | {key: yaml.safe_load(given[key]) for key in run if key in given} | {"config": file}
    except OSError as error:
        raise UserError(f"config={file}: {error.strerror}; paths count from the repository's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"config={file} or a value is not YAML: {' '.join(str(error).split())}") from None


def name_of(run: Mapping[str, Any], key: str) -> str:
    """The run's name, so that it never continues from the checkpoint of another. UserError: it names no folder."""
    value, cure = str(run[key] or ""), f"set {NAMES[key]}=NAME"
    if value in ("", "???"):
        raise UserError(f"{key} is not known: give config=FILE.yaml that sets it, or {cure}")
    if value != Path(value).name or value == ".." or "${" in value:
        raise UserError(f"{key} is {value}, which can't be the name of a folder; {cure}")
    return value


def travelling(run: Mapping[str, Any]) -> list[str]:
    """Patterns for the files of this repository that the run names, after their folders, into which Ray looks first.

    With a reward's file come the other Python files of its folder.
    """
    patterns = []
    for key in ("config", *FILES):
        path = Path(str(run[key] or "").split(":")[0])
        if path.is_file() and not path.is_absolute() and ".." not in path.parts:
            patterns += [str(folder) for folder in reversed(path.parents[:-1])]
            patterns.append(str(path.with_name("*.py")) if path.suffix == ".py" else str(path))
    return patterns


def variables(env: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The job's variables, and the names of those that it might want and does not get."""
    passed, left = {}, []
    for name in sorted(name for name in env if env[name] and (PASSED.fullmatch(name) or NAMED.fullmatch(name))):
        secret = SECRET.search(name) or without_password(env[name]) != env[name]
        if PASSED.fullmatch(name) and not secret:
            passed[name] = env[name]
        else:
            left.append(name)
    return passed | ({"PYTHONPATH": env["EASYR1_SOURCE"]} if env.get("EASYR1_SOURCE") else {}), left


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
