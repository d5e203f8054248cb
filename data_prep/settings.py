"""The options of one build, and what a source yields.

    Settings(source="psr", inputs=("PSRDataset/PSR-328",), output=Path("data/psr"), limit=1000)
    RawRow(id="psr-1f3k", source="psr", request="please remove the lamp", image=b"\\x89PNG...", group="1f3k")

A source is a callable `(settings, input) -> Iterator[RawRow | Rejected]`; `data_prep.sources.SOURCES` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ier1_plugin.task.schema import Decomposition

SPLITS = ("train", "val")
# Qwen2.5-VL sees 28 x 28 pixels a token (patch 14, merged 2 x 2): from 4 to 1,280 tokens an image. Its own default
# ceiling is 16,384 tokens; 1,280 is the budget that its model card suggests to bound the cost.
MIN_PIXELS = 4 * 28 * 28
MAX_PIXELS = 1280 * 28 * 28
# a reply of the annotator is three short lists; the rest is room for models that reason first
MAX_TOKENS = 4096
# what today's editors work at: one megapixel
CASE_MAX_PIXELS = 1024 * 1024


@dataclass(frozen=True)
class RawRow:
    """One edit request as its source has it: nothing checked, nothing decoded."""

    id: str
    """Unique within its source; the same on every run."""
    source: str
    """The source's name, for the `source` column of the RL rows."""
    request: str
    image: bytes | Path
    """The encoded image, or the file that holds it."""
    group: str
    """The photo or post that the row belongs to; the split keeps its rows together."""
    gold: Decomposition | None = None
    """None: the annotator is asked."""
    split: str | None = None
    """"train" or "val" if the source decides; None: `--val-fraction` does."""
    case_image: Path | None = None
    """Rows that are built already: the photo of their case, which is carried on as it is."""


@dataclass(frozen=True)
class Settings:
    """The options of the command line and the configuration file."""

    source: str
    inputs: tuple[str, ...]
    output: Path
    split: str | None = None
    """Which split of a hub set, or which files of a local folder, are read."""
    columns: Mapping[str, str] = field(default_factory=dict)
    val_fraction: float = 0.05
    limit: int | None = None
    """Maximum number of rows to read, counted before any check."""
    seed: int = 0
    min_pixels: int = MIN_PIXELS
    max_pixels: int = MAX_PIXELS
    annotator: str | None = None
    base_url: str | None = None
    """None: OPENAI_BASE_URL, else OpenAI itself."""
    concurrency: int = 8
    """Requests to the annotator at a time."""
    timeout: float = 60.0
    """Seconds for a request to the annotator."""
    max_tokens: int = MAX_TOKENS
    """Most tokens of its reply."""
    votes: int = 1
    """Samples per request, of which the majority counts (`votes.settle`)."""
    exclude: tuple[str, ...] = ()
    image_roots: tuple[Path, ...] = ()
    """Folders that images may lie in beside that of their input."""
    tokenizer: str | None = None
    case_images: bool = False
    """True: every row carries its case, for rewards that judge the edited photo; then rows need no gold."""
    case_max_pixels: int = CASE_MAX_PIXELS
    without_gold: bool = False
    """True: the gold is left out of the answers, to train on pictures alone."""
    retry_failed: bool = False
    """Ask the annotator again about the rows that it gave no usable reply for."""
    ray: bool = False
    """Read and check the rows on a Ray cluster."""

    def prefix(self, input: str) -> str:
        """What ids and groups made from names of files begin with: nothing, or "2/" for the second input."""
        number = self.inputs.index(input) if input in self.inputs else 0
        return f"{number + 1}/" if number else ""
