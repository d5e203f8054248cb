"""Submits a training as a Ray job: what travels with it, where it writes, and which variables it gets.

    RAY_ADDRESS=http://HEAD:8265 SHARED=/mnt/shared python3 -m ier1_plugin.training.ray_job config=FILE trainer.nnodes=2
    -> ray job submit --runtime-env /tmp/tmp1.yaml -- python3 -m ier1_plugin.cli train data.train_files=/mnt/shared/...
           trainer.save_checkpoint_path=/mnt/shared/checkpoints/PROJECT/EXPERIMENT config=FILE trainer.nnodes=2

examples/ray_job_submit.sh runs it from the repository's root and says what the variables mean. It needs nothing but
PyYAML, which comes with Ray.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ier1_plugin.runs.errors import UserError
from ier1_plugin.runs.secrets import without_password

RUNTIME_ENV = Path("examples", "runtime_env.yaml")
# keys whose values are files that travel, where they lie in this repository
FILES = ("config", "data.format_prompt", "data.override_chat_template", "worker.reward.reward_function")
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
    given = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    project, experiment = run_name(given, env)
    passed, left = variables(env)
    runtime_env = yaml.safe_load(RUNTIME_ENV.read_text(encoding="utf-8"))
    runtime_env["excludes"] += [f"!/{path}" for path in travelling(given)]
    runtime_env["env_vars"] = {"TENSORBOARD_DIR": f"{shared}/tensorboard_log"} | passed
    settings = {
        "data.train_files": f"{shared}/data/train.parquet",
        "data.val_files": f"{shared}/data/val.parquet",
        "trainer.project_name": project,
        "trainer.experiment_name": experiment,
        "trainer.save_checkpoint_path": f"{shared}/checkpoints/{project}/{experiment}",
    }
    if left:
        where = "set what the job needs where `ray start` runs"
        print(f"note: not passed to the job: {', '.join(left)}; {where}", file=sys.stderr)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(runtime_env, file, sort_keys=False)
        file.flush()
        command = [env.get("RAY", "ray"), "job", "submit", "--runtime-env", file.name, "--"]
        command += [env.get("PYTHON", "python3"), "-m", "ier1_plugin.cli", "train"]
        # EasyR1 reads the values as YAML, to which 007 is a number and what follows " #" a remark
        command += [
            f"{key}={value if yaml.safe_load(value) == value else json.dumps(value)}" for key, value in settings.items()
        ]
        try:
            return subprocess.run([*command, *arguments], env=env, check=False).returncode
        except OSError as error:
            raise UserError(f"{command[0]} can't be run ({error.strerror}); install Ray, or name it: RAY=...") from None


def run_name(given: Mapping[str, str], env: Mapping[str, str]) -> tuple[str, str]:
    """The run's project and experiment, so that it never continues from the checkpoint of another.

    Each from its key, else from PROJECT or EXPERIMENT, else from the config. UserError: the config can't be read, or
    a name is not known or can't be that of a folder.
    """
    config: Any = None
    try:
        if file := given.get("config"):
            config = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        values = {key: yaml.safe_load(value) for key, value in given.items() if key.endswith("_name")}
    except OSError as error:
        raise UserError(f"config={file}: {error.strerror}; paths count from the repository's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"config={file} or a name is not YAML: {' '.join(str(error).split())}") from None
    trainer = config.get("trainer") if isinstance(config, dict) else None
    trainer = trainer if isinstance(trainer, dict) else {}
    names = []
    for key, default in (("project", "imageedit_r1"), ("experiment", "")):
        name = f"trainer.{key}_name"
        value = values.get(name) or env.get(key.upper()) or trainer.get(f"{key}_name") or default
        value = "" if value == "???" else str(value)
        if not value:
            raise UserError(f"{name} is not known: give config=FILE.yaml that sets it, or {key.upper()}=NAME")
        if value != Path(value).name or value == ".." or "${" in value:
            raise UserError(f"{name} is {value}, which can't be the name of a folder; set {key.upper()}=NAME")
        names.append(value)
    return names[0], names[1]


def travelling(given: Mapping[str, str]) -> list[str]:
    """The files of this repository that the run names, after their folders: Ray looks into no folder it leaves out."""
    paths = [Path(given[key].split(":")[0]) for key in FILES if key in given]
    own = [path for path in paths if path.is_file() and not path.is_absolute() and ".." not in path.parts]
    return [str(part) for path in own for part in reversed([path, *path.parents[:-1]])]


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
