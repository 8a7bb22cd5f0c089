"""Registry of terms: the class of a term by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from torch import nn

from distill.losses.attention_transfer import AttentionTransfer
from distill.losses.cross_entropy import CrossEntropy
from distill.losses.explanation import ExplanationMatching
from distill.losses.soft_targets import SoftTargets

_TERMS: dict[str, type[nn.Module]] = {
    "cross_entropy": CrossEntropy,
    "soft_targets": SoftTargets,
    "explanation": ExplanationMatching,
    "attention_transfer": AttentionTransfer,
}
_BUILT_IN = tuple(_TERMS)

TermClass = TypeVar("TermClass", bound=type[nn.Module])


def register_term(name: str, term: TermClass) -> TermClass:
    """Register a class of terms under a name, so that ``objective.<name>`` or ``term: <name>`` refers to it.

    A class can be used without registration as ``term: package.module:Class``.

    Args:
        name: Letters, digits and underscores. A class that is defined anew, for example in a notebook, replaces the
            old one.
        term: A :class:`torch.nn.Module` whose ``forward`` takes :class:`~distill.losses.TermInputs` and returns a
            scalar. The keyword arguments of its ``__init__`` are the options of the term.

    Returns:
        The class.

    Raises:
        ValueError: if the name is not an identifier, or is registered for another class.
        TypeError: if ``term`` is not a subclass of ``torch.nn.Module``.

    Example:
        >>> class Confidence(nn.Module):
        ...     def forward(self, inputs):
        ...         return inputs.student.logits.softmax(1).amax(1).mean()
        >>> register_term("confidence", Confidence).__name__
        'Confidence'
        >>> "confidence" in registered_terms()
        True
    """
    if not (isinstance(term, type) and issubclass(term, nn.Module)):
        raise TypeError(f"`term` must be a subclass of torch.nn.Module, got {term!r}.")
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ValueError(f"`name` must consist of letters, digits and underscores, got {name!r}.")
    old = _TERMS.get(name, term)
    if name in _BUILT_IN or (old.__module__, old.__qualname__) != (term.__module__, term.__qualname__):
        raise ValueError(f"the name {name!r} is taken by {old.__module__}:{old.__qualname__}; choose another one.")
    _TERMS[name] = term
    return term


def registered_terms() -> Mapping[str, type[nn.Module]]:
    """Return the classes of the built-in terms, then of those that were registered, by name."""
    return MappingProxyType(_TERMS)
