"""Deletion and insertion curves on a sample of the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from distill.evaluation.image_scores import Figures
from distill.evaluation.job import EvaluationJob
from distill.metrics import (
    Baseline,
    Curves,
    area_under,
    perturbation_curves,
)
from distill.metrics.perturbation import Mode
from distill.report.evaluation.record import CurveRecord, CurvesRecord

#: Replacement of removed pixels, as in the paper of RISE.
BASELINES: dict[Mode, Baseline] = {"deletion": "zero", "insertion": "blur"}


class PerturbedScores(NamedTuple):
    """Areas under the curves of every image, and the mean curves; None if no map gives an order of the pixels."""

    figures: Figures
    curves: CurvesRecord | None


def score_perturbed(job: EvaluationJob, positions: Sequence[int], *, steps: int) -> dict[str, PerturbedScores]:
    """Measure the probability of the explained class while pixels are removed (deletion) or added (insertion).

    Args:
        job: Networks and test set.
        positions: Positions of the images that were drawn.
        steps: See :func:`distill.metrics.perturbation_curves`.
    """
    networks = job.networks.by_name
    curves: dict[str, dict[Mode, list[Curves]]] = {name: {mode: [] for mode in BASELINES} for name in networks}
    done, total = 0, len(positions) * len(networks)
    job.report_progress("deletion, insertion", 0, total)
    for batch in job.batches(positions):
        outputs = job.run(batch)
        for name, output in outputs.networks.items():

            def score(images: Tensor, rows: Tensor, name: str = name, target: Tensor = outputs.target) -> Tensor:
                return networks[name](images).float().softmax(1).gather(1, target[rows, None])[:, 0]

            for mode, baseline in BASELINES.items():
                with torch.no_grad():
                    part = perturbation_curves(
                        score,
                        batch.images,
                        output.raw,
                        mode=mode,
                        steps=steps,
                        baseline=baseline,
                        images_at_a_time=job.batch_size,
                    )
                curves[name][mode].append(Curves(part.fractions.cpu(), part.scores.cpu()))
            done += len(batch.labels)
            job.report_progress("deletion, insertion", done, total)
    return {name: _summarise(modes) for name, modes in curves.items()}


def _summarise(parts: dict[Mode, list[Curves]]) -> PerturbedScores:
    curves = {mode: Curves(some[0].fractions, torch.cat([one.scores for one in some])) for mode, some in parts.items()}
    figures = {f"{mode}_auc": area_under(one) for mode, one in curves.items()}
    deletion, insertion = _mean_curve(curves["deletion"]), _mean_curve(curves["insertion"])
    if deletion is None or insertion is None:
        return PerturbedScores(figures, None)
    return PerturbedScores(figures, CurvesRecord(deletion=deletion, insertion=insertion))


def _mean_curve(curves: Curves) -> CurveRecord | None:
    scores = curves.scores[~curves.scores.isnan().any(1)]
    if not len(scores):
        return None
    return {
        "fractions": curves.fractions.tolist(),
        "probability": scores.double().mean(0).tolist(),
        "n": len(scores),
    }
