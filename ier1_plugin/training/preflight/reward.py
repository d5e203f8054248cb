"""The reward file, the prompt file and the chat template: they are loaded here as EasyR1 will load them.

EasyR1 itself prints one line about a missing file and goes on with None: without a prompt, or until the first step.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Iterator
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

from ier1_plugin.task.parsing import render_response
from ier1_plugin.task.schema import Decomposition
from ier1_plugin.training.preflight.run import Run
from ier1_plugin.training.preflight.settings import get

KEY = "worker.reward.reward_function"
REWARD_TYPES = ("batch", "sequential")
_GOLD = Decomposition(("Delete",), ("lamp",), ("a bare wall",))


def reward_function(run: Run) -> Iterator[str]:
    given = run.config.worker.reward.reward_function
    if not given:
        yield f"{KEY} is not set; leave the key out to get this project's own"
        return
    path, name = given.rsplit(":", 1) if ":" in given else (given, "main")
    if not Path(path).is_file():
        yield f"{KEY}={given}: there is no file {path}; paths count from the current folder"
        return
    try:
        module = _load(Path(path))
    except Exception as error:  # a file of the user's may raise anything
        yield f"{KEY}={given}: the file fails to load: {_line(error)}"
        return
    if not callable(function := getattr(module, name, None)):
        yield f"{KEY}={given}: the file has no function {name}"
    else:
        yield from _use(run, function, getattr(module, "REWARD_TYPE", "batch"))


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
    if "content" not in variables:
        yield f"data.format_prompt={path} never uses {{{{ content }}}}: the model would not see the request"
    if others := sorted(variables - {"content"}):
        yield f"data.format_prompt={path} uses {', '.join(others)}: EasyR1 gives it nothing but content"


def chat_template(run: Run) -> Iterator[str]:
    """EasyR1's source wants a file here and drops one that is missing; 0.3.2 wants the text of the template."""
    from verl.utils import py_functional

    given = run.config.data.override_chat_template
    if not given:
        return
    wants_file = hasattr(py_functional, "get_abs_path")
    if wants_file and not Path(given).is_file():
        yield f"data.override_chat_template={given:.80}: no such file"
    elif not wants_file and "{" not in given:
        yield f"data.override_chat_template={given:.80}: EasyR1 0.3.2 takes the text of the template, not its file"


def _load(path: Path) -> ModuleType:
    """Runs the file under the module name that EasyR1 gives it (verl/workers/reward/function.py)."""
    spec = importlib.util.spec_from_file_location("custom_reward_fn", path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _use(run: Run, function: Callable[..., Any], reward_type: str) -> Iterator[str]:
    """Type, keyword arguments, and one call with a gold and a broken response."""
    configured = get(run.config, "worker.reward.reward_type")
    if reward_type not in REWARD_TYPES:
        yield f"{KEY}: REWARD_TYPE={reward_type!r} in the file; EasyR1 knows {', '.join(REWARD_TYPES)}"
    elif configured is not None and configured != reward_type:
        yield f"worker.reward.reward_type={configured}, but the reward file is written for {reward_type}; set that"
    elif unaccepted := list(_unaccepted(run, function)):
        yield from unaccepted
    else:
        yield from _probe(run, function, reward_type)


def _unaccepted(run: Run, function: Callable[..., Any]) -> Iterator[str]:
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    options = list(parameters)[1:]
    for name in run.config.worker.reward.reward_function_kwargs:
        if name not in options:
            near = difflib.get_close_matches(name, options, n=1) or options
            yield f"{KEY}_kwargs.{name}: the function takes no such argument; nearest: {', '.join(near) or 'none'}"


def _probe(run: Run, function: Callable[..., Any], reward_type: str) -> Iterator[str]:
    inputs = [_reward_input(render_response(_GOLD, "The lamp goes.")), _reward_input("<action>[")]
    kwargs = dict(run.config.worker.reward.reward_function_kwargs)
    try:
        batch = reward_type == "batch"
        scores = function(inputs, **kwargs) if batch else [function(item, **kwargs) for item in inputs]
    except Exception as error:  # a function of the user's may raise anything
        yield f"{KEY}: a trial call fails: {_line(error)}"
        return
    if not isinstance(scores, list) or len(scores) != len(inputs):
        yield f"{KEY}: wanted a list with one score for each response, got {scores!r:.200}"
    elif not all(map(_is_score, scores)) or set(scores[0]) != set(scores[1]):
        yield f"{KEY}: wanted dicts with `overall` and the same finite numbers each time, got {scores!r:.200}"


def _reward_input(response: str) -> dict[str, Any]:
    return {"response": response, "response_length": len(response.split()), "ground_truth": _GOLD.to_json()}


def _is_score(score: Any) -> bool:
    numbers = isinstance(score, dict) and all(isinstance(value, Real) for value in score.values())
    return numbers and "overall" in score and all(map(math.isfinite, score.values()))


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
