"""Any images -> what a finished run and its teacher make of them, and where they look."""

from distill.explanations.drawing import draw
from distill.explanations.explaining import explain_images
from distill.explanations.files import output_paths, save_explanations
from distill.explanations.record import ImageExplanation, NetworkView

__all__ = [
    "ImageExplanation",
    "NetworkView",
    "draw",
    "explain_images",
    "output_paths",
    "save_explanations",
]
