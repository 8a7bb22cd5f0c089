"""`METRICS`: the metric classes by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torchmetrics import Metric

from distill.metrics.calibration import ExpectedCalibrationError
from distill.metrics.faithfulness import ADCC, AverageDrop, Coherency, IncreaseInConfidence, WinRate
from distill.metrics.fidelity import OutputKL, TopOneAgreement
from distill.metrics.localization import BoxLocalization, EnergyPointingGame, InstancesHit, PointingGame
from distill.metrics.map_agreement import MapAgreement
from distill.metrics.map_shape import Complexity, ConstantMaps, Entropy, Gini, NaNMaps, ZeroMaps
from distill.metrics.names import METRIC_INFO
from distill.metrics.perturbation import DeletionAUC, InsertionAUC

_MAKE: Mapping[str, Callable[[], Metric]] = {
    "agreement": TopOneAgreement,
    "output_kl": OutputKL,
    "calibration_error": ExpectedCalibrationError,
    "map_cosine": partial(MapAgreement, measure="cosine"),
    "map_cosine_floor": partial(MapAgreement, measure="cosine"),
    "map_pearson": partial(MapAgreement, measure="pearson"),
    "map_spearman": partial(MapAgreement, measure="spearman"),
    "map_ssim": partial(MapAgreement, measure="ssim"),
    "map_top_iou": partial(MapAgreement, measure="top_iou"),
    "map_jensen_shannon": partial(MapAgreement, measure="jensen_shannon"),
    "energy_in_object": EnergyPointingGame,
    "pointing_game": PointingGame,
    "box_localization_0": partial(BoxLocalization, delta=0.0),
    "box_localization_25": partial(BoxLocalization, delta=0.25),
    "box_localization_50": partial(BoxLocalization, delta=0.5),
    "instances_hit": InstancesHit,
    "average_drop": AverageDrop,
    "increase_in_confidence": IncreaseInConfidence,
    "win_rate": WinRate,
    "deletion_auc": DeletionAUC,
    "insertion_auc": InsertionAUC,
    "coherency": Coherency,
    "complexity": Complexity,
    "adcc": ADCC,
    "gini": Gini,
    "entropy": Entropy,
    "zero_maps": ZeroMaps,
    "nan_maps": NaNMaps,
    "constant_maps": ConstantMaps,
}

#: Factory and description of each metric, by its name in `evaluation.json` and `distill list metrics`; accuracy is
#: computed without a metric class and is not included.
METRICS: Mapping[str, tuple[Callable[[], Metric], str]] = {
    name: (make, METRIC_INFO[name].about) for name, make in _MAKE.items()
}
