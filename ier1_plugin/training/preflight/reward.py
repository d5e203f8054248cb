"""The reward file, the prompt file and the chat template: they are loaded here as EasyR1 will load them.

EasyR1 itself prints one line about a missing file and continues with None: without a prompt, or until the first step.
"""

from __future__ import annotations

import difflib
import inspect
import math
import os
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import Any

from ier1_plugin.runs.errors import one_line
from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.schema import Decomposition
from ier1_plugin.training.preflight.reward_file import CASE, KEY, KWARGS, load
from ier1_plugin.training.preflight.rows import first_answer, image_roots
from ier1_plugin.training.preflight.run import Run, Unchecked
from ier1_plugin.training.preflight.settings import get

REWARD_TYPES = ("batch", "sequential")


def reward_function(run: Run) -> Iterator[str]:
    """Type, keyword arguments, and one call with a gold and a broken response."""
    reward = load(run.config.worker.reward.reward_function)
    configured = get(run.config, "worker.reward.reward_type")
    if reward.reward_type not in REWARD_TYPES:
        yield f"{KEY}: REWARD_TYPE={reward.reward_type!r} in the file; EasyR1 knows {', '.join(REWARD_TYPES)}"
        return
    if configured is not None and configured != reward.reward_type:
        yield f"worker.reward.reward_type={configured}, but the file is written for {reward.reward_type}; set that"
        return
    kwargs = dict(run.config.worker.reward.reward_function_kwargs)
    parameters = inspect.signature(reward.function).parameters
    options = list(parameters)[1:]
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    unknown = [] if takes_any else [name for name in kwargs if name not in options]
    for name in unknown:
        near = difflib.get_close_matches(name, options, n=1) or options
        yield f"{KWARGS}.{name}: the function takes no such argument; nearest: {', '.join(near) or 'none'}"
    if unknown:
        return
    if reward.needs == CASE:
        # a reward is not told whether it validates, and there every sample counts
        if kwargs.get("normalise") and (run.config.worker.rollout.val_override_config.get("n") or 1) > 1:
            yield f"{KWARGS}.normalise is for groups; set worker.rollout.val_override_config.n=1"
        relative = [path for path in (*image_roots(run), kwargs.get("store", "")) if not os.path.isabs(path)]
        if run.in_job and relative:
            yield (
                f"{KWARGS}: {', '.join(relative)} is relative to Ray's copy of the working directory; give an absolute "
                "path on storage that every node sees"
            )
            return
        if run.elsewhere:
            yield Unchecked("the reward's editor and judge")
            return
    gold = Decomposition(("Delete",), ("lamp",), ("a bare wall",))
    answer = gold.to_json() if reward.needs != CASE else first_answer(run)
    if answer is None:
        return
    inputs = [
        {"response": response, "response_length": len(response.split()), "ground_truth": answer}
        for response in (render_response(gold, "The lamp goes."), "<action>[")
    ]
    try:
        if reward.check:
            reward.check(**kwargs)
        batch = reward.reward_type == "batch"
        scores = reward.function(inputs, **kwargs) if batch else [reward.function(item, **kwargs) for item in inputs]
    except (Exception, SystemExit) as error:  # a function of the user's may raise anything
        yield f"{KEY}: a trial call fails: {type(error).__name__}: {one_line(error)}"
        return
    if not isinstance(scores, list) or len(scores) != len(inputs):
        yield f"{KEY}: wanted a list with one score for each response, got {scores!r:.200}"
    elif not all(map(_is_score, scores)) or set(scores[0]) != set(scores[1]):
        yield f"{KEY}: wanted dicts with `overall` and the same finite numbers each time, got {scores!r:.200}"
    elif run.config.algorithm.online_filtering and (name := run.config.algorithm.filter_key) not in scores[0]:
        yield f"algorithm.filter_key={name}: the reward function gives no such score, but {', '.join(scores[0])}"


def prompt(run: Run) -> Iterator[str]:
    from jinja2 import Environment, TemplateSyntaxError, meta

    path = run.config.data.format_prompt
    if not path or not Path(path).is_file():
        yield f"data.format_prompt={path}: no such file; leave the key out to get this project's own prompt"
        return
    try:
        variables = meta.find_undeclared_variables(Environment().parse(Path(path).read_text(encoding="utf-8")))
    except TemplateSyntaxError as error:
        yield f"data.format_prompt={path}: line {error.lineno}: {error.message}"
        return
    except (OSError, UnicodeDecodeError) as error:
        yield f"data.format_prompt={path} can't be read as UTF-8 text: {one_line(error)}"
        return
    if "content" not in variables:
        yield f"data.format_prompt={path} never uses {{{{ content }}}}: the model would not see the request"
    if others := sorted(variables - {"content"}):
        yield f"data.format_prompt={path} uses {', '.join(others)}: EasyR1 gives it nothing but content"


def chat_template(run: Run) -> Iterator[str]:
    """EasyR1's source wants a file here and drops one that is missing; 0.3.2 wants the text of the template."""
    from verl.utils import py_functional

    template = run.config.data.override_chat_template
    if not template:
        return
    wants_file = hasattr(py_functional, "get_abs_path")
    if wants_file and not Path(template).is_file():
        yield f"data.override_chat_template={template:.80}: no such file"
    elif not wants_file and "{" not in template:
        yield f"data.override_chat_template={template:.80}: EasyR1 0.3.2 takes the text of the template, not its file"


def _is_score(score: Any) -> bool:
    numbers = isinstance(score, dict) and all(isinstance(value, Real) for value in score.values())
    return numbers and "overall" in score and all(map(math.isfinite, score.values()))
