"""How far the judges can be trusted, for the report: the file of `ier1 agreement --json` in, a table like Table 3 out.

    measures = read_agreement(Path("agreement.json"))
    # dimension, rater ("humans" or "judge:NAME"), measure, value, low, high, n; NaN: undefined
    agreement_table(measures)    # Human 2.84 [2.70, 2.97] ..., gpt-4o 3.43 ..., Spearman 0.66 [0.52, 0.77] n = 100 ...

The file is {dimension: {rater: {measure: {"value", "low", "high", "n"}}}}; other measures are left to the file.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from ier1_plugin.evaluation.records import DIMENSIONS, EvaluationError
from ier1_plugin.evaluation.report.tables import UNDEFINED, Cell, Table, bounds, grid, short_names
from ier1_plugin.evaluation.scores import Frame

HUMANS, JUDGE = "humans", "judge:"
CORRELATIONS = {"pearson": "Pearson", "spearman": "Spearman", "kendall": "Kendall's tau-b"}
CEILINGS = {f"ceiling_{name}": label for name, label in CORRELATIONS.items()}
CEILINGS["krippendorff_alpha"] = "Krippendorff's alpha, ordinal"
MEASURES = {"mean", *CORRELATIONS, *CEILINGS}
CAPTION = (
    "[95 % bootstrap interval]; n: items. Judges are correlated with the mean human rating of an item. The ceiling is "
    "each human against the mean of the others, averaged: no judge can be expected to come closer."
)


def read_agreement(file: Path) -> Frame:
    """EvaluationError: the file can't be read, or is not what `ier1 agreement` writes."""
    wanted = "wanted what `ier1 agreement --json FILE` writes"
    try:
        measures = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise EvaluationError(f"{file} can't be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise EvaluationError(f"{file} is not JSON; {wanted}") from None
    if not isinstance(measures, dict) or not measures:
        raise EvaluationError(f"{file}: it names no dimension; {wanted}")
    rows = []
    for dimension, raters in measures.items():
        if not isinstance(raters, dict) or HUMANS not in raters:
            raise EvaluationError(f"{file}: {dimension!r} has no {HUMANS} and their measures; {wanted}")
        for rater, entries in raters.items():
            if not (rater == HUMANS or rater.startswith(JUDGE)) or not isinstance(entries, dict):
                raise EvaluationError(f"{file}: {dimension!r} has {rater!r} among its raters; {wanted}")
            for measure in entries.keys() & MEASURES:
                if not _is_entry(entries[measure]):
                    raise EvaluationError(
                        f"{file}: {dimension!r} has {measure} of {rater} without a value and n; {wanted}"
                    )
                rows.append({"dimension": dimension, "rater": rater, "measure": measure, **entries[measure]})
    return pd.DataFrame(rows, columns=["dimension", "rater", "measure", "value", "low", "high", "n"])


def _is_entry(entry: Any) -> bool:
    """A whole n, and numbers or null."""
    if not isinstance(entry, dict) or type(entry.get("n")) is not int or "value" not in entry:
        return False
    values = [entry.get(key) for key in ("value", "low", "high")]
    return all(value is None or (type(value) in (int, float) and math.isfinite(value)) for value in values)


def agreement_table(measures: Frame) -> Table:
    """Dimensions as columns; human mean, judges' means, correlations, ceiling."""
    dimensions = list(dict.fromkeys(measures["dimension"]))
    judges = short_names(rater.removeprefix(JUDGE) for rater in dict.fromkeys(measures["rater"]) if rater != HUMANS)
    lines = {("Mean rating", "Human"): (HUMANS, "mean")}
    lines |= {("Mean rating", name): (f"{JUDGE}{judge}", "mean") for judge, name in judges.items()}
    for judge, name in judges.items():
        group = f"Correlation of {name} with people"
        lines |= {(group, label): (f"{JUDGE}{judge}", measure) for measure, label in CORRELATIONS.items()}
    ceiling = "Humans with one another: the ceiling"
    lines |= {(ceiling, label): (HUMANS, measure) for measure, label in CEILINGS.items()}
    entries = measures.set_index(["rater", "measure", "dimension"]).to_dict("index")
    cells: dict[tuple[str, str], list[Cell]] = {key: [] for key in lines}
    for key, of in lines.items():
        for dimension in dimensions:
            entry: Any = entries.get((*of, dimension))
            if entry is None or not math.isfinite(entry["value"]):
                cells[key].append(Cell((UNDEFINED,)))
            else:
                interval = bounds(entry["low"], entry["high"], _two)
                cells[key].append(Cell((_two(entry["value"]), interval, f"n = {entry['n']:,}")))
    heads = [(name.capitalize(), f"0–{DIMENSIONS[name]}" if name in DIMENSIONS else "") for name in dimensions]
    return Table("Agreement of the judges with people", grid(heads, cells, ("", "Rater or measure")), CAPTION)


def _two(value: float) -> str:
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")
