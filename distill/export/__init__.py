"""A student alone in a file that needs neither this project nor its training: ONNX, or a program of torch.export."""

from distill.export.deployed import Deployed, trace
from distill.export.formats import FORMATS, Format
from distill.export.parity import Parity, compare

__all__ = ["FORMATS", "Deployed", "Format", "Parity", "compare", "trace"]
