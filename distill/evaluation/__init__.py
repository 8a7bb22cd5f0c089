"""Evaluation: compare networks on test sets; metrics with intervals, per-image scores and a gallery of maps."""

from distill.evaluation.evaluate import EvaluationResult, Scores, evaluate
from distill.evaluation.gallery import make_gallery
from distill.evaluation.image_scores import Column, ImageScores
from distill.evaluation.job import ComparedNetworks, Progress, differing_classes, evaluation_mode
from distill.evaluation.parquet import save_scores
from distill.evaluation.settings import ONE_PASS, EvaluationSettings, MapSettings, choose_batch_size
from distill.teachers.evaluation_cache import CachedOutput, EvaluationCache

__all__ = [
    "ONE_PASS",
    "CachedOutput",
    "Column",
    "ComparedNetworks",
    "EvaluationCache",
    "EvaluationResult",
    "EvaluationSettings",
    "ImageScores",
    "MapSettings",
    "Progress",
    "Scores",
    "choose_batch_size",
    "differing_classes",
    "evaluate",
    "evaluation_mode",
    "make_gallery",
    "save_scores",
]
