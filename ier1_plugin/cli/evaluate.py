"""The command `ier1 evaluate`: systems edit a benchmark and judges score the edits, or decompositions against gold.

    ier1 evaluate --benchmark psr --sample 100 --system flux-kontext flux-kontext-original \\
        --judge openai:gpt-4o-2024-11-20 --judge gemini:gemini-2.5-flash --out evaluations/psr
    ier1 evaluate --decomposition local:decomposer --rows data/rl/val.parquet --out evaluations/decomposer
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ier1_plugin.cli.options import needs_extra, with_settings
from ier1_plugin.evaluation.config import EvaluationConfig
from ier1_plugin.evaluation.records import EvaluationError
from ier1_plugin.runs.errors import log


@with_settings
def evaluate(
    more: Annotated[
        list[str] | None, typer.Argument(metavar="[SYSTEM]...", help="further systems", show_default=False)
    ] = None,
    *,
    config: EvaluationConfig,
) -> None:
    """Edit a benchmark with systems and have judges score the edits; or score decompositions against gold rows."""
    config = replace(config, system=(*config.system, *(more or [])))
    config.check()
    out = Path(config.out).resolve()
    try:
        with needs_extra("evaluation"):
            if config.decomposition:
                from ier1_plugin.evaluation.decomposition import score_all, table

                assert config.rows
                models = config.decomposition
                scored = score_all(out, models, config.rows, config.sample, config.seed, config.jobs, log)
                print(table(scored))
                if empty := [one.name for one in scored if not one.parts["overall"].count]:
                    raise EvaluationError(f"no row was answered by {', '.join(empty)}; the reasons stand above")
                return
            from ier1_plugin.evaluation.run import evaluate as run

            result = run(config, log)
    except KeyboardInterrupt:
        log("what is done is kept; run the same command again to continue")
        raise
    if result["judges"] and result["systems"]:
        log(f"tables and page: ier1 report {out}")
    print(out)
