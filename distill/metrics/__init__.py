"""Metrics: tensors to figures, as functions that score every image and thin torchmetrics classes over them."""

from distill.metrics.fidelity import TopOneAgreement, top_one_agreement
from distill.metrics.localization import EnergyPointingGame, boxes_to_masks, energy_in_mask
from distill.metrics.map_agreement import MEASURES, MapAgreement, map_cosine
from distill.metrics.mean_score import MeanScore, Measurement

#: Metric classes by the name that a record and `distill list metrics` use, with what they measure.
METRICS = {
    "agreement": (TopOneAgreement, "share of images on which network and reference choose the same class"),
    "map_cosine": (MapAgreement, "mean cosine of the network's map and the reference's"),
    "energy_in_object": (EnergyPointingGame, "mean share of the map that lies on the object"),
}

__all__ = [
    "MEASURES",
    "METRICS",
    "EnergyPointingGame",
    "MapAgreement",
    "MeanScore",
    "Measurement",
    "TopOneAgreement",
    "boxes_to_masks",
    "energy_in_mask",
    "map_cosine",
    "top_one_agreement",
]
