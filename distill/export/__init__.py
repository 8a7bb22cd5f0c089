"""A student alone in a file that needs neither this project nor its training: ONNX, or a program of torch.export."""

from distill.export.formats import FORMATS, Format
from distill.export.parity import Parity, compare
from distill.export.program import Deployed, export_program

__all__ = ["FORMATS", "Deployed", "Format", "Parity", "compare", "export_program"]
