"""Damaged files are refused with a clear message: seeded cases, and the harness of `scripts/fuzz`."""
