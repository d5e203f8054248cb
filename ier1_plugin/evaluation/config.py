"""What to evaluate, and how: one record, whose fields are keys of a YAML file and options of `ier1 evaluate`.

# psr.yaml
out: evaluations/psr
benchmark: psr
sample: 100
system: [flux-kontext, flux-kontext-original]
judge: [openai:gpt-4o-2024-11-20]

config = parse_settings(EvaluationConfig, read_yaml("psr.yaml"), "psr.yaml")
evaluate(config, print)      # or: ier1 evaluate --config psr.yaml
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

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


@dataclass(frozen=True)
class EvaluationConfig:
    """All settings of one run."""

    out: str = field(default="", metadata={HELP: "folder for everything; the same command continues in it"})
    benchmark: str = field(
        default="",
        metadata={
            HELP: "psr, realedit, ultraedit, gedit, imgedit, magicbrush, complex-edit[:LEVEL], jsonl:FILE, "
            "small-world[:FROM-TO]"
        },
    )
    system: tuple[str, ...] = field(
        default=(), metadata={HELP: "a system: a name of `ier1 models`, or a YAML file; repeatable"}
    )
    judge: tuple[str, ...] = field(
        default=(), metadata={HELP: "openai:[BASE_URL#]MODEL, gemini:MODEL or pixel; repeatable"}
    )
    sample: int | None = field(default=None, metadata={HELP: "items to take (default: all)"})
    seed: int = field(default=0, metadata={HELP: "seed of the sample (default: 0)"})
    ids: Path | None = field(default=None, metadata={HELP: "take these items, one id a line, instead of a sample"})
    data: str = field(default="", metadata={HELP: "local file or folder of the benchmark, or another hub id"})
    split: str = field(default="", metadata={HELP: "split or splits, with commas between them"})
    columns: dict[str, str] = field(
        default_factory=dict, metadata={HELP: "other columns: request=NAME,image=NAME,...", PARSE: _pairs}
    )
    where: dict[str, str] = field(
        default_factory=dict, metadata={HELP: "only rows with COLUMN=VALUE,...", PARSE: _pairs}
    )
    samples: int = field(default=1, metadata={HELP: "judgements of each edit (default: 1)"})
    rubric: Path | None = field(default=None, metadata={HELP: "another prompt for the judges, as a .jinja file"})
    max_side: int = field(
        default=1024, metadata={HELP: "longest side in pixels of the images that judges get (default: 1024)"}
    )
    human: bool = field(
        default=False, metadata={HELP: "evaluate the edits made by people as a system too (of several the first)"}
    )
    sanity: bool = field(
        default=False, metadata={HELP: "first test the judges on edits that are known to be good or bad"}
    )
    prices: Path | None = field(default=None, metadata={HELP: "YAML or JSON: prices of images and tokens"})
    retry_failed: bool = field(default=False, metadata={HELP: "redo edits and judgements that failed or got no score"})
    jobs: int = field(default=8, metadata={HELP: "edits and judgements at a time (default: 8)", SHORT: "-j"})
    decomposition: tuple[str, ...] = field(
        default=(),
        metadata={
            HELP: "instead of editing: a model (openai:BASE_URL#MODEL, local:FOLDER) or a .jsonl file of responses, "
            "scored against --rows; repeatable"
        },
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
