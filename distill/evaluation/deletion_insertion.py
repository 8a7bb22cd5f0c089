"""Deletion and insertion on images that were drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from distill.evaluation.image_scores import Figures
from distill.evaluation.networks import EvaluationJob
from distill.metrics import (
    Baseline,
    Curves,
    area_under,
    perturbation_curves,
)
from distill.metrics.perturbation import Mode
from distill.report.evaluation.record import CurveRecord, CurvesRecord

#: What stands in for pixels that are gone, as the paper of RISE has it.
BASELINES: dict[Mode, Baseline] = {"deletion": "zero", "insertion": "blur"}


class PerturbedScores(NamedTuple):
    """The areas of every image, and the mean curves; None where no map puts the pixels into an order."""

    figures: Figures
    curves: CurvesRecord | None


def score_perturbed(subject: EvaluationJob, positions: Sequence[int], *, steps: int) -> dict[str, PerturbedScores]:
    """Follow the probability of the explained class while pixels go, or come.

    Args:
        subject: Networks and test set.
        positions: The images that were drawn.
        steps: See :func:`distill.metrics.perturbation_curves`.
    """
    networks = subject.side.networks
    found: dict[str, dict[Mode, list[Curves]]] = {network: {mode: [] for mode in BASELINES} for network in networks}
    done = 0
    subject.tell("deletion, insertion", 0, len(positions) * len(networks))
    for piece in subject.pieces(positions):
        looks = subject.look(piece)
        for network, look in looks.networks.items():

            def score(images: Tensor, rows: Tensor, network: str = network, target: Tensor = looks.target) -> Tensor:
                return networks[network](images).float().softmax(1).gather(1, target[rows, None])[:, 0]

            for mode, baseline in BASELINES.items():
                with torch.no_grad():
                    curves = perturbation_curves(
                        score,
                        piece.images,
                        look.raw,
                        mode=mode,
                        steps=steps,
                        baseline=baseline,
                        images_at_a_time=subject.batch_size,
                    )
                found[network][mode].append(Curves(curves.fractions.cpu(), curves.scores.cpu()))
            done += len(piece.labels)
            subject.tell("deletion, insertion", done, len(positions) * len(networks))
    return {network: _summarise({m: _join(parts) for m, parts in modes.items()}) for network, modes in found.items()}


def _join(parts: Sequence[Curves]) -> Curves:
    return Curves(parts[0].fractions, torch.cat([part.scores for part in parts]))


def _summarise(curves: dict[Mode, Curves]) -> PerturbedScores:
    figures = {f"{mode}_auc": area_under(one) for mode, one in curves.items()}
    means = {mode: _mean(one) for mode, one in curves.items()}
    deletion, insertion = means["deletion"], means["insertion"]
    known = None if deletion is None or insertion is None else CurvesRecord(deletion=deletion, insertion=insertion)
    return PerturbedScores(figures, known)


def _mean(curves: Curves) -> CurveRecord | None:
    known = curves.scores[~curves.scores.isnan().any(1)]
    if not len(known):
        return None
    return {
        "fractions": curves.fractions.tolist(),
        "probability": known.double().mean(0).tolist(),
        "n": len(known),
    }
