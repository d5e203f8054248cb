"""What the answers of a model depend on, kept beside them, so that no run takes those of other weights for its own.

    identity("local:decomposer")
    -> {"files_sha256": "9f2c...", "prompt_sha256": "0d5f...", "min_pixels": 3136, "max_pixels": 1003520,
        "constrain": False}
    begin(Path("out"), ["local:decomposer"])      # EvaluationError: out/responses has answers of other weights

Weights in a folder are known by their content, models of the hub by their commit, served ones by address and name
alone: what a server loads under a name can't be seen from here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ier1_plugin.chat import BUDGET
from ier1_plugin.chat.server import OPENAI, ChatError, without_password
from ier1_plugin.data.items import Item
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.prompts import path as prompt_path
from ier1_plugin.runs.fingerprint import fingerprint, sha256_of
from ier1_plugin.runs.folder import write
from ier1_plugin.task.decomposer import FILE_NAME, HUB_ID, Decomposer, DecomposerError

RESPONSES, MODELS = "responses", "models.json"
SHOWN = 16


def begin(out: Path, models: Sequence[str]) -> None:
    """Notes what the answers of the models depend on. EvaluationError: those that are there depend on something else.

    ChatError, OSError: there is no such model.
    """
    file = out / MODELS
    known = read_kept(file)
    for model in models:
        name, now = without_password(model), identity(model)
        answers = answers_file(out, model)
        if answers.is_file() and answers.stat().st_size:
            _check(out, name, known.get(name), now)
        known[name] = now
    write(file, json.dumps(known, indent=1, ensure_ascii=False) + "\n")


def answers_file(out: Path, model: str) -> Path:
    return out / RESPONSES / f"{Item(without_password(model)).name}.jsonl"


def read_kept(file: Path) -> dict[str, Any]:
    """The JSON object that an earlier run left, {} if none did. EvaluationError: it is damaged."""
    try:
        values = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise EvaluationError(f"{file} is damaged; choose another --out")
    return values


def identity(model: str) -> dict[str, Any]:
    """Of "local:FOLDER" or "openai:BASE_URL#MODEL". ChatError, OSError: the folder holds no model."""
    kind, _, rest = model.partition(":")
    return (_local(rest) if kind == "local" else _served(rest)) | {"constrain": False}


def _check(out: Path, name: str, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    if before is None:
        raise EvaluationError(
            f"{out} has answers of {name} and does not say which weights gave them; choose another --out"
        )
    # None: the hub does not say just now
    changed = [key for key in now if now[key] is not None and before.get(key) != now[key]]
    if changed:
        what = ", ".join(f"{key} {_short(before.get(key))}, now {_short(now[key])}" for key in changed)
        raise EvaluationError(f"{out} has answers of another {name} ({what}); choose another --out")


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 2 * SHOWN else f"{text[:SHOWN]}..."


def _local(place: str) -> dict[str, Any]:
    folder = Path(place)
    if not folder.exists() and HUB_ID.fullmatch(place):
        return {"revision": _revision(place)} | _asked(prompt_path("decompose"), *BUDGET)
    if not (folder / "config.json").is_file():
        raise ChatError(f"no model in {folder}: config.json is missing; make one with ier1 merge")
    facts = _facts(folder)
    own = folder / facts.prompt if facts else prompt_path("decompose")
    budget = (facts.min_pixels, facts.max_pixels) if facts else BUDGET
    return {"files_sha256": fingerprint(folder)} | _asked(own, *budget)


def _served(rest: str) -> dict[str, Any]:
    urls, _, name = rest.partition("#")
    address = urls or os.environ.get("OPENAI_BASE_URL", "") or OPENAI
    return {"address": without_password(address), "model": name} | _asked(prompt_path("decompose"), *BUDGET)


def _asked(prompt: Path, min_pixels: int, max_pixels: int) -> dict[str, Any]:
    return {"prompt_sha256": sha256_of(prompt), "min_pixels": min_pixels, "max_pixels": max_pixels}


def _facts(folder: Path) -> Decomposer | None:
    try:
        return Decomposer.read(folder) if (folder / FILE_NAME).exists() else None
    except DecomposerError as error:
        raise ChatError(str(error)) from None


def _revision(model_id: str) -> str | None:
    """The commit that the hub, or the cache without it, has under this id; None: neither can be asked."""
    try:
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(model_id, "config.json")).parent.name
    except Exception:  # the hub client raises its own and those of the HTTP client below it
        return None
