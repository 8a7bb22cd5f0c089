"""Statistics of figures: intervals, paired comparisons over images and over seeds, and how many seeds are needed.

Numpy in, plain numbers out. NaN says that an image or a seed has no score: it is left out and counted.
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
