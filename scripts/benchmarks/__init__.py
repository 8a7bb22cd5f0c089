"""Modules of scripts/bench.py."""
