"""The options of one build, and which of them decide what comes out.

Settings(source="psr", inputs=("PSRDataset/PSR-328",), output=Path("data/psr"), limit=1000)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

# Qwen2.5-VL sees 28 x 28 pixels a token (patch 14, merged 2 x 2): from 4 to 1,280 tokens an image. Its own default
# ceiling is 16,384 tokens; 1,280 is the budget that its model card suggests to bound the cost.
MIN_PIXELS = 4 * 28 * 28
MAX_PIXELS = 1280 * 28 * 28
# raised when the same options would give other rows than before
FORMAT = 1
# these change how fast rows come, not which
_NO_INFLUENCE = ("output", "base_url", "concurrency", "input")


@dataclass(frozen=True)
class Settings:
    """What the command line and the configuration file say."""

    source: str
    inputs: tuple[str, ...]
    output: Path
    split: str | None = None
    """Which split of a hub set, or which files of a local folder, are read."""
    columns: Mapping[str, str] = field(default_factory=dict)
    val_fraction: float = 0.05
    limit: int | None = None
    """Rows read at most, counted before any check."""
    seed: int = 0
    min_pixels: int = MIN_PIXELS
    max_pixels: int = MAX_PIXELS
    annotator: str | None = None
    base_url: str | None = None
    concurrency: int = 8
    votes: int = 1
    exclude: tuple[str, ...] = ()
    tokenizer: str | None = None
    input: str = ""
    """The one of `inputs` that a source is asked to read."""

    def reading(self, input: str) -> Settings:
        """The settings that a source gets: the same, for one input."""
        return replace(self, input=input)


def identity(settings: Settings) -> dict[str, Any]:
    """The options that decide the rows, as JSON values; two builds with equal identities give the same files.

    Local inputs and excluded files stand with their size and time of change. No secret is among them.
    """
    options = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name not in _NO_INFLUENCE}
    options |= {"inputs": list(map(_state, settings.inputs)), "exclude": list(map(_state, settings.exclude))}
    return {"format": FORMAT, **options, "columns": dict(settings.columns)}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs between two identities, in words: "seed: 0 -> 1"."""
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return ", ".join(f"{name}: {old.get(name)} -> {new.get(name)}" for name in names)


def for_report(settings: Settings) -> dict[str, Any]:
    """Every option used, as JSON values, for the report; addresses without user names and passwords."""
    options = {name: value for name, value in asdict(settings).items() if name != "input"}
    address = (settings.base_url or "").rpartition("@")[2]
    return options | {"output": str(settings.output), "base_url": address or None, "columns": dict(settings.columns)}


def _state(place: str) -> str:
    path = Path(place)
    if not path.exists():
        return place
    status = path.stat()
    # the size of a folder says nothing
    return f"{place} ({status.st_size} bytes, {status.st_mtime_ns})" if path.is_file() else place
