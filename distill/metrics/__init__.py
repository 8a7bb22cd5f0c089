"""Metrics: functions that return one score per image, and thin torchmetrics classes that average them.

The public names are imported on first use, so that ``distill.metrics.names`` and ``distill.metrics.significance``
can be imported without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.metrics.calibration import (
        CalibrationBins,
        ExpectedCalibrationError,
        calibration_bins,
        expected_calibration_error,
    )
    from distill.metrics.catalogue import METRICS
    from distill.metrics.common import MeanScore, Measurement
    from distill.metrics.faithfulness import (
        ADCC,
        AverageDrop,
        Coherency,
        IncreaseInConfidence,
        WinRate,
        adcc,
        average_drop,
        coherency,
        increase_in_confidence,
        tie,
        win,
    )
    from distill.metrics.fidelity import (
        OutputKL,
        TopOneAgreement,
        output_kl,
        top_one_agreement,
    )
    from distill.metrics.localization import (
        BoxLocalization,
        EnergyPointingGame,
        InstancesHit,
        PointingGame,
        box_localization,
        boxes_to_instances,
        boxes_to_masks,
        energy_in_mask,
        instances_hit,
        pointing_game,
    )
    from distill.metrics.map_agreement import (
        MEASURES,
        MapAgreement,
        map_cosine,
        map_jensen_shannon,
        map_pearson,
        map_spearman,
        map_ssim,
        map_top_iou,
    )
    from distill.metrics.map_shape import (
        Complexity,
        ConstantMaps,
        Entropy,
        Gini,
        NaNMaps,
        ZeroMaps,
        complexity,
        constant_map,
        entropy,
        gini,
        nan_map,
        zero_map,
    )
    from distill.metrics.multilabel import MeanAveragePrecision, average_precision
    from distill.metrics.perturbation import (
        Baseline,
        Curves,
        DeletionAUC,
        InsertionAUC,
        area_under,
        baseline_images,
        mask_images,
        perturbation_curves,
    )

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
    "MeanAveragePrecision",
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
    "average_precision",
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

#: Modules that define the public names.
_MODULES = (
    "common",
    "calibration",
    "catalogue",
    "faithfulness",
    "fidelity",
    "localization",
    "map_agreement",
    "map_shape",
    "multilabel",
    "perturbation",
)


if not TYPE_CHECKING:  # hidden from mypy, which would otherwise accept any name

    def __getattr__(name: str) -> Any:
        """Import a public name on first use (PEP 562)."""
        if name in __all__:
            for module in _MODULES:
                members = vars(importlib.import_module(f"{__name__}.{module}"))
                if name in members:
                    globals()[name] = members[name]
                    return members[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
