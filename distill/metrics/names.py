"""Names, titles and descriptions of the metrics, shared by metrics and reports; imports no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Group = Literal["answers", "agreement", "localisation", "faithfulness", "shape", "rates"]
Style = Literal["percent", "number"]
Better = Literal["higher", "lower", "neither"]
Needs = Literal["nothing", "reference", "objects"]

#: The question that each group of metrics answers, in the order of display.
GROUPS: Mapping[Group, str] = {
    "answers": "Are the predictions correct, and are they those of the reference?",
    "agreement": "Are the maps similar to the reference's?",
    "localisation": "Are the maps on the object?",
    "faithfulness": "Do the predictions depend on what the maps show?",
    "shape": "How concentrated are the maps?",
    "rates": "How many maps are zero, NaN or constant?",
}
#: Largest difference in accuracy between networks whose figures of faithfulness are compared.
ACCURACY_MARGIN = 0.05


@dataclass(frozen=True)
class MetricInfo:
    """Description of one metric.

    Args:
        group: Group in which it is displayed.
        title: Column heading.
        about: Explanation in one sentence.
        style: Format of the value.
        better: Which direction is better, if any.
    """

    group: Group
    title: str
    about: str
    style: Style = "number"
    better: Better = "higher"


#: All metrics of an evaluation, by their names in `evaluation.json` and `per_image.parquet`.
METRIC_INFO: Mapping[str, MetricInfo] = {
    "accuracy": MetricInfo("answers", "Accuracy", "share of images whose top-1 prediction is the label", "percent"),
    "agreement": MetricInfo(
        "answers", "Agreement", "share of images whose top-1 prediction is that of the reference", "percent"
    ),
    "output_kl": MetricInfo(
        "answers",
        "Output KL",
        "Kullback-Leibler divergence of the class probabilities from the reference's, in nats",
        better="lower",
    ),
    "calibration_error": MetricInfo(
        "answers",
        "Calibration error",
        "expected calibration error: mean absolute difference between confidence and accuracy, in 15 bins",
        "percent",
        "lower",
    ),
    "map_cosine": MetricInfo(
        "agreement",
        "Map cosine",
        "cosine similarity of the map and the reference's map: 1 for equal maps, but far above 0 for unrelated maps",
    ),
    "map_cosine_floor": MetricInfo(
        "agreement",
        "Cosine floor",
        "cosine similarity with the reference's map of another image: the part due to a common bias, such as towards "
        "the centre",
        better="neither",
    ),
    "map_pearson": MetricInfo("agreement", "Map Pearson", "Pearson correlation of the map and the reference's map"),
    "map_spearman": MetricInfo("agreement", "Map Spearman", "Spearman rank correlation of the two maps' pixels"),
    "map_ssim": MetricInfo("agreement", "Map SSIM", "structural similarity of the two maps"),
    "map_top_iou": MetricInfo(
        "agreement", "Map top IoU", "intersection over union of the highest 20 % of the pixels of the two maps"
    ),
    "map_jensen_shannon": MetricInfo(
        "agreement",
        "Map Jensen-Shannon",
        "Jensen-Shannon divergence of the two maps as distributions, 0 to 1",
        better="lower",
    ),
    "energy_in_object": MetricInfo(
        "localisation",
        "In object",
        "share of the map's sum inside the object mask; for a uniform map, the share of the image the object covers",
        "percent",
    ),
    "pointing_game": MetricInfo(
        "localisation", "Pointing game", "share of images whose map has its maximum on the object", "percent"
    ),
    "box_localization_0": MetricInfo(
        "localisation",
        "Loc(0)",
        "intersection over union of the object and the part of the map above 0",
        "percent",
    ),
    "box_localization_25": MetricInfo(
        "localisation",
        "Loc(0.25)",
        "intersection over union of the object and the part of the map above a quarter of its range",
        "percent",
    ),
    "box_localization_50": MetricInfo(
        "localisation",
        "Loc(0.5)",
        "intersection over union of the object and the part of the map above half of its range",
        "percent",
    ),
    "instances_hit": MetricInfo(
        "localisation",
        "Instances hit",
        "share of the instances in an image that overlap the part of the map above half of its maximum",
        "percent",
    ),
    "average_drop": MetricInfo(
        "faithfulness",
        "Average drop",
        "share of the class's probability lost if only the part shown by the map is kept; 0 for a uniform map",
        "percent",
        "lower",
    ),
    "increase_in_confidence": MetricInfo(
        "faithfulness",
        "Increase",
        "share of images on which the probability rises if only the part shown by the map is kept",
        "percent",
    ),
    "win_rate": MetricInfo(
        "faithfulness",
        "Win rate",
        "share of images on which the probability drops less than the reference's",
        "percent",
    ),
    "deletion_auc": MetricInfo(
        "faithfulness",
        "Deletion",
        "mean probability while pixels are removed in descending order of the map",
        better="lower",
    ),
    "insertion_auc": MetricInfo(
        "faithfulness", "Insertion", "mean probability while pixels are inserted in descending order of the map"
    ),
    "coherency": MetricInfo(
        "faithfulness",
        "Coherency",
        "correlation of the map of the image and the map of the masked image, scaled to 0 to 1",
    ),
    "complexity": MetricInfo(
        "shape", "Complexity", "mean of the map divided by its maximum: 1 for a uniform map", better="lower"
    ),
    "adcc": MetricInfo(
        "faithfulness",
        "ADCC",
        "harmonic mean of coherency, 1 - complexity and 1 - average drop: high only if all three are high",
    ),
    "gini": MetricInfo(
        "shape", "Gini", "sparseness: 0 for a uniform map, near 1 for a single bright pixel", better="neither"
    ),
    "entropy": MetricInfo(
        "shape",
        "Entropy",
        "entropy of the map as a distribution, divided by that of a uniform map, 0 to 1",
        better="neither",
    ),
    "zero_maps": MetricInfo("rates", "Zero maps", "share of maps that are zero everywhere", "percent", "lower"),
    "nan_maps": MetricInfo("rates", "NaN maps", "share of maps with a NaN or infinite value", "percent", "lower"),
    "constant_maps": MetricInfo(
        "rates", "Constant maps", "share of maps with the same value everywhere, other than zero", "percent", "lower"
    ),
}


#: Smallest and largest values of the metrics that are no percentages; other figures may have any finite value.
_RANGES: Mapping[str, tuple[float, float]] = {
    "output_kl": (0.0, math.inf),
    **dict.fromkeys(("map_cosine", "map_cosine_floor", "map_pearson", "map_spearman", "map_ssim"), (-1.0, 1.0)),
    **dict.fromkeys(("map_top_iou", "map_jensen_shannon", "deletion_auc", "insertion_auc"), (0.0, 1.0)),
    **dict.fromkeys(("coherency", "adcc", "gini", "entropy"), (0.0, 1.0)),
}
#: Allowed error of rounding at the ends of a range.
_ROUNDING = 1e-3


def check_range(metric: str, value: float) -> None:
    """Raise an error if a metric cannot have a value: an accuracy is from 0 to 1.

    Args:
        metric: Name of the metric, or SET/METRIC. Unknown names may have any value.
        value: The value; NaN stands for "not measured".

    Raises:
        ValueError: if the value is outside the range.

    Example:
        >>> check_range("test/accuracy", 0.5)
        >>> check_range("test/accuracy", 7.5)
        Traceback (most recent call last):
        ValueError: test/accuracy is from 0 to 1, got 7.5
    """
    name = metric.rpartition("/")[2]
    info = METRIC_INFO.get(name)
    low, high = (0.0, 1.0) if info is not None and info.style == "percent" else _RANGES.get(name, (-math.inf, math.inf))
    if value < low - _ROUNDING or value > high + _ROUNDING:
        raise ValueError(f"{metric} is from {low:g} to {high:g}, got {value:g}")


def required_input(metric: str) -> Needs:
    """Return what a metric needs besides images and labels: a reference network, or object positions.

    Example:
        >>> required_input("accuracy"), required_input("map_cosine"), required_input("pointing_game")
        ('nothing', 'reference', 'objects')
    """
    group = METRIC_INFO[metric].group
    if group == "agreement" or metric in ("agreement", "output_kl", "win_rate"):
        return "reference"
    return "objects" if group == "localisation" else "nothing"
