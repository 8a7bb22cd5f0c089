"""Export a student to a file that runs without this project: ONNX, or a program of torch.export."""

from distill.export.formats import FORMATS, Format
from distill.export.parity import Parity, compare
from distill.export.program import Deployed, export_program

__all__ = ["FORMATS", "Deployed", "Format", "Parity", "compare", "export_program"]
