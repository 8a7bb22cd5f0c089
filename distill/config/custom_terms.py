"""Terms that are not built in: their record, and the registry of the options that a term takes.

The configuration imports no torch and no third-party code. The record of a term ``package.module:Class`` is therefore
read without its class, which is enough to evaluate, explain or export a run. Before training,
:mod:`distill.build.terms` imports the class and registers its options here; from then on they are validated like those
of a built-in term.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, ConfigDict, PrivateAttr, SerializeAsAny
from pydantic_core import PydanticCustomError

from distill.config.terms import BUILT_IN_TERMS, LayeredTerm, Term
from distill.objects import is_object

_CLASS_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.<>]*")


class CustomTerm(Term):
    """A term that is not built in; its other keys are the options of its class."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    #: Whether the class needs a teacher; None if the class has not been imported.
    _needs_teacher: bool | None = PrivateAttr(default=None)

    @property
    def needs_teacher(self) -> bool:
        """Whether the term needs a teacher; False if its class has not been imported."""
        return bool(self._needs_teacher)

    @property
    def options(self) -> dict[str, Any]:
        """The keys that belong to the class."""
        return dict(self.model_extra or {})

    @property
    def is_checked(self) -> bool:
        """Whether the options were validated against the class."""
        return self._needs_teacher is not None


class CustomLayeredTerm(CustomTerm, LayeredTerm):
    """A term that is not built in and that compares layers."""

    model_config = CustomTerm.model_config


class TermOptions(NamedTuple):
    """Options of a term that is not built in.

    Args:
        path: ``package.module:Class``, under which the term is recorded.
        record: Keys of the term, with types and defaults.
        needs_teacher: Whether the class needs a teacher.
    """

    path: str
    record: type[Term]
    needs_teacher: bool


_OPTIONS: dict[str, TermOptions] = {}


def register_options(name: str, options: TermOptions) -> None:
    """Register the options of a term under a name or path, so that :func:`parse_term` validates them."""
    _OPTIONS[name] = options


def is_class_path(name: object) -> bool:
    """Return whether a name has the form ``package.module:Class``."""
    return isinstance(name, str) and _CLASS_PATH.fullmatch(name) is not None


def record_of(name: object) -> type[Term] | None:
    """Return the record of a term by its name or path; None if it is not known."""
    if not isinstance(name, str):
        return None
    return _OPTIONS[name].record if name in _OPTIONS else BUILT_IN_TERMS.get(name)


def term_names() -> Iterable[str]:
    """Return the names of the built-in and the registered terms."""
    return [*BUILT_IN_TERMS, *(name for name in _OPTIONS if not is_class_path(name))]


def parse_term(values: Any) -> Term:
    """Validate the values of one term by the record of the term that they name."""
    if isinstance(values, Term):
        return values
    if not isinstance(values, Mapping):
        raise PydanticCustomError("term_type", "input should be a mapping of keys such as weight")
    name = values.get("term")
    if isinstance(name, str) and name in _OPTIONS:
        return check_options(values, _OPTIONS[name])
    if isinstance(name, str) and name in BUILT_IN_TERMS:
        return BUILT_IN_TERMS[name].model_validate(values)
    if isinstance(name, str) and is_object(name):  # recorded by a ready-made module, so that its keys are complete
        return (CustomLayeredTerm if "layers" in values else CustomTerm).model_validate(values)
    if is_class_path(name):
        return CustomTerm.model_validate(values)
    raise PydanticCustomError("unknown_term", "unknown term", {"term": name})


def check_options(values: Mapping[str, Any], options: TermOptions) -> CustomTerm:
    """Validate the values of a term that is not built in, and fill in the defaults of its class."""
    checked = options.record.model_validate(values)
    kind = CustomLayeredTerm if isinstance(checked, LayeredTerm) else CustomTerm
    term = kind.model_validate({**checked.model_dump(mode="json"), "term": options.path})
    term._needs_teacher = options.needs_teacher
    return term


#: Type of an entry of the objective.
AnyTerm = Annotated[SerializeAsAny[Term], BeforeValidator(parse_term)]
