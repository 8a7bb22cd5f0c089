"""Ready-made terms: modules that are passed from Python, and the record that stands for them in a configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn
from torch.nn.parameter import is_lazy

from distill.build.terms import class_path, default_layers, default_teacher_layer, init_parameters, record_base
from distill.config import CustomLayeredTerm, CustomTerm, MapTerm, Term, format_mistakes
from distill.config.messages import describe_mistake
from distill.errors import InputError, unknown_name
from distill.losses import needs_of
from distill.objects import object_name


def term_record(term: nn.Module, **keys: Any) -> CustomTerm:
    """Return the configuration record of a ready-made term, as a value of ``objective``.

    The record contains the name of the object, which includes a hash of its attributes and parameters, and the
    arguments of ``__init__`` that the module stores as attributes of the same name, if they are numbers, strings, or
    lists or mappings of these.

    Args:
        term: The module.
        keys: Keys of every term, such as ``weight``, and of terms that compare layers, such as ``layer``.

    Raises:
        InputError: if a key is unknown or has a wrong value.

    Example:
        >>> from distill.losses import SoftTargets
        >>> record = term_record(SoftTargets(temperature=2.0), weight=0.5)
        >>> record.weight, record.options, record.term[:47]
        (0.5, {'temperature': 2.0}, 'object:distill.losses.soft_targets.SoftTargets#')
    """
    base, kind = record_base(type(term)), type(term)
    known = [name for name in base.model_fields if name != "term"] + ["layer"] * (base is not Term)
    for key in keys:
        if key not in known:
            raise InputError(f"{class_path(kind)}: " + unknown_name("key", key, known))
    common: dict[str, Any] = {"term": object_name(term, _content_hash(term))}
    if base is not Term:
        common["teacher_layer"] = default_teacher_layer(term)
        if not {"layer", "layers"} & keys.keys():
            common["layers"] = default_layers(term)
    if base is MapTerm:
        common["method"] = needs_of(term).maps
    try:
        checked = base.model_validate(common | keys)
    except ValidationError as error:
        mistakes = [describe_mistake(item, record=base) for item in error.errors()]
        raise InputError(format_mistakes(mistakes, class_path(kind))) from error
    names = [parameter.name for parameter in init_parameters(kind) if parameter.name not in base.model_fields]
    options = {name: value for name in names if _is_plain(value := getattr(term, name, ...))}
    record = (CustomTerm if base is Term else CustomLayeredTerm).model_validate(
        options | checked.model_dump(mode="json")
    )
    record._needs_teacher = needs_of(term).teacher
    return record


def split_terms(objective: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, nn.Module]]:
    """Separate ready-made terms from the values of an objective.

    Args:
        objective: Values of the key ``objective``, in which a term may be a module, or a mapping of keys with the
            module under ``term``.

    Returns:
        The values with a record in place of each module, and the modules by name, as
        :func:`distill.build.build_module` takes them.

    Raises:
        InputError: as :func:`term_record` does.

    Example:
        >>> from distill.losses import SoftTargets
        >>> values, modules = split_terms({"soft": {"term": SoftTargets(), "weight": 0.9}, "cross_entropy": None})
        >>> values["soft"].weight, values["cross_entropy"], list(modules)
        (0.9, None, ['soft'])
    """
    values, modules = dict(objective), {}
    for name, value in objective.items():
        term = value.get("term") if isinstance(value, Mapping) else value
        if isinstance(term, nn.Module):
            keys = {key: v for key, v in value.items() if key != "term"} if isinstance(value, Mapping) else {}
            try:
                values[name], modules[name] = term_record(term, **keys), term
            except InputError as error:
                raise InputError(f"objective.{name}: {error}") from error
    return values, modules


def _content_hash(term: nn.Module) -> str:
    """Return a hash of the structure, the attributes and the parameters of a module."""
    attributes = {name: value for name, value in vars(term).items() if not name.startswith("_") and _is_plain(value)}
    attributes.pop("training", None)
    digest = hashlib.sha256(f"{term!r} {sorted(attributes.items())}".encode())
    for name, tensor in term.state_dict().items():
        if isinstance(tensor, torch.Tensor) and not is_lazy(tensor):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)
