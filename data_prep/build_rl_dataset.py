"""Raw edit data -> RL rows.

    python data_prep/build_rl_dataset.py --source jsonl --input requests.jsonl --output data/mine
    train   950 rows
    val      50 rows
    rejected 12: 9 duplicate, 2 image is damaged, 1 request is empty
    files: data/mine/train.parquet, val.parquet, rejected.jsonl, report.json

However a run was stopped, the same command continues it where it was.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

if __name__ == "__main__":
    # a script's own folder comes first otherwise, and its modules would hide others of the same name
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from data_prep.build import build
from data_prep.output import FILES, REJECTED
from data_prep.settings import CASE_MAX_PIXELS, MAX_PIXELS, MAX_TOKENS, MIN_PIXELS, SPLITS, Settings
from data_prep.sources import NEEDS_NO_INPUT, SOURCES
from ier1_plugin.runs.errors import UserError
from ier1_plugin.runs.settings import read_yaml

INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse would print all options first
        self.exit(2, f"error: {message}; --help lists the options\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 for a build that failed, 2 for wrong options, 130 after Ctrl-C."""
    try:
        settings, overwrite = parse(sys.argv[1:] if arguments is None else list(arguments))
        warnings.filterwarnings("ignore", message=".*decompression bomb")
        report, done = build(settings, overwrite)
        print(summary(report, settings.output, done))
        if report["rows"]["train"] + report["rows"]["val"]:
            return 0
        with (settings.output / REJECTED).open(encoding="utf-8") as lines:
            first = next(lines, "")
        reason = json.loads(first)["reason"] if first else "the input holds none"
        return _fail(f"no row was accepted; the first: {reason}")
    except UserError as error:
        return _fail(str(error))
    except sqlite3.Error as error:
        return _fail(f"the unfinished build can't be written or read: {error}; is the disk full?")
    except OSError as error:
        return _fail(f"{error.filename or 'output'}: {error.strerror or error}")
    except ImportError as error:
        return _fail(f"{error}; pip install -e '.[all]' brings what every source needs")
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        return INTERRUPTED


def parse(arguments: list[str]) -> tuple[Settings, bool]:
    """The settings, and --overwrite. Wrong options end the program with one line; UserError: a wrong --config file."""
    parser = _parser()
    config = parser.parse_known_args(arguments)[0].config
    words: list[str] = []
    for name, value in (read_yaml(config) if config else {}).items():
        option = f"--{name.replace('_', '-')}"
        if isinstance(value, dict):
            value = ",".join(f"{role}={column}" for role, column in value.items())
        if value is True:
            words.append(option)
        elif isinstance(value, list) and value:
            words += [option, *map(str, value)]
        elif value not in (None, False, []):
            words.append(f"{option}={value}")
    # the file's options come first, so that the command line wins
    options = parser.parse_args([*words, *arguments])
    if options.source is None or options.output is None:
        parser.error("--source and --output are needed")
    if not options.input and options.source not in NEEDS_NO_INPUT:
        parser.error(f"--source {options.source} needs --input")
    if options.min_pixels > options.max_pixels:
        parser.error(f"--min-pixels {options.min_pixels} is more than --max-pixels {options.max_pixels}")
    if options.without_gold and not options.case_images and options.source != "rl-rows":
        parser.error("--without-gold needs --case-images: a row without gold is judged by its picture")
    if not 0 <= options.val_fraction < 1:
        parser.error(f"--val-fraction {options.val_fraction} is no share from 0 to below 1")
    values: dict[str, Any] = vars(options) | {"inputs": tuple(options.input), "exclude": tuple(options.exclude)}
    values["image_roots"] = tuple(options.image_root)
    return Settings(**{field.name: values[field.name] for field in fields(Settings)}), options.overwrite


def summary(report: dict[str, Any], output: Path, done: bool) -> str:
    """What the command prints at the end."""
    rows = report["rows"]
    lines = [f"{split:<8}{rows[split]:>9,} rows" for split in SPLITS]
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in report["rejected_by_reason"].items())
    lines.append(f"rejected{rows['rejected']:>9,}" + (f": {reasons}" if reasons else ""))
    lines.append(f"files: {output / FILES[0]}, {', '.join(FILES[1:])}")
    fraction = report["options"]["val_fraction"]
    if fraction and rows["train"] and not rows["val"]:
        lines.append(
            f"note: no rows for validation: too few for --val-fraction {fraction}, or all of one photo or group"
        )
    before = f"{output} was built with these options before: nothing to do; --overwrite builds it again"
    return "\n".join([before] * done + lines)


def _parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = parser.add_argument
    add("--source", choices=sorted(SOURCES), help="what the input is")
    add("--input", nargs="+", default=[], help="files, folders or hub ids")
    add("--output", type=Path, help="folder for the four files")
    add("--config", help="YAML file whose keys are these options; the command line wins")
    add("--overwrite", action="store_true", help="replace a build with other options or inputs in --output")
    add("--image-root", type=Path, nargs="+", default=[], help="folders that images may lie in beside their table's")
    add("--split", help="split of a hub set, or which files of a local folder; default: the source's own")
    add("--columns", type=_columns, default={}, help="other column names: image=NAME,request=NAME,id=NAME,group=NAME")
    share = "share for val.parquet (default 0.05; photos and rl-rows bring their own split)"
    add("--val-fraction", type=float, default=0.05, help=share)
    add("--limit", type=_positive, help="maximum number of rows to read, from the start of the input, before any check")
    add("--seed", type=int, default=0, help="seed for the order of the rows and the split")
    add("--min-pixels", type=_positive, default=MIN_PIXELS, help=f"smaller images are enlarged (default {MIN_PIXELS})")
    add("--max-pixels", type=_positive, default=MAX_PIXELS, help=f"larger images are reduced (default {MAX_PIXELS})")
    add("--annotator", help="model that labels rows without gold; key from OPENAI_API_KEY")
    add("--base-url", help="OpenAI-compatible server of the annotator")
    add("--concurrency", type=_positive, default=8, help="requests to the annotator at a time (default 8)")
    add("--timeout", type=_positive, default=60, help="seconds for a request to the annotator (default 60)")
    add("--max-tokens", type=_positive, default=MAX_TOKENS, help=f"most tokens of its reply (default {MAX_TOKENS})")
    add("--votes", type=_positive, default=1, help="replies per row, of which the majority counts (default 1)")
    add("--retry-failed", action="store_true", help="ask again about rows that the annotator gave no usable reply for")
    add("--exclude", nargs="+", default=[], help="benchmark files or folders whose rows are left out")
    add("--case-images", action="store_true", help="keep each photo in OUTPUT/images, for rewards that judge the edit")
    reduced = f"larger photos are reduced there (default {CASE_MAX_PIXELS})"
    add("--case-max-pixels", type=_positive, default=CASE_MAX_PIXELS, help=reduced)
    add("--without-gold", action="store_true", help="leave the gold out, to train on pictures alone (--case-images)")
    add("--ray", action="store_true", help="read and check the rows on the Ray cluster of RAY_ADDRESS, or a local one")
    add("--tokenizer", help="folder with a tokenizer.json, to report prompt lengths in tokens")
    return parser


def _columns(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(role.strip() and column.strip() for role, _, column in pairs):
        raise argparse.ArgumentTypeError(f"wanted image=NAME,request=NAME, got {text!r}")
    return {role.strip(): column.strip() for role, _, column in pairs}


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"wanted a number above 0, got {text}")
    return value


def _fail(problem: str) -> int:
    print(f"error: {problem}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
