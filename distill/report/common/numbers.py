"""Formats of numbers and lists in tables, sentences and charts.

Convention:
    - ``digits`` is the number of decimals of a percentage. A plain number has two more, which is the same precision.
    - Minus signs are typographic (U+2212).
"""

from __future__ import annotations

from collections.abc import Iterable

from distill.metrics.names import Style


def format_value(value: float, style: Style, *, digits: int) -> str:
    """Format a figure.

    Example:
        >>> format_value(0.83142, "percent", digits=1), format_value(0.83142, "number", digits=2)
        ('83.1%', '0.8314')
    """
    return _minus(_scaled(value, style, digits) + ("%" if style == "percent" else ""))


def format_difference(value: float, style: Style, *, digits: int, unit: bool = False) -> str:
    """Format a difference with its sign; differences of percentages are in points, which ``unit`` appends.

    Example:
        >>> format_difference(0.012, "percent", digits=2), format_difference(-0.012, "number", digits=1)
        ('+1.20', '−0.012')
        >>> format_difference(0.1234, "percent", digits=1, unit=True)
        '+12.3 points'
    """
    return _minus(_scaled(value, style, digits, "+") + (" points" if unit and style == "percent" else ""))


def format_interval(low: float, high: float, style: Style, *, digits: int, signed: bool = False) -> str:
    """Format an interval without a unit; ``signed`` puts a plus before positive bounds.

    Example:
        >>> format_interval(-0.01, 0.034, "percent", digits=1)
        '−1.0 to 3.4'
        >>> format_interval(-0.01, 0.034, "number", digits=2, signed=True)
        '−0.0100 to +0.0340'
    """
    sign = "+" if signed else ""
    return _minus(f"{_scaled(low, style, digits, sign)} to {_scaled(high, style, digits, sign)}")


def format_width(value: float, style: Style, *, digits: int) -> str:
    """Format a standard deviation or half the width of an interval, without a unit.

    Example:
        >>> format_width(0.0042, "percent", digits=2), format_width(0.0042, "number", digits=2)
        ('0.42', '0.0042')
    """
    return _scaled(value, style, digits)


def format_p(p: float) -> str:
    """Format a p-value.

    Example:
        >>> format_p(0.0312), format_p(0.00001)
        ('0.031', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def format_effect(value: float, *, signed: bool = False) -> str:
    """Format an effect size; ``signed`` puts a plus before positive values.

    Example:
        >>> format_effect(-1.234), format_effect(0.5, signed=True)
        ('−1.23', '+0.50')
    """
    return _minus(f"{value:{'+' if signed else ''}.2f}")


def join_words(words: Iterable[str]) -> str:
    """Join words as in a sentence.

    Example:
        >>> join_words(["a"]), join_words(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _scaled(value: float, style: Style, digits: int, sign: str = "") -> str:
    return f"{value * 100:{sign}.{digits}f}" if style == "percent" else f"{value:{sign}.{digits + 2}f}"


def _minus(text: str) -> str:
    return text.replace("-", "−")
