"""Evaluation: networks side by side on test sets, as a record of figures, scores of images and a gallery of maps."""

from distill.evaluation.evaluate import Evaluated, Scores, evaluate
from distill.evaluation.extent import ONE_PASS, Extent, choose_batch_size
from distill.evaluation.gallery import make_gallery
from distill.evaluation.known import KnownLooks, Said
from distill.evaluation.map_settings import MapSettings
from distill.evaluation.per_image import save_scores
from distill.evaluation.scores import Column, ImageScores
from distill.evaluation.side_by_side import SideBySide, differing_classes, evaluating
from distill.evaluation.subject import Progress

__all__ = [
    "ONE_PASS",
    "Column",
    "Evaluated",
    "Extent",
    "ImageScores",
    "KnownLooks",
    "MapSettings",
    "Progress",
    "Said",
    "Scores",
    "SideBySide",
    "choose_batch_size",
    "differing_classes",
    "evaluate",
    "evaluating",
    "make_gallery",
    "save_scores",
]
