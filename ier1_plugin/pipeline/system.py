"""A system: which agents plan, which editor edits and how, as a YAML file or as options of the command line.

    # systems/flux-kontext.yaml
    name: ImageEdit-R1 with FLUX.1-Kontext-dev
    decomposer: openai:http://127.0.0.1:8000/v1#decomposer
    sequencer: openai:http://127.0.0.1:8001/v1#Qwen/Qwen2.5-VL-7B-Instruct
    editor: flux-kontext

    System.read("flux-kontext", seed=7).build().edit("portrait.jpg", "make the coat red")

API keys are read from the environment, never from a file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ier1_plugin import __version__
from ier1_plugin.chat.http import MAX_TIMEOUT
from ier1_plugin.runs.fingerprint import fingerprint
from ier1_plugin.runs.secrets import without_secrets
from ier1_plugin.runs.settings import HELP, PARSE, SettingsError, parse_settings, read_yaml
from ier1_plugin.task.schema import CHAIN, METHODS, MODES, ORIGINAL, SEQUENCER_INPUTS, SINGLE_TURN, PlanError

if TYPE_CHECKING:
    from ier1_plugin.chat import Chat
    from ier1_plugin.editors import Editor
    from ier1_plugin.pipeline.chain import Agent, ImageEditR1

BASE, RULE = "base", "rule"
"""Sequencers without an address: the model that the decomposer was trained from, and no model at all."""
LOCAL = "local:"
AGENTS = "decomposer", "sequencer"
# settings that change no pixel of the result
NOT_IN_RUN = ("name", "timeout")
SYSTEM, PRESET = "system", "preset"
FOLDERS = {SYSTEM: Path(__file__).parent / "systems", PRESET: Path(__file__).parents[1] / "editors" / "presets"}
"""What the package ships by name: whole systems, and editor settings that extend one."""
FORMER_FOLDERS = {SYSTEM: "examples/systems", PRESET: "examples/editors"}
NO_DECOMPOSER = (
    "no decomposer; name one with --decomposer openai:http://127.0.0.1:8000/v1#MODEL or --decomposer local:FOLDER, "
    "or pass the request on as it is with --method original"
)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"is not JSON ({error}): {text}") from None


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _option(default: Any, help: str) -> Any:
    """A field with the help of its option."""
    return field(default=default, metadata={HELP: help})


@dataclass(frozen=True)
class System:
    """The settings; each is a key of a YAML file and an option of `ier1 edit` and `ier1 batch`."""

    name: str = _option("", "name of this system in tables")
    decomposer: str = _option("", "openai:BASE_URL#MODEL, openai:MODEL, gemini:MODEL or local:FOLDER")
    sequencer: str = _option(
        BASE,
        "as the decomposer; or rule: no model; or base (default): the model that a local decomposer "
        "was trained from, or, behind a server, the decomposer itself",
    )
    sequencer_sees: tuple[str, ...] = field(
        default=(), metadata={HELP: "image,request: what the sequencer sees besides the decomposition", PARSE: _words}
    )
    constrain: bool = _option(False, "hold an untrained model to the form of its answer by a JSON schema")
    min_pixels: int | None = _option(None, "fewest pixels of the image that the agents see (default: 3136)")
    max_pixels: int | None = _option(None, "most pixels of the image that the agents see (default: 1003520)")
    timeout: float = _option(120.0, "seconds that a request to an agent may take (default: 120)")
    max_tokens: int | None = _option(None, "tokens of an agent's reply; models that think need more (default: 2048)")
    editor: str = _option("", "an editor; `ier1 models` lists them")
    steps: int | None = _option(None, "denoising steps (default: the choice of the editor's authors)")
    guidance: float | None = _option(None, "guidance scale (default: the choice of the editor's authors)")
    offload: str | None = _option(None, "none (default), model or group: what the editor offloads from the GPU")
    load_kwargs: dict[str, Any] = field(
        default_factory=dict, metadata={HELP: "JSON: further arguments for loading the editor", PARSE: _json}
    )
    call_kwargs: dict[str, Any] = field(
        default_factory=dict, metadata={HELP: "JSON: further arguments for each call of the editor", PARSE: _json}
    )
    editor_settings: dict[str, Any] = field(
        default_factory=dict, metadata={HELP: "JSON: other settings of the editor, such as its model", PARSE: _json}
    )
    mode: str = _option(SINGLE_TURN, "single-turn: all sub-requests at once (default); or multi-turn")
    method: str = _option(CHAIN, "imageedit-r1 (default); or original: the request as it is, without agents")
    seed: int = _option(0, "seed of the editor's noise (default: 0)")

    @classmethod
    def read(cls, file: str | Path, **changes: Any) -> System:
        """The system of a name or a YAML file, with `changes`. SettingsError: no such file, an unknown key or value."""
        return parse_settings(cls, read_yaml(find_settings(SYSTEM, file)) | changes, str(file))

    def __post_init__(self) -> None:
        for name, known in (("mode", MODES), ("method", METHODS)):
            if getattr(self, name) not in known:
                raise SettingsError(f"{name} is {getattr(self, name)!r}; known: {', '.join(known)}")
        for sight in self.sequencer_sees:
            if sight not in SEQUENCER_INPUTS:
                raise SettingsError(f"the sequencer can't be shown {sight!r}; known: {', '.join(SEQUENCER_INPUTS)}")
        if type(self.seed) is not int or not 0 <= self.seed < 2**31:
            raise SettingsError(f"seed is {self.seed!r}; wanted a whole number from 0 to {2**31 - 1}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise SettingsError(f"max_tokens is {self.max_tokens}; wanted 1 or more")
        if not 0 < self.timeout <= MAX_TIMEOUT:
            raise SettingsError(f"timeout is {self.timeout}; wanted a number of seconds from 0 to {MAX_TIMEOUT:.0f}")

    @property
    def plans_here(self) -> bool:
        """True if planning needs weights in this process."""
        return self.method != ORIGINAL and any(spec.startswith(LOCAL) for spec in (self.decomposer, self.sequencer))

    def build(self, on_warning: Callable[[str], None] | None = None) -> ImageEditR1:
        """All parts, ready to edit; `on_warning` as in ImageEditR1. ChatError, EditError: one is not available here."""
        from ier1_plugin.pipeline.chain import ImageEditR1

        options = {"on_warning": on_warning} if on_warning else {}
        editor = self.make_editor(**options)
        return ImageEditR1(*self.agents(**options), editor, **options)

    def agents(self, on_warning: Callable[[str], None] = lambda line: None) -> tuple[Agent | None, Agent | None]:
        """Decomposer and sequencer; None and None if no plan is made. ChatError: one is not available here."""
        from ier1_plugin.pipeline.agents import decompose, rule, sequence
        from ier1_plugin.pipeline.chain import Agent, as_agent

        if self.method == ORIGINAL:
            return None, None
        if not self.decomposer:
            raise PlanError(NO_DECOMPOSER)
        chat = self._chat(self.decomposer, on_warning)
        decomposer = Agent(chat.name, partial(decompose, chat=chat, constrain=self.constrain), chat.close)
        if self.sequencer == RULE:
            return decomposer, as_agent(rule)
        spec, facts = self.sequencer, chat.facts
        if spec == BASE:
            # the model that the decomposer was trained from, where its folder says so
            spec = self.decomposer
            if facts and facts.base_hub_id:
                spec = f"{LOCAL}{facts.base_hub_id}"
            elif facts and facts.base_model:
                base = Path(os.path.normpath(Path(spec.removeprefix(LOCAL), facts.base_model)))
                if not base.is_dir():
                    raise SettingsError(
                        f"{base}, from which {spec} was trained, is not there to order the edits; name another "
                        f"--sequencer, or {RULE}, which needs no model"
                    )
                spec = f"{LOCAL}{base}"
        other = chat if spec == self.decomposer else self._chat(spec, on_warning)
        order = partial(sequence, chat=other, inputs=self.sequencer_sees, constrain=self.constrain)
        return decomposer, Agent(other.name, order, other.close)

    def make_editor(self, on_warning: Callable[[str], None] = lambda line: None) -> Editor:
        """EditError: there is no such editor, or it is not available on this machine."""
        from ier1_plugin.editors import EditError, make_editor

        if not self.editor:
            raise EditError("no editor; name one with --editor (ier1 models lists them)")
        own = {name: getattr(self, name) for name in ("steps", "guidance", "offload", "load_kwargs", "call_kwargs")}
        given = {name: value for name, value in own.items() if value not in (None, {})}
        return make_editor(self.editor, on_warning, **given | self.editor_settings)

    def _chat(self, spec: str, on_warning: Callable[[str], None]) -> Chat:
        from ier1_plugin.chat import BUDGET, MAX_TOKENS, make_chat

        low, high = self.min_pixels or BUDGET[0], self.max_pixels or BUDGET[1]
        if not 0 < low <= high:
            raise SettingsError(f"min_pixels is {low} and max_pixels {high}; wanted 0 < min_pixels <= max_pixels")
        budget = (low, high) if self.min_pixels or self.max_pixels else None
        limits: dict[str, Any] = {"timeout": self.timeout, "max_tokens": self.max_tokens or MAX_TOKENS}
        return make_chat(spec, budget=budget, on_warning=on_warning, **limits)


def run_settings(system: System, fingerprint: Callable[[Path], str] = fingerprint) -> dict[str, Any]:
    """The settings that decide the pixels, for run.json, without secrets. `fingerprint`: hashes a
    folder of weights, so that retrained weights are not mistaken for these.
    """
    kept = {known.name: getattr(system, known.name) for known in fields(system) if known.name not in NOT_IN_RUN}
    local = {name: Path(kept[name].removeprefix(LOCAL)) for name in AGENTS if kept[name].startswith(LOCAL)}
    weights = {f"{name}_sha256": fingerprint(folder) for name, folder in local.items() if folder.is_dir()}
    return without_secrets(kept) | weights | {"imageedit_r1": __version__}


def shipped(kind: str) -> dict[str, Path]:
    """The file of each SYSTEM or PRESET that the package ships, by its name."""
    files = {file.stem: file for file in FOLDERS[kind].glob("*.yaml")}
    return dict(sorted(files.items()))


def find_settings(kind: str, name: str | Path) -> Path:
    """The file of a SYSTEM or PRESET: one that the package ships under this name, else `name` is the file itself."""
    known, file = shipped(kind) if kind in FOLDERS else {}, Path(name)
    if str(name) in known:
        return known[str(name)]
    for moved_kind, folder in FORMER_FOLDERS.items():
        new_name = file.stem.replace("_", "-")
        if file.parent.match(folder) and not file.exists() and new_name in shipped(moved_kind):
            raise SettingsError(f"{file} is in the package now: --{moved_kind} {new_name}")
    if kind not in FOLDERS or file.suffix or file.parent != Path() or file.exists():
        return file
    raise SettingsError(f"there is no {kind} {str(name)!r}; name a YAML file, or one of {', '.join(known)}")
