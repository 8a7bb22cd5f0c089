"""Knowledge distillation with explanations: a small network that gives a large one's answers for its reasons."""

__version__ = "0.1.0"
