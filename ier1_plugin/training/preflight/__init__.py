"""Everything that can go wrong with a training run and be seen before it starts, one line each.

    lines(Run(config))
    -> ["trainer.logger: this EasyR1 has no logger 'file', but console, mlflow, swanlab, tensorboard, wandb; ..."]

A check is a function from a `Run` to lines. To add one, write it and name it in CHECKS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ier1_plugin.runs.errors import UserError, one_line
from ier1_plugin.training.preflight import host, places, reward, rows, settings
from ier1_plugin.training.preflight.run import Check, Note, Run, Unchecked

CHECKS: tuple[Check, ...] = (
    host.stand_ins,
    host.engines,
    host.lora,
    host.loggers,
    host.model,
    host.gpus,
    settings.positive,
    settings.names,
    settings.batches,
    settings.sampling,
    settings.ranges,
    settings.lengths,
    places.saving,
    places.resuming,
    places.tensorboard,
    places.job,
    reward.prompt,
    reward.chat_template,
    reward.reward_function,
    rows.data,
)


def lines(run: Run, checks: Sequence[Check] | None = None, words: Callable[[str], str] = str) -> list[str]:
    """All that the checks, by default those for EasyR1, have to say about a run: problems and `Note`s, each once.

    `words`: changes the words of a line, for a host that has other names.
    """
    found: dict[str, None] = {}
    for check in checks or CHECKS:
        try:
            for line in check(run):
                found[type(line)(words(line))] = None
        except UserError as error:
            found[words(str(error))] = None
        except Exception as error:  # what nobody foresaw must not hide what the other checks found
            name = f"{check.__module__.rpartition('.')[2]}.{check.__name__}"
            found[f"the check {name} failed: {type(error).__name__}: {one_line(error)}; please report it"] = None
    unchecked = [line for line in found if isinstance(line, Unchecked)]
    said = [line for line in found if not isinstance(line, Unchecked)]
    if unchecked:
        said.append(Note(f"not checked here, without a GPU: {'; '.join(unchecked)}; check again where the run starts"))
    return said
