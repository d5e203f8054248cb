"""How far the judges can be trusted, for the report: the file of `ier1 agreement --json` in, a table like Table 3 out.

    found = read_agreement(Path("agreement.json"))
    agreement_grid(found)       # Human 2.84 [2.70, 2.97] ..., gpt-4o 3.43 ..., Spearman 0.66 [0.52, 0.77] n = 100 ...
    agreement_rows(found)       # [["dimension", "rater", "measure", "value", "low", "high", "n"], ...]

The file is {dimension: {"judge:NAME" or "humans": {measure: {"value", "low", "high", "n"}}}}; measures that the table
has no line for are left to the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from ier1_plugin.evaluation.records import DIMENSIONS, EvaluationError
from ier1_plugin.evaluation.report.grids import short_names
from ier1_plugin.evaluation.report.tables import UNDEFINED, Grid, Head, Line, Text

HUMANS, JUDGE = "humans", "judge:"
MEAN = "mean"
CORRELATIONS = {"pearson": "Pearson", "spearman": "Spearman", "kendall": "Kendall's tau-b"}
ALPHA = ("krippendorff_alpha", "Krippendorff's alpha, ordinal")
MEANS, CEILING = "Mean rating", "Humans with one another: the ceiling"
CAPTION = (
    "[95 % bootstrap interval]; n: items. Judges are correlated with the mean human rating of an item. The ceiling is "
    "each human against the mean of the others, averaged: no judge can be expected to come closer."
)
WANTED = "wanted what `ier1 agreement --json FILE` writes"
Entry: TypeAlias = Mapping[str, Any]
Agreement: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Entry]]]


def read_agreement(file: Path) -> Agreement:
    """EvaluationError: the file can't be read, or is not what `ier1 agreement` writes."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise EvaluationError(f"{file} can't be read: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise EvaluationError(f"{file} is not JSON; {WANTED}") from None
    problem = next(_problems(found), None)
    if problem:
        raise EvaluationError(f"{file}: {problem}; {WANTED}")
    return found


def agreement_grid(found: Agreement) -> Grid:
    """Dimensions as columns; human mean, judges' means, correlations, ceiling."""
    heads = tuple(Head(name.capitalize(), f"0–{DIMENSIONS[name]}" if name in DIMENSIONS else "") for name in found)
    names = short_names(_judges(found))
    lines = [
        Line(group, label, tuple(_text(of.get(rater, {}).get(measure)) for of in found.values()))
        for group, label, rater, measure in _measures(found, names)
    ]
    return Grid("Agreement of the judges with people", heads, tuple(lines), CAPTION, ("", "Rater or measure"))


def agreement_rows(found: Agreement) -> list[list[object]]:
    """The same numbers for a CSV; what is undefined is an empty field."""
    rows: list[list[object]] = [["dimension", "rater", "measure", "value", "low", "high", "n"]]
    for dimension, of in found.items():
        for _, _, rater, measure in _measures(found, {name: name for name in _judges(found)}):
            entry = of.get(rater, {}).get(measure)
            if entry:
                shown = ["" if entry.get(key) is None else f"{entry[key]:.6g}" for key in ("value", "low", "high")]
                rows.append([dimension, rater, measure, *shown, entry["n"]])
    return rows


def _measures(found: Agreement, names: Mapping[str, str]) -> Iterator[tuple[str, str, str, str]]:
    """Group, label, rater and measure of each line."""
    yield MEANS, "Human", HUMANS, MEAN
    for judge, name in names.items():
        yield MEANS, name, f"{JUDGE}{judge}", MEAN
    for judge, name in names.items():
        for measure, label in CORRELATIONS.items():
            yield f"Correlation of {name} with people", label, f"{JUDGE}{judge}", measure
    for measure, label in CORRELATIONS.items():
        yield CEILING, label, HUMANS, f"ceiling_{measure}"
    measure, label = ALPHA
    yield CEILING, label, HUMANS, measure


def _judges(found: Agreement) -> list[str]:
    return list(dict.fromkeys(name.removeprefix(JUDGE) for of in found.values() for name in of if name != HUMANS))


def _text(entry: Entry | None) -> Text:
    if entry is None or entry["value"] is None:
        return Text(UNDEFINED)
    low, high = entry.get("low"), entry.get("high")
    interval = f"[{UNDEFINED}]" if low is None or high is None else f"[{_two(low)}, {_two(high)}]"
    return Text(_two(entry["value"]), interval, f"n = {entry['n']:,}")


def _two(value: float) -> str:
    text = f"{value:.2f}"
    return "0.00" if text == "-0.00" else text.replace("-", "−")


def _problems(found: object) -> Iterator[str]:
    if not isinstance(found, dict) or not found:
        yield "it names no dimension"
        return
    for dimension, of in found.items():
        if not isinstance(of, dict) or HUMANS not in of or not all(isinstance(one, dict) for one in of.values()):
            yield f"{dimension!r} has no {HUMANS} and their measures"
            return
        stranger = next((name for name in of if name != HUMANS and not name.startswith(JUDGE)), None)
        if stranger is not None:
            yield f"{dimension!r} has {stranger!r} among its raters"
        known = {MEAN, *CORRELATIONS, *(f"ceiling_{name}" for name in CORRELATIONS), ALPHA[0]}
        for rater, entries in of.items():
            for measure in entries.keys() & known:
                if not _is_entry(entries[measure]):
                    yield f"{dimension!r} has {measure} of {rater} without a value and n"


def _is_entry(entry: object) -> bool:
    """A whole n, and numbers or null."""
    if not isinstance(entry, dict) or type(entry.get("n")) is not int or "value" not in entry:
        return False
    values = [entry.get(key) for key in ("value", "low", "high")]
    return all(value is None or (type(value) in (int, float) and math.isfinite(value)) for value in values)
