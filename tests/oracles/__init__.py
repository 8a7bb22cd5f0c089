"""Slow references in numpy float64, written from the papers' formulas; they share no code with the package."""
