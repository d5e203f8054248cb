"""What `ier1 evaluate --decomposition` prints.

print(table(score_all(...)))

reward on 400 rows      local:warm                  local:model
overall                 0.82 [0.80, 0.84]           0.85 [0.83, 0.87]
...
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ier1_plugin.evaluation.decomposition import PARTS, Scored
from ier1_plugin.evaluation.shares import Share

NAMES = {
    "overall": "overall",
    "format": "format rate",
    "action": "action F1",
    "subject": "subject F1",
    "goal": "goal F1",
}
RATES = {"f1": "F1", "precision": "precision", "recall": "recall"}
OPERATIONS = "The number of operations of a row is the longest of its gold's lists of actions, subjects and goals."
MOST_CONFUSED = 10


def table(found: Sequence[Scored]) -> str:
    """The tables, a column a model."""
    heads = [one.name for one in found]
    first = found[0]
    lines = [
        *_lines([f"on {first.rows:,} rows", *heads], [_part_row(part, [one.parts for one in found]) for part in PARTS])
    ]
    lines += _missing(found)
    if found[1:]:
        rows = [_part_row(part, [one.rise for one in found[1:]], "+") for part in PARTS]
        lines += ["", *_lines([f"rise over {first.name}, on the same rows", *heads[1:]], rows)]
    counts = sorted({count for one in found for count in one.by_operations}, key=int)
    for part in PARTS[1:]:
        rows = [[count, *(_share(one.by_operations[count][part]) for one in found)] for count in counts]
        lines += ["", *_lines([f"{NAMES[part]} by number of operations", *heads], rows)]
    for rate in ("f1", "precision", "recall"):
        lines += ["", *_lines([f"{RATES[rate]} by action (gold rows)", *heads], _action_rows(found, rate))]
    for one in found:
        lines += ["", f"actions of {one.name} that were most often missed for another:", *_confused(one)]
    return "\n".join([*lines, "", OPERATIONS, f"In brackets 95 % bootstrap intervals; {_photos(first)}."])


def _photos(found: Scored) -> str:
    if found.photos == found.rows:
        return f"each of the {found.rows:,} rows has a photo of its own"
    return (
        f"the {found.rows:,} rows are about {found.photos:,} photos, and those about one photo are resampled together"
    )


def _part_row(part: str, shares: Sequence[Mapping[str, Share]], sign: str = "") -> list[str]:
    return [NAMES[part], *(_share(each[part], sign) for each in shares)]


def _missing(found: Sequence[Scored]) -> list[str]:
    """Lines on what was not answered, with the means that count it as 0."""
    lines = []
    for one in found:
        if one.unanswered:
            reasons = "; ".join(f"{count} x {reason}" for reason, count in one.unanswered.items())
            zero = ", ".join(f"{NAMES[part]} {one.as_zero[part].mean:.2f}" for part in PARTS)
            lines.append(f"{one.name}: {sum(one.unanswered.values())} rows without an answer ({reasons}); as 0: {zero}")
    return lines


def _action_rows(found: Sequence[Scored], rate: str) -> list[list[str]]:
    names = dict.fromkeys(action for one in found for action in one.actions)
    rows = []
    for name in names:
        each = [one.actions.get(name) for one in found]
        gold = max(rates.gold if rates else 0 for rates in each)
        rows.append([f"{name} ({gold})", *(_share(getattr(rates, rate)) if rates else "-" for rates in each)])
    return rows


def _confused(one: Scored) -> list[str]:
    pairs = [(count, gold, said) for gold, row in one.confusion.items() for said, count in row.items() if gold != said]
    worst = sorted(pairs, key=lambda pair: (-pair[0], *pair[1:]))[:MOST_CONFUSED]
    return [f"  {gold} -> {said}: {count}" for count, gold, said in worst] or ["  none"]


def _share(share: Share, sign: str = "") -> str:
    if not share.count:
        return "n/a"
    return f"{share.mean:{sign}.2f} [{share.low:{sign}.2f}, {share.high:{sign}.2f}]".replace("nan", "n/a")


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
