"""Metrics: tensors to figures, as functions that score every image and thin torchmetrics classes over them."""

from distill.metrics.adcc import ADCC, adcc
from distill.metrics.boxes import boxes_to_instances, boxes_to_masks
from distill.metrics.calibration import (
    CalibrationBins,
    ExpectedCalibrationError,
    calibration_bins,
    expected_calibration_error,
)
from distill.metrics.catalogue import METRICS
from distill.metrics.coherence import Coherency, coherency
from distill.metrics.correlation import map_pearson, map_spearman
from distill.metrics.faithfulness import (
    AverageDrop,
    IncreaseInConfidence,
    WinRate,
    average_drop,
    increase_in_confidence,
    tie,
    win,
)
from distill.metrics.fidelity import OutputKL, TopOneAgreement, output_kl, top_one_agreement
from distill.metrics.localization import EnergyPointingGame, PointingGame, energy_in_mask, pointing_game
from distill.metrics.map_agreement import MEASURES, MapAgreement, map_cosine
from distill.metrics.masking import Baseline, baseline_images, mask_images
from distill.metrics.mean_score import MeanScore, Measurement
from distill.metrics.overlap import map_jensen_shannon, map_top_iou
from distill.metrics.perturbation import Curves, DeletionAUC, InsertionAUC, area_under, perturbation_curves
from distill.metrics.rates import ConstantMaps, NaNMaps, ZeroMaps, constant_map, nan_map, zero_map
from distill.metrics.sparseness import Complexity, Entropy, Gini, complexity, entropy, gini
from distill.metrics.structure import map_ssim
from distill.metrics.thresholded import BoxLocalization, InstancesHit, box_localization, instances_hit

__all__ = [
    "ADCC",
    "MEASURES",
    "METRICS",
    "AverageDrop",
    "Baseline",
    "BoxLocalization",
    "CalibrationBins",
    "Coherency",
    "Complexity",
    "ConstantMaps",
    "Curves",
    "DeletionAUC",
    "EnergyPointingGame",
    "Entropy",
    "ExpectedCalibrationError",
    "Gini",
    "IncreaseInConfidence",
    "InsertionAUC",
    "InstancesHit",
    "MapAgreement",
    "MeanScore",
    "Measurement",
    "NaNMaps",
    "OutputKL",
    "PointingGame",
    "TopOneAgreement",
    "WinRate",
    "ZeroMaps",
    "adcc",
    "area_under",
    "average_drop",
    "baseline_images",
    "box_localization",
    "boxes_to_instances",
    "boxes_to_masks",
    "calibration_bins",
    "coherency",
    "complexity",
    "constant_map",
    "energy_in_mask",
    "entropy",
    "expected_calibration_error",
    "gini",
    "increase_in_confidence",
    "instances_hit",
    "map_cosine",
    "map_jensen_shannon",
    "map_pearson",
    "map_spearman",
    "map_ssim",
    "map_top_iou",
    "mask_images",
    "nan_map",
    "output_kl",
    "perturbation_curves",
    "pointing_game",
    "tie",
    "top_one_agreement",
    "win",
    "zero_map",
]
