"""A Ray cluster for the length of a run.

with connected(address):       # "auto", "ray://head:10001", ...; None: RAY_ADDRESS, else a cluster that is started here
    ray.data.from_items(...)
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ier1_plugin.runs.folder import RunError


@contextmanager
def connected(address: str | None = None, runtime_env: dict[str, Any] | None = None) -> Iterator[None]:
    """Connects to the cluster, or starts one that ends with the block; where this process is connected already, it
    stays so. RunError: there is none.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise RunError(f"--ray needs Ray ({error}): pip install 'ray[data]'") from None
    own = not ray.is_initialized()
    try:
        if own:
            ray.init(
                address=address,
                runtime_env=runtime_env,
                log_to_driver=True,
                configure_logging=True,
                logging_level=logging.WARNING,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"no Ray cluster at {address or 'this machine'}: {reason}") from None
    # there is a bar already
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        yield
    finally:
        if own:
            ray.shutdown()
