"""The paper's published figures, verbatim, to be printed beside one's own and marked as quoted.

Source: "ImageEdit-R1: Boosting Multi-Agent Image Editing via Reinforcement Learning", Tables 1, 3 and 4, and what
sections 3.2 and 4.2 say of Figures 3, 5 and 7; the curves are not quoted, as they could only be read off with a ruler.

Two things that a reader of the paper may trip over: its Table 1 prints "ImageEdit-R1 (w/ RL)" for the rows *without*
reinforcement learning, as its text says (7.21 to 7.26 for FLUX.1-Kontext-dev "alone"); and the rows of its Table 4 are
the GPT-4o columns of FLUX.1-Kontext-dev in Table 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ier1_plugin.evaluation.records import DIMENSIONS
from ier1_plugin.evaluation.report.tables import Cell, Table, grid, signed

SOURCE = 'Quoted from "ImageEdit-R1: Boosting Multi-Agent Image Editing via Reinforcement Learning"'
BENCHMARKS = ("PSR", "RealEdit", "UltraEdit")
JUDGES = ("GPT-4o", "Gemini-2.5")
ORIGINAL, WITHOUT_RL, WITH_RL = "Original", "ImageEdit-R1 (w/o RL)", "ImageEdit-R1"

TABLE_1: dict[str, dict[str, tuple[float, ...]]] = {
    "Single DiT model": {
        "Step1X-Edit": (6.70, 6.58, 6.83, 6.92, 7.51, 7.67, 7.04),
        "ILLUME+": (6.00, 6.22, 6.37, 6.50, 7.28, 6.89, 6.54),
        "ICEdit": (5.64, 5.73, 5.75, 6.26, 7.44, 7.13, 6.33),
    },
    "Closed-source model": {
        "GPT-4o": (9.12, 7.96, 8.35, 8.19, 8.71, 8.48, 8.47),
        "SeedEdit": (8.45, 8.63, 8.24, 8.37, 8.42, 8.36, 8.41),
    },
    "FLUX.1-Kontext-dev": {
        ORIGINAL: (6.29, 6.49, 6.91, 7.33, 7.95, 8.31, 7.21),
        WITHOUT_RL: (7.18, 7.31, 6.97, 7.12, 7.26, 7.71, 7.26, +0.05),
        WITH_RL: (7.92, 7.63, 8.02, 8.24, 8.63, 8.94, 8.23, +1.02),
    },
    "Qwen-Image-Edit": {
        ORIGINAL: (8.12, 8.27, 8.33, 8.46, 8.47, 8.62, 8.39),
        WITHOUT_RL: (7.23, 7.84, 8.17, 7.93, 7.41, 7.38, 7.66, -0.73),
        WITH_RL: (8.75, 8.91, 8.78, 8.84, 8.86, 8.93, 8.85, +0.46),
    },
    "Nano Banana": {
        ORIGINAL: (8.66, 8.80, 7.93, 8.29, 7.79, 8.47, 8.32),
        WITHOUT_RL: (8.49, 8.61, 7.89, 7.91, 8.03, 7.88, 8.14, -0.18),
        WITH_RL: (8.94, 8.92, 8.57, 8.58, 8.44, 8.51, 8.66, +0.34),
    },
}
"""By edit model and method: each benchmark by each judge, the average, and the gain over the original as printed."""

TABLE_3: dict[str, tuple[float, ...]] = {
    "Human": (2.84, 2.38, 2.73),
    "VLM-based": (3.43, 2.41, 2.26),
    "Correlation": (0.66, 0.43, 0.59),
}
"""Means of 100 edits by three people and by the judges, and their correlation."""

TABLE_4: dict[str, dict[str, tuple[float, ...]]] = {
    "Decomposition and sequencing models": {
        ORIGINAL: (6.29, 6.91, 7.95, 7.05),
        "Qwen2.5-VL-7B": (7.92, 8.02, 8.63, 8.19),
        "Qwen3-VL-8B": (7.94, 8.33, 8.61, 8.29),
    },
    "With and without goals": {
        ORIGINAL: (6.29, 6.91, 7.95, 7.05),
        "Qwen2.5-VL-7B": (7.92, 8.02, 8.63, 8.19),
        "without goal": (7.62, 7.71, 8.43, 7.92),
    },
}
"""FLUX.1-Kontext-dev judged by GPT-4o: each benchmark and the average."""

FIGURE_5 = {"single-turn": (7.92,), "multi-turn": (6.47,)}
"""FLUX.1-Kontext-dev on PSR: the two numbers of the figure that the text states."""

STATEMENTS = {
    "Figure 3": "Action and subject rewards settle above 0.9; the goal reward rises more slowly.",
    "Figure 5": "Single-turn is better than multi-turn on all three benchmarks, with FLUX.1-Kontext-dev and with Nano "
    "Banana; on PSR with FLUX.1-Kontext-dev 7.92 against 6.47.",
    "Figure 7": "The text has two figures of this number. Training data: three epochs of training; all three "
    "benchmarks rise most between 0 and 4000 training samples and stay about level beyond. With and without goals: "
    "subject and action rewards take a similar course in training, whether or not the goal is rewarded.",
}
"""What the text says about the figures, in our words."""

BESIDE = {"Table 1": "scores", "Table 4": "comparisons", "Figure 5": "comparisons", "Table 3": "agreement"}
"""Which of our tables each is shown beside."""


def quoted_tables() -> dict[str, Table]:
    """{"Table 1": Table, ...}, each marked as quoted."""
    benchmarks = [(name, "") for name in BENCHMARKS]
    rl = "The paper prints its rows without RL as “(w/ RL)”; here they are named for what its text says they are."
    judged = [(name, judge) for name in BENCHMARKS for judge in JUDGES]
    return {
        "Table 1": _quoted("Table 1", [*judged, ("Average", ""), ("Gain", "printed")], TABLE_1, rl),
        "Table 3": _quoted(
            "Table 3", [(name.capitalize(), f"0–{highest}") for name, highest in DIMENSIONS.items()], {"": TABLE_3}
        ),
        "Table 4": _quoted("Table 4", [*benchmarks, ("Average", "")], TABLE_4, "FLUX.1-Kontext-dev, judged by GPT-4o."),
        "Figure 5": _quoted(
            "Figure 5", [("PSR", "")], {"FLUX.1-Kontext-dev": FIGURE_5}, "The two numbers that its text states."
        ),
    }


def _quoted(
    name: str,
    heads: Sequence[tuple[str, str]],
    numbers: Mapping[str, Mapping[str, tuple[float, ...]]],
    caption: str = "",
) -> Table:
    """The numbers as printed; the eighth of Table 1 is a gain."""
    rows = {}
    for group, methods in numbers.items():
        for method, values in methods.items():
            printed = [signed(value) if place == 7 else f"{value:.2f}" for place, value in enumerate(values)]
            rows[group, method] = [Cell((one,)) for one in printed + [""] * (len(heads) - len(printed))]
    return Table(f"The paper's {name}", grid(heads, rows), f"{SOURCE}, {name}. {caption}".strip(), quoted=True)
