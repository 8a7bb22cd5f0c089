"""Numbers as all tables, sentences and drawings of an ablation print them."""

from __future__ import annotations

from distill.metrics.names import Style


def format_value(value: float, style: Style) -> str:
    """Print a figure as the tables do.

    Example:
        >>> format_value(0.83142, "percent"), format_value(0.83142, "number")
        ('83.14%', '0.8314')
    """
    return _minus(f"{value * 100:.2f}%" if style == "percent" else f"{value:.4f}")


def format_difference(value: float, style: Style) -> str:
    """Print a difference with its sign, of percentages in points.

    Example:
        >>> format_difference(0.012, "percent"), format_difference(-0.012, "number")
        ('+1.20', '−0.0120')
    """
    return _minus(f"{value * 100:+.2f}" if style == "percent" else f"{value:+.4f}")


def format_p(p: float) -> str:
    """Print a probability.

    Example:
        >>> format_p(0.0312), format_p(0.00001)
        ('0.031', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def format_width(value: float, style: Style) -> str:
    """Print a deviation, or half of an interval.

    Example:
        >>> format_width(0.0042, "percent"), format_width(0.0042, "number")
        ('0.42', '0.0042')
    """
    return f"{value * 100:.2f}" if style == "percent" else f"{value:.4f}"


def format_effect(value: float) -> str:
    """Print a mean difference in units of its deviation.

    Example:
        >>> format_effect(-1.234)
        '−1.23'
    """
    return _minus(f"{value:.2f}")


def _minus(text: str) -> str:
    return text.replace("-", "−")
