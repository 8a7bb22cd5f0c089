"""Statistics of metrics: intervals, paired comparisons over images or seeds, and the number of seeds a test needs.

Functions take numpy arrays and return plain numbers; they import no torch. NaN means that an image or a seed has no
score; it is excluded.
"""

from distill.metrics.significance.comparison import Comparison, compare_images, compare_many, compare_seeds
from distill.metrics.significance.intervals import Interval, bootstrap_means, mean_interval, resampled_means
from distill.metrics.significance.multiple_tests import holm, holm_factors, seeds_needed

__all__ = [
    "Comparison",
    "Interval",
    "bootstrap_means",
    "compare_images",
    "compare_many",
    "compare_seeds",
    "holm",
    "holm_factors",
    "mean_interval",
    "resampled_means",
    "seeds_needed",
]
