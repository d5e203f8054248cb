"""The agreement as text for a terminal: a table of means and one of measures for each dimension.

    fulfilment: 100 items, 3 humans

      mean rating     judge:gpt-4o       rater-1            rater-2            rater-3            mean of humans
      value           3.43 [3.22, 3.62]  2.91 [2.66, 3.14]  ...

      measure         judge:gpt-4o       humans
      Spearman        0.66 [0.52, 0.77]  0.74 [0.63, 0.82]

Humans stand against each other: for correlations their column has the ceiling (each against the mean of the others).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ier1_plugin.evaluation.agreement.agreement import HUMANS, Table, mean_entry
from ier1_plugin.evaluation.agreement.bootstrap import Bootstrap, Entries, Entry
from ier1_plugin.evaluation.agreement.groups import CONSTANT, COUNTED, PERFECT, TOO_SMALL
from ier1_plugin.evaluation.agreement.measures import LEAST
from ier1_plugin.evaluation.agreement.ratings import JUDGE

MEASURES = {
    "pearson": "Pearson",
    "spearman": "Spearman",
    "kendall": "Kendall's tau-b",
    "cohen_kappa_quadratic": "Cohen's kappa, quadratic",
    "krippendorff_alpha": "Krippendorff's alpha, ordinal",
    "fleiss_kappa": "Fleiss' kappa",
    "mean_difference": "judge less mean human",
    "pearson_by_group": "Pearson by group",
    "spearman_by_group": "Spearman by group",
    "kendall_by_group": "Kendall's tau-b by group",
}
GROUPED = "_by_group"
OF_HUMANS = {
    f"{kind}{of}": f"ceiling_{kind}{of}" for kind in ("pearson", "spearman", "kendall") for of in ("", GROUPED)
}
GROUPS = {
    COUNTED: "groups that count",
    PERFECT: "  of these in perfect agreement",
    TOO_SMALL: f"groups left out: under {LEAST} items",
    CONSTANT: "groups left out: constant ratings",
}
UNDEFINED = "undefined"


def agreement_text(tables: Sequence[Table], found: Mapping[str, Mapping[str, Entries]], how: Bootstrap) -> str:
    """What `ier1 agreement` prints; `found` is the result of `agreement` for the same tables."""
    return "\n".join(
        [*(line for table in tables for line in _dimension(table, found[table.dimension], how)), *_legend(tables, how)]
    )


def _dimension(table: Table, found: Mapping[str, Entries], how: Bootstrap) -> Iterator[str]:
    yield f"{table.dimension}: {_count(len(table.groups), 'item')}, {_count(len(table.humans), 'human')}"
    yield ""
    yield from _aligned([["mean rating", "value", "items"], *_means(table, found, how)])
    yield ""
    yield from _aligned([["measure", *found], *_measures(found, _grouped(table))])
    yield ""


def _means(table: Table, found: Mapping[str, Entries], how: Bootstrap) -> Iterator[list[str]]:
    for rater, scores in table.scores.items():
        if rater.startswith(JUDGE):
            entry = found[rater]["mean"]
        else:
            entry = mean_entry(scores, table.groups, how, f"{table.dimension}/{rater}")
        yield [rater, _shown(entry), str(entry["n"])]
    yield ["mean of humans", _shown(found[HUMANS]["mean"]), str(found[HUMANS]["mean"]["n"])]


def _measures(found: Mapping[str, Entries], grouped: bool) -> Iterator[list[str]]:
    for kind, called in MEASURES.items():
        entries = [of.get(OF_HUMANS.get(kind, kind) if who == HUMANS else kind) for who, of in found.items()]
        if any(entries) and (grouped or not kind.endswith(GROUPED)):
            yield [called, *(_shown(entry) if entry else "" for entry in entries)]
    if grouped:
        yield from _groups(found)
    yield ["items", *(str(of[OF_HUMANS["pearson"] if who == HUMANS else "pearson"]["n"]) for who, of in found.items())]


def _groups(found: Mapping[str, Entries]) -> Iterator[list[str]]:
    for kind, called in GROUPS.items():
        counts = [of[kind]["value"] for of in found.values()]
        if kind == COUNTED or any(counts):
            yield [called, *map(str, counts)]


def _legend(tables: Sequence[Table], how: Bootstrap) -> Iterator[str]:
    drawn = "whole groups" if how.whole_groups else "items"
    yield f"[ ]: 95 % bootstrap intervals, {how.number:,} resamples of {drawn}, seed {how.seed}."
    yield "Judges stand against the mean of the humans. The correlations of the humans are the ceiling: each human"
    yield "against the mean of the others, averaged. Cohen's kappa is the mean over pairs of raters."
    if any(map(_grouped, tables)):
        yield "By group: the correlation within each group, averaged over the groups that count by way of Fisher's z."
        yield "In a group of n items |r| counts as at most 1 - 2/(n(n-1)), as the z of perfect agreement is infinite."


def _grouped(table: Table) -> bool:
    return bool((table.groups != "").any())


def _shown(entry: Entry) -> str:
    if entry["value"] is None:
        return UNDEFINED
    if entry["low"] is None:
        return f"{entry['value']:.2f} [{UNDEFINED}]"
    return f"{entry['value']:.2f} [{entry['low']:.2f}, {entry['high']:.2f}]"


def _aligned(rows: list[list[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
