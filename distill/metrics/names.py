"""What is measured of a network, by name: words and direction of every figure, shared by metrics and reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Group = Literal["answers", "agreement", "localisation", "faithfulness", "shape", "rates"]
Style = Literal["percent", "number"]
Better = Literal["higher", "lower", "neither"]
Needs = Literal["nothing", "reference", "objects"]

#: What a group of figures is about, in the order in which they are shown.
GROUPS: Mapping[Group, str] = {
    "answers": "Is it right, and does it answer as the reference does?",
    "agreement": "Are its maps those of the reference?",
    "localisation": "Do its maps lie on the object?",
    "faithfulness": "Does what its maps show decide its answers?",
    "shape": "What do its maps look like?",
    "rates": "How many of its maps are no maps?",
}


@dataclass(frozen=True)
class MetricInfo:
    """One figure.

    Args:
        group: What it is about.
        title: As a heading of a column.
        about: In one sentence, for a reader who has not met it.
        style: How it is printed.
        better: Which direction is better, if any is.
    """

    group: Group
    title: str
    about: str
    style: Style = "number"
    better: Better = "higher"


#: Every figure that an evaluation can hold, by the name that it has in `evaluation.json` and `per_image.parquet`.
METRIC_INFO: Mapping[str, MetricInfo] = {
    "accuracy": MetricInfo("answers", "Accuracy", "share of images whose first choice is the label", "percent"),
    "agreement": MetricInfo(
        "answers", "Agreement", "share of images on which it chooses the same class as the reference", "percent"
    ),
    "output_kl": MetricInfo(
        "answers",
        "Output KL",
        "Kullback-Leibler divergence of its class probabilities from the reference's, in nats",
        better="lower",
    ),
    "calibration_error": MetricInfo(
        "answers",
        "Calibration error",
        "mean gap between how sure it is and how often it is right (15 bins)",
        "percent",
        "lower",
    ),
    "map_cosine": MetricInfo(
        "agreement",
        "Map cosine",
        "how alike its map and the reference's are: 1 is the same map; even unrelated maps are far above 0",
    ),
    "map_cosine_floor": MetricInfo(
        "agreement",
        "Cosine floor",
        "the same with the reference's map of another image: what is only a common bias, as to the centre",
        better="neither",
    ),
    "map_pearson": MetricInfo("agreement", "Map Pearson", "correlation of its map and the reference's"),
    "map_spearman": MetricInfo("agreement", "Map Spearman", "correlation of the ranks of the two maps' pixels"),
    "map_ssim": MetricInfo("agreement", "Map SSIM", "structural similarity of the two maps"),
    "map_top_iou": MetricInfo(
        "agreement", "Map top IoU", "overlap of the highest 20 % of the pixels of both maps, over their union"
    ),
    "map_jensen_shannon": MetricInfo(
        "agreement", "Map Jensen-Shannon", "divergence of the two maps as distributions, 0 to 1", better="lower"
    ),
    "energy_in_object": MetricInfo(
        "localisation",
        "In object",
        "share of its map that lies on the object; an even map has what the object covers of the image",
        "percent",
    ),
    "pointing_game": MetricInfo(
        "localisation", "Pointing game", "share of images whose map has its maximum on the object", "percent"
    ),
    "box_localization_0": MetricInfo(
        "localisation",
        "Loc(0)",
        "where the map is above 0: area in the box, over the box and what lies outside",
        "percent",
    ),
    "box_localization_25": MetricInfo("localisation", "Loc(0.25)", "the same above a quarter of the range", "percent"),
    "box_localization_50": MetricInfo("localisation", "Loc(0.5)", "the same above half of the range", "percent"),
    "instances_hit": MetricInfo(
        "localisation",
        "Instances hit",
        "share of the instances in an image that the map above half of its maximum touches",
        "percent",
    ),
    "average_drop": MetricInfo(
        "faithfulness",
        "Average drop",
        "how much of the class's probability is lost when only what the map shows is left; an even map loses none",
        "percent",
        "lower",
    ),
    "increase_in_confidence": MetricInfo(
        "faithfulness", "Increase", "share of images on which the probability rises when only that is left", "percent"
    ),
    "win_rate": MetricInfo(
        "faithfulness",
        "Win rate",
        "share of images on which its probability drops less than the reference's",
        "percent",
    ),
    "deletion_auc": MetricInfo(
        "faithfulness", "Deletion", "mean probability as pixels are taken away, the brightest first", better="lower"
    ),
    "insertion_auc": MetricInfo(
        "faithfulness", "Insertion", "mean probability as pixels are put in, the brightest first"
    ),
    "coherency": MetricInfo(
        "faithfulness", "Coherency", "how alike the map of the image and the map of what the map shows are, 0 to 1"
    ),
    "complexity": MetricInfo(
        "shape", "Complexity", "mean of the map divided by its maximum: 1 is bright everywhere", better="lower"
    ),
    "adcc": MetricInfo(
        "faithfulness", "ADCC", "harmonic mean of coherency, 1 - complexity and 1 - average drop; hard to trick"
    ),
    "gini": MetricInfo("shape", "Gini", "sparseness: 0 is even, near 1 is a single bright pixel", better="neither"),
    "entropy": MetricInfo(
        "shape", "Entropy", "of the map as a distribution, over that of an even one, 0 to 1", better="neither"
    ),
    "zero_maps": MetricInfo("rates", "Zero maps", "share of maps that are zero everywhere", "percent", "lower"),
    "nan_maps": MetricInfo(
        "rates", "NaN maps", "share of maps that hold a value that is no number", "percent", "lower"
    ),
    "constant_maps": MetricInfo(
        "rates", "Constant maps", "share of maps that are the same everywhere, though not zero", "percent", "lower"
    ),
}


def required_input(figure: str) -> Needs:
    """Say what a figure needs beside images and labels: a network to compare with, or where the objects are.

    Example:
        >>> required_input("accuracy"), required_input("map_cosine"), required_input("pointing_game")
        ('nothing', 'reference', 'objects')
    """
    group = METRIC_INFO[figure].group
    if group == "agreement" or figure in ("agreement", "output_kl", "win_rate"):
        return "reference"
    return "objects" if group == "localisation" else "nothing"
