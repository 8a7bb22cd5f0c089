"""Shared by all reports: HTML templates, colours, formats of numbers, line charts, PNG files and record files."""
