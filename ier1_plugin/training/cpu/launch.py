"""How Ray is started, or joined, by a run without a GPU.

ray_init_kwargs(n_gpus=1)
-> {"num_cpus": 7, "num_gpus": 1, "include_dashboard": False, "object_store_memory": 314572800,
    "runtime_env": {"worker_process_setup_hook": "ier1_plugin.training.cpu.install", "env_vars": {...}}}
"""

from __future__ import annotations

import json
import os
from typing import Any

SETUP_HOOK = "ier1_plugin.training.cpu.install"
# EasyR1 asks for 1 CPU for its runner, 1 for each of two reward actors and 1 a rank; the rest is for short-lived tasks.
# They are logical: two real cores are enough.
EXTRA_CPUS = 6
OBJECT_STORE_BYTES = 300 * 2**20
# CPU threads of each process. A second one saves about a tenth of a step at this model size, and EasyR1's forked prompt
# filter can hang for ever in a process that has used OpenMP threads.
THREADS = 1
# set by Ray for the driver of a submitted job
JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"


def ray_init_kwargs(n_gpus: int) -> dict[str, Any]:
    """Keyword arguments for `ray.init`.

    `n_gpus`: ranks on this machine (`trainer.n_gpus_per_node`), given to Ray as logical GPUs. A running cluster, named
    by RAY_ADDRESS, has its own numbers; it gets the runtime environment only.
    """
    env_vars = {
        "OMP_NUM_THREADS": str(THREADS),
        "TOKENIZERS_PARALLELISM": "true",
        # Ray warns otherwise that it will stop hiding GPUs from tasks that ask for none
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    # a job's path is Ray's copy of the working directory, which Ray hands to the workers itself
    if "PYTHONPATH" in os.environ and JOB_CONFIG not in os.environ:
        env_vars["PYTHONPATH"] = os.environ["PYTHONPATH"]
    # less what the submitted job sets already: Ray refuses a key that both name
    job = json.loads(os.environ.get(JOB_CONFIG) or "{}").get("runtime_env") or {}
    taken = job.get("env_vars") or {}
    runtime_env: dict[str, Any] = {"env_vars": {key: env_vars[key] for key in env_vars if key not in taken}}
    if "worker_process_setup_hook" not in job:
        runtime_env["worker_process_setup_hook"] = SETUP_HOOK
    if address := os.environ.get("RAY_ADDRESS"):
        return {"address": address, "runtime_env": runtime_env}
    return {
        "num_cpus": EXTRA_CPUS + n_gpus,
        "num_gpus": n_gpus,
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
        "runtime_env": runtime_env,
    }
