"""Other names for what is in statistics.py."""

from ier1_plugin.evaluation.statistics import Estimate as Share
from ier1_plugin.evaluation.statistics import means, ratios

__all__ = ["Share", "means", "ratios"]
