"""What to evaluate, and how: one record, whose fields are keys of a YAML file and options of `ier1 evaluate`.

# psr.yaml
out: evaluations/psr
benchmark: psr
sample: 100
system: [flux-kontext, flux-kontext-original]
judge: [openai:gpt-4o-2024-11-20]

evaluate(EvaluationConfig.of(read_yaml("psr.yaml")), print)      # or: ier1 evaluate --config psr.yaml
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.runs.settings import HELP, PARSE, SHORT

# what decompositions are scored with
DECOMPOSITION = ("out", "decomposition", "rows", "sample", "seed", "jobs")
# JPEG holds no longer side (ITU-T T.81 has 16 bits for it)
LIMITS = {"sample": (1, None), "samples": (1, None), "max_side": (32, 65535), "jobs": (1, 1024)}


def _pairs(text: str) -> dict[str, str]:
    """{"request": "wish"} of "request=wish"."""
    parts = [part.partition("=") for part in filter(None, map(str.strip, text.split(",")))]
    if not all(name.strip() and value.strip() for name, _, value in parts):
        raise ValueError(f"is {text!r}; wanted NAME=VALUE, with commas between several")
    return {name.strip(): value.strip() for name, _, value in parts}


def _option(default: Any, help: str) -> Any:
    """A field with the help of its option."""
    return field(default=default, metadata={HELP: help})


@dataclass(frozen=True)
class EvaluationConfig:
    """All settings of one run."""

    out: str = _option("", "folder for everything; the same command continues in it")
    benchmark: str = _option(
        "",
        "psr, realedit, ultraedit, gedit, imgedit, magicbrush, complex-edit[:LEVEL], jsonl:FILE, small-world[:FROM-TO]",
    )
    system: tuple[str, ...] = _option((), "a system: a name of `ier1 models`, or a YAML file; repeatable")
    judge: tuple[str, ...] = _option((), "openai:[BASE_URL#]MODEL, gemini:MODEL or pixel; repeatable")
    sample: int | None = _option(None, "items to take (default: all)")
    seed: int = _option(0, "seed of the sample (default: 0)")
    ids: Path | None = field(default=None, metadata={HELP: "take these items, one id a line, instead of a sample"})
    data: str = _option("", "local file or folder of the benchmark, or another hub id")
    split: str = _option("", "split or splits, with commas between them")
    columns: dict[str, str] = field(
        default_factory=dict, metadata={HELP: "other columns: request=NAME,image=NAME,...", PARSE: _pairs}
    )
    where: dict[str, str] = field(
        default_factory=dict, metadata={HELP: "only rows with COLUMN=VALUE,...", PARSE: _pairs}
    )
    samples: int = _option(1, "judgements of each edit (default: 1)")
    rubric: Path | None = field(default=None, metadata={HELP: "another prompt for the judges, as a .jinja file"})
    max_side: int = _option(1024, "longest side in pixels of the images that judges get (default: 1024)")
    judge_max_tokens: int = _option(4096, "tokens of a judge's reply, its thoughts included (default: 4096)")
    human: bool = _option(False, "evaluate the edits made by people as a system too (of several the first)")
    sanity: bool = _option(False, "first test the judges on edits that are known to be good or bad")
    prices: Path | None = field(default=None, metadata={HELP: "YAML or JSON: prices of images and tokens"})
    retry_failed: bool = _option(False, "redo edits and judgements that failed or got no score")
    jobs: int = field(default=8, metadata={HELP: "edits and judgements at a time (default: 8)", SHORT: "-j"})
    decomposition: tuple[str, ...] = _option(
        (),
        "instead of editing: a model (openai:BASE_URL#MODEL, local:FOLDER) or a .jsonl file of responses, scored "
        "against --rows; repeatable",
    )
    rows: Path | None = field(default=None, metadata={HELP: "parquet file with gold decompositions"})

    def __post_init__(self) -> None:
        for name, (least, most) in LIMITS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= (most or value):
                wanted = f"{least} to {most}" if most else f"{least} or more"
                raise EvaluationError(f"{name} is {value}; wanted {wanted}")

    def check(self) -> None:
        """EvaluationError: there is nothing to do, or some of the settings contradict each other."""
        if not self.out:
            raise EvaluationError("no folder to write to; name one with --out")
        if bool(self.benchmark) == bool(self.decomposition):
            raise EvaluationError("wanted one of --benchmark and --decomposition; see ier1 evaluate --help")
        idle = []
        for known in fields(self):
            default = known.default_factory() if known.default is MISSING else known.default  # type: ignore[misc]
            unused = known.name not in DECOMPOSITION if self.decomposition else known.name == "rows"
            if unused and getattr(self, known.name) != default:
                idle.append(f"--{known.name.replace('_', '-')}")
        if idle:
            other = "--decomposition" if self.decomposition else "--benchmark"
            raise EvaluationError(f"{', '.join(idle)} can't be used with {other}")
        if self.decomposition:
            if self.rows is None:
                raise EvaluationError(
                    "--decomposition needs --rows FILE.parquet, rows with gold as data_prep builds them"
                )
            return
        if self.ids and self.sample:
            raise EvaluationError("--ids and --sample were given; wanted one of the two")
        if not (self.system or self.human or self.sanity):
            raise EvaluationError("nothing to evaluate; name a --system, --human or --sanity")
        if self.sanity and not self.judge:
            raise EvaluationError("--sanity tests judges; name one with --judge")
