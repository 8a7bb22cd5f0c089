"""Workflows: one module per command, each callable from Python."""
