"""What editors that compute here share: load at first use, one edit at a time, memory back on `close`.

worker = Worker(load, call)      # nothing is loaded yet, so a planner may have the GPU until the first edit
worker.edit(photo, "Recoloring coat to scarlet.", 0)
worker.close()
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ier1_plugin.editors.base import EditError, Editor, failing_as, known_keys, number, on_canvas
from ier1_plugin.editors.canvas import Canvas
from ier1_plugin.editors.local import loading
from ier1_plugin.editors.local.presets import Preset
from ier1_plugin.task.images import Size
from ier1_plugin.task.rows import neutralise

MAX_SEED = 2**63 - 1
# a canvas of less shows nothing, one of more fits on no card
MIN_PIXELS, MAX_PIXELS = 64 * 64, 4096 * 4096
_RANGES = (("steps", 1, 1000, True), ("guidance", 0, 100, False), ("canvas_pixels", MIN_PIXELS, MAX_PIXELS, True))


@dataclass(frozen=True)
class Options:
    """How a user wants a pipeline called; None leaves it to the preset."""

    steps: int | None = None
    guidance: float | None = None
    canvas_pixels: int | None = None
    """Pixels of the canvas, where the pipeline leaves that open; about a megapixel is what models are trained on."""
    call_kwargs: Mapping[str, Any] | None = None
    """Further arguments of the call, as JSON (see `objects.py`)."""

    def __post_init__(self) -> None:
        for name, low, high, whole in _RANGES:
            if getattr(self, name) is not None:
                number(getattr(self, name), name, low, high, whole)

    def arguments(self, preset: Preset, known: set[str], name: str) -> dict[str, Any]:
        """What every call of a pipeline gets that knows the arguments `known`.

        The preset's own are left out where they are not known; a user's unknown one is an EditError.
        """
        chosen = {"num_inference_steps": self.steps, preset.guidance: self.guidance}
        wanted = {**preset.call, **{key: value for key, value in chosen.items() if value is not None}}
        given = dict(loading.build(self.call_kwargs or {}))
        known_keys(given, known, f"call_kwargs: {name}")
        return {key: value for key, value in wanted.items() if key in known} | given


@dataclass(frozen=True)
class Loaded:
    """A pipeline with all that is known about calling it."""

    pipe: Any
    name: str
    preset: Preset
    canvas: Canvas
    arguments: Mapping[str, Any]
    """What every call gets, apart from image, instruction, size and noise."""

    def check_length(self, instruction: str) -> None:
        """EditError for a text that would be cut off in silence, and the last sub-requests with it."""
        if self.preset.truncates is None:
            return
        limit = self.arguments.get("max_sequence_length", 512)
        tokens = len(getattr(self.pipe, self.preset.truncates)(instruction, verbose=False).input_ids)
        if tokens > limit:
            raise EditError(
                f"{self.name} reads {limit} tokens of an instruction and this one has {tokens}; shorten it, or make "
                "the edits one after another (--mode multi-turn)"
            )


Call = Callable[[Loaded, Image.Image, str, Any], Image.Image]
"""(pipeline, image on its canvas, instruction, source of noise) -> the result."""


class Worker:
    """One pipeline; safe to use from several threads, which wait for each other."""

    def __init__(self, load: Callable[[], Loaded], call: Call) -> None:
        self._load, self._call = load, call
        self._lock = threading.RLock()
        self._loaded: Loaded | None = None

    def get(self) -> Loaded:
        with self._lock:
            self._loaded = self._loaded or self._load()
            return self._loaded

    def canvas(self, size: Size) -> Size:
        return self.get().canvas(size)

    def edit(self, image: Image.Image, instruction: str, seed: int) -> Image.Image:
        number(seed, "seed", 0, MAX_SEED, whole=True)
        with self._lock:
            loaded = self.get()
            with failing_as(loaded.name, loading.HINTS):
                import torch

                # drawn on the CPU, the noise is the same on every device
                noise = torch.Generator("cpu").manual_seed(seed)
                return self._call(loaded, image, neutralise(instruction), noise)

    def close(self) -> None:
        with self._lock:
            if self._loaded is not None:
                self._loaded = None
                loading.free_memory()


def local_editor(
    name: str,
    source: str,
    placement: loading.Placement,
    load: Callable[[], Loaded],
    call: Call,
    settings: Mapping[str, Any],
) -> Editor:
    """An editor around a Worker. EditError, before anything is loaded: `source` or `placement` can't be."""
    loading.check_source(source, name)
    device = loading.check_placement(placement)
    worker = Worker(load, call)
    placed = {"model": source, "device": device, "dtype": placement.dtype, "offload": placement.offload}
    return Editor(
        name,
        on_canvas(worker.edit, worker.canvas),
        worker.canvas,
        settings={**placed, **settings, "versions": loading.versions()},
        close=worker.close,
    )
