"""Third-party terms: from the name of a term to its class, its options and its module.

The options of a class are the keyword arguments of its ``__init__``. They are validated by a typed record like the
options of a built-in term.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any, Optional, get_type_hints

from pydantic import Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError
from torch import nn

from distill.config import (
    BUILT_IN_TERMS,
    Config,
    CustomTerm,
    LayeredTerm,
    MapTerm,
    Term,
    TermOptions,
    check_options,
    format_mistakes,
    is_class_path,
    register_options,
)
from distill.config.messages import describe_mistake
from distill.errors import InputError, unknown_name
from distill.explain import METHODS
from distill.importing import import_attribute
from distill.losses import needs_of, registered_terms
from distill.objects import is_object, object_type

#: Layer of a term that compares layers, if neither the configuration nor a class attribute ``layers`` names one.
DEFAULT_LAYER = "final"


def check_terms(merged: Mapping[str, Any], *, import_classes: bool) -> Iterator[str]:
    """Register the options of the third-party terms in a configuration, so that they are validated with the rest.

    Args:
        merged: Values of a configuration.
        import_classes: Whether to import the modules that the configuration names. Only for a configuration that the
            user wrote, not for one that was found in a run directory. If False, only registered classes are used.

    Yields:
        A message for each class that cannot be used.
    """
    section = merged.get("objective")
    for name, values in section.items() if isinstance(section, Mapping) else ():
        term = values.get("term", name) if isinstance(values, Mapping) else None
        if not isinstance(term, str) or term in BUILT_IN_TERMS:
            continue
        if term not in _registered() and not (import_classes and is_class_path(term)):
            continue  # the validation reports a name that is not registered
        try:
            register_options(term, term_options(find_term(term)))
        except InputError as error:
            yield f"objective.{name}.term: {error}"


def resolve_terms(config: Config, ready: Container[str] = ()) -> Config:
    """Import the classes of the third-party terms in a configuration, validate their options and fill in defaults.

    A configuration that was loaded with :func:`check_terms` is returned as it is.

    Args:
        config: The run.
        ready: Names of terms that were passed as modules, so that there is nothing to import.

    Raises:
        InputError: if a class or an option is wrong; one line for each mistake.
    """
    resolved: dict[str, Term] = {}
    mistakes: list[str] = []
    for name, term in config.objective.items():
        if not isinstance(term, CustomTerm) or term.is_checked or name in ready:
            continue
        try:
            options = term_options(find_term(term.term))
            resolved[name] = check_options(term.model_dump(), options)
        except InputError as error:
            mistakes.append(f"objective.{name}.term: {error}")
        except ValidationError as error:
            mistakes += _describe(error, name, options.record)
    if mistakes:
        raise InputError(format_mistakes(mistakes, "the configuration"))
    return config.model_copy(update={"objective": {**config.objective, **resolved}}) if resolved else config


def find_term(name: str) -> type[nn.Module]:
    """Return the class of a term: a registered one, or an imported one.

    Args:
        name: A registered name, or ``package.module:Class``.

    Raises:
        InputError: if it cannot be imported, or is not a subclass of ``torch.nn.Module``.
    """
    if is_object(name):
        raise InputError(
            f"the term was passed as a Python object ({object_type(name)}), which cannot be rebuilt; pass it again."
        )
    registered = _registered()
    return registered[name] if name in registered else _import(name)


def class_path(term: type[nn.Module]) -> str:
    """Return ``package.module:Class`` of a class.

    Example:
        >>> class_path(nn.Linear)
        'torch.nn.modules.linear:Linear'
    """
    return f"{term.__module__}:{term.__qualname__}"


def term_options(term: type[nn.Module]) -> TermOptions:
    """Return the options of a third-party term: its keys with types and defaults.

    The keys are those of every term; those of terms that compare layers or maps, if the class declares
    ``needs_activations`` or ``needs_maps``; and the keyword arguments of ``__init__``.

    Raises:
        InputError: if the class cannot be described by options.
    """
    needs, path = needs_of(term), class_path(term)
    base = record_base(term)
    fields: dict[str, Any] = {"term": (str, ...)}
    if base is not Term:
        fields["layers"] = (base.model_fields["layers"].annotation, Field(default_layers(term), min_length=1))
        fields["teacher_layer"] = (base.model_fields["teacher_layer"].annotation, default_teacher_layer(term))
    if base is MapTerm:
        if needs.maps not in METHODS:
            raise InputError(f"{path}.needs_maps: " + unknown_name("method", str(needs.maps), METHODS))
        fields["method"] = (base.model_fields["method"].annotation, needs.maps)
    common = {*Term.model_fields, *(() if base is Term else ("layer",))}
    for parameter in init_parameters(term):
        if parameter.name in common:
            raise InputError(
                f"{path}.__init__ has an argument {parameter.name!r}, which is already a key of the term; rename it."
            )
        if parameter.name not in base.model_fields and (field := _field(parameter, path)) is not None:
            fields[parameter.name] = field
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an option may have the name of a method of the record
        record = create_model(term.__name__, __base__=base, **fields)
    return TermOptions(path, record, needs.teacher)


def make_term(name: str, section: CustomTerm) -> nn.Module:
    """Build the module of a third-party term.

    Args:
        name: Name of the entry in the objective, for error messages.
        section: Record of the term.

    Raises:
        InputError: if the class, an option, or the call of the class fails.
    """
    try:
        term = find_term(section.term)
        record = term_options(term).record
    except InputError as error:
        raise InputError(f"objective.{name}.term: {error}") from error
    try:
        checked = record.model_validate(section.model_dump())
    except ValidationError as error:
        raise InputError(format_mistakes(_describe(error, name, record), "the configuration")) from error
    names = [parameter.name for parameter in init_parameters(term) if parameter.name in record.model_fields]
    options = {option: getattr(checked, option) for option in names}
    try:
        return term(**options)
    except Exception as error:
        shown = ", ".join(f"{option}={value!r}" for option, value in options.items())
        raise InputError(f"objective.{name}: {section.term}({shown}): {type(error).__name__}: {error}") from error


def _registered() -> dict[str, type[nn.Module]]:
    """Return the registered classes by name and by path."""
    terms = registered_terms()
    return {**terms, **{class_path(term): term for term in terms.values()}}


def _import(path: str) -> type[nn.Module]:
    value = import_attribute(path, kind="class", suits=_is_module_class)
    if not _is_module_class(value):
        got = f"class {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise InputError(f"{path} must be a subclass of torch.nn.Module, got a {got}.")
    return value


def _is_module_class(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)


def record_base(term: type[nn.Module]) -> type[Term]:
    """Return the record with the common keys of a class of terms."""
    needs = needs_of(term)
    return MapTerm if needs.maps else LayeredTerm if needs.activations else Term


def default_layers(term: nn.Module | type[nn.Module]) -> dict[str, float]:
    """Return the layers, with weights, that a term names in an attribute ``layers``."""
    layers = getattr(term, "layers", None)
    if isinstance(layers, Mapping):
        return dict(layers)
    if isinstance(layers, str):
        return {layers: 1.0}
    return dict.fromkeys(layers, 1.0) if isinstance(layers, Sequence) and layers else {DEFAULT_LAYER: 1.0}


def default_teacher_layer(term: nn.Module | type[nn.Module]) -> Any:
    """Return the layer of the teacher that a term names in an attribute ``teacher_layer``."""
    layer = getattr(term, "teacher_layer", None)
    return layer if isinstance(layer, str) else dict(layer) if isinstance(layer, Mapping) else None


def init_parameters(term: type[nn.Module]) -> list[inspect.Parameter]:
    """Return the keyword arguments of ``__init__``, with evaluated annotations."""
    if term.__init__ is nn.Module.__init__:
        return []
    try:
        hints = get_type_hints(term.__init__, include_extras=True)
    except Exception as error:
        raise InputError(f"the annotations of {class_path(term)}.__init__ cannot be evaluated: {error}") from error
    by_keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = list(inspect.signature(term.__init__).parameters.values())[1:]
    if any(p.kind is p.POSITIONAL_ONLY for p in parameters):
        raise InputError(f"{class_path(term)}.__init__ must take its options as keyword arguments.")
    return [p.replace(annotation=hints.get(p.name, Any)) for p in parameters if p.kind in by_keyword]


def _field(parameter: inspect.Parameter, path: str) -> tuple[Any, Any] | None:
    """Return the type and the default of an option, or None if a configuration cannot contain it.

    Raises:
        InputError: if it cannot be left out either, or the default is wrong.
    """
    kind, default, required = parameter.annotation, parameter.default, parameter.default is parameter.empty
    where = f"{path}.__init__: the argument {parameter.name!r}"
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(Optional[kind] if default is None else kind)  # noqa: UP045
        if required:
            return kind, ...
        default = adapter.validate_python(default)  # 4 is recorded as 4.0 if the option is a float
        adapter.dump_python(default, mode="json", warnings=False)
    except ValidationError as error:
        raise InputError(f"{where} has the default {default!r}, which is not of its type {kind!r}.") from error
    except (PydanticUserError, ValueError) as error:
        if required:
            raise InputError(
                f"{where} has the type {kind!r}, which a configuration cannot contain; give it a default value."
            ) from error
        return None
    return (Optional[kind] if default is None else kind), Field(default)  # noqa: UP045


def _describe(error: ValidationError, name: str, record: type[Term]) -> list[str]:
    return [f"objective.{name}.{describe_mistake(item, record=record)}" for item in error.errors()]
