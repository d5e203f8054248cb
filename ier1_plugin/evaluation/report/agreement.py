"""How far the judges can be trusted, for the report: the output of `ier1 agreement --json` in, a table like Table 3
out.

    measures = read_agreement(Path("agreement.json"))
    # dimension, rater ("humans" or "judge:NAME"), measure, value, low, high, n; NaN: undefined
    agreement_table(measures)    # Human 2.84 [2.70, 2.97] ..., gpt-4o 3.43 ..., Spearman 0.66 [0.52, 0.77] n = 100 ...

The file is {dimension: {rater: {measure: {"value", "low", "high", "n"}}}}; other measures are not shown.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from ier1_plugin.evaluation.agreement.agreement import CORRELATIONS, HUMANS, MEASURES
from ier1_plugin.evaluation.agreement.ratings import JUDGE
from ier1_plugin.evaluation.records import DIMENSIONS, EvaluationError
from ier1_plugin.evaluation.report.tables import UNDEFINED, Cell, Table, bounds, grid, number, short_names
from ier1_plugin.evaluation.scores import Frame
from ier1_plugin.runs.errors import one_line

CEILINGS = (*(f"ceiling_{name}" for name in CORRELATIONS), "krippendorff_alpha")
CAPTION = (
    "[95 % bootstrap interval]; n: items. Judges are correlated with the mean human rating of an item. The ceiling is "
    "each human against the mean of the others, averaged: no judge can be expected to come closer."
)


def read_agreement(file: Path) -> Frame:
    """EvaluationError: the file can't be read, or is not what `ier1 agreement` writes."""
    try:
        dimensions = json.loads(file.read_text(encoding="utf-8"))
        rows = [
            {"dimension": dimension, "rater": rater, "measure": measure, **entry}
            for dimension, raters in dimensions.items()
            for rater, entries in {HUMANS: raters[HUMANS], **raters}.items()
            for measure, entry in entries.items()
            if measure in ("mean", *CORRELATIONS, *CEILINGS)
        ]
        frame: Frame = pd.DataFrame(rows)[["dimension", "rater", "measure", "value", "low", "high", "n"]]
        frame = frame.astype({"value": float, "low": float, "high": float, "n": int})
    except OSError as error:
        raise EvaluationError(f"{file} can't be read: {error.strerror or error}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EvaluationError(f"{file} is not what `ier1 agreement --json FILE` writes: {one_line(error)}") from None
    return frame


def agreement_table(measures: Frame) -> Table:
    """Dimensions as columns; human mean, judges' means, correlations, ceiling."""
    dimensions = list(dict.fromkeys(measures["dimension"]))
    judges = short_names(rater.removeprefix(JUDGE) for rater in dict.fromkeys(measures["rater"]) if rater != HUMANS)
    lines = {("Mean rating", "Human"): (HUMANS, "mean")}
    lines |= {("Mean rating", name): (f"{JUDGE}{judge}", "mean") for judge, name in judges.items()}
    for judge, name in judges.items():
        group = f"Correlation of {name} with people"
        lines |= {(group, MEASURES[measure]): (f"{JUDGE}{judge}", measure) for measure in CORRELATIONS}
    group = "Humans with one another: the ceiling"
    lines |= {(group, MEASURES[measure.removeprefix("ceiling_")]): (HUMANS, measure) for measure in CEILINGS}
    entries = measures.set_index(["rater", "measure", "dimension"]).to_dict("index")
    cells: dict[tuple[str, str], list[Cell]] = {key: [] for key in lines}
    for key, of in lines.items():
        for dimension in dimensions:
            entry: Any = entries.get((*of, dimension))
            if entry is None or not math.isfinite(entry["value"]):
                cells[key].append(Cell((UNDEFINED,)))
            else:
                interval = bounds(entry["low"], entry["high"])
                cells[key].append(Cell((number(entry["value"]), interval, f"n = {entry['n']:,}")))
    heads = [(name.capitalize(), f"0–{DIMENSIONS[name]}" if name in DIMENSIONS else "") for name in dimensions]
    return Table("Agreement of the judges with people", grid(heads, cells, ("", "Rater or measure")), CAPTION)
