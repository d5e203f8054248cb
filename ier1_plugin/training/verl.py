"""What upstream verl finds of this package: it imports this module by the entry point group `verl.plugins`.

    pip install imageedit-r1        # nothing else; in every process, after `import verl`:
    VERL_PLATFORM=cpu               -> the platform of `cpu/verl_platform.py`, under the conditions of `--cpu`
    any other platform              -> nothing

Rows and reward are found by path: `data.custom_cls` (verl_dataset.py) and `reward.custom_reward_function`. Loads
nothing else, and EasyR1's package of the same name `verl` never looks for it.
"""

from __future__ import annotations

import os
import sys


def register_platform() -> None:
    try:
        from ier1_plugin.training.cpu import verl_platform

        verl_platform.install()
    except Exception as error:  # whatever a version of verl raises that has moved what is replaced
        # verl itself passes over a plugin that fails, with a line at DEBUG (verl/__init__.py)
        print(f"imageedit-r1, plugin of verl: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        raise SystemExit(1) from error


if os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu":
    register_platform()
