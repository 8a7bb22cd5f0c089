"""Ablations: a grid of runs times seeds, and who carries them out. How one run goes is handed in from above."""
