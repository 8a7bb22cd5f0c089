"""Ablations: a grid of runs and seeds, the executors that carry the runs out, and the statistics of their results."""
