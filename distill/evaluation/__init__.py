"""Evaluation: networks side by side on test sets, as a record of figures and a gallery of maps."""

from distill.evaluation.evaluate import evaluate
from distill.evaluation.gallery import make_gallery
from distill.evaluation.scores import ImageScores, score_images
from distill.evaluation.side_by_side import MapSettings, SideBySide, evaluating

__all__ = ["ImageScores", "MapSettings", "SideBySide", "evaluate", "evaluating", "make_gallery", "score_images"]
