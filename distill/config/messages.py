"""Messages for mistakes in a configuration: the key, what was expected and received, and the closest valid name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from distill.config.base import Section
from distill.config.custom_terms import record_of, term_names
from distill.config.dotted_keys import look_up
from distill.config.schema import Config
from distill.config.terms import Term
from distill.errors import closest


def describe_mistake(item: Any, *, record: type[BaseModel] = Config, values: Mapping[str, Any] | None = None) -> str:
    """Return the message for one validation error of a record.

    Args:
        item: An entry of ``ValidationError.errors()``.
        record: The record that was validated.
        values: The values that were validated; they contain the name of the term of each entry of the objective.
    """
    path = [str(part) for part in item["loc"] if not _is_choice(part)]
    where = ".".join(path)
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown key{_suggest(path[-1], _keys(record, path[:-1], values or {}))}"
    if item["type"] == "unknown_term":
        names, got = term_names(), item["ctx"]["term"]
        choices = f"known: {', '.join(names)}; or set `term:` to one of these or to package.module:Class"
        return f"{where}: unknown term {got!r}{_suggest(str(got), names)} ({choices})"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] in ("model_type", "model_attributes_type", "dict_type"):
        message = "should be a mapping of keys to values"
    message = message[:1].lower() + message[1:]
    got = item["input"]
    shown = f", got {got!r}" if not isinstance(got, Mapping | BaseModel) else ""
    if item["type"] == "literal_error" and isinstance(got, str):
        shown += _suggest(got, item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", "))
    return f"{where + ': ' if where else ''}{message}{shown}"


def most_specific(items: Sequence[Any]) -> list[Any]:
    """Return the validation errors without those of choices that were clearly not meant.

    A value that may be of several types has one error for each type; the one within the value is meant.

    Args:
        items: ``ValidationError.errors()``.
    """
    paths = [tuple(part for part in item["loc"] if not _is_choice(part)) for item in items]
    choices = [any(map(_is_choice, item["loc"])) for item in items]
    return [
        item
        for item, path, choice in zip(items, paths, choices, strict=True)
        if not (choice and any(len(other) > len(path) and other[: len(path)] == path for other in paths))
    ]


def _is_choice(part: Any) -> bool:
    """Return whether a part of a location is not a key but a type that pydantic tried, such as ``dict[str,float]``."""
    return isinstance(part, str) and "[" in part


def _keys(record: type[BaseModel], path: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """Return the keys that a section accepts."""
    models: list[Any] = [record]
    for i, part in enumerate(path):
        if path[0] == "objective" and i == 1:
            models = [record_of(look_up(values, f"objective.{part}.term", part)) or Term]
        elif i == 0 or path[0] != "objective":
            annotations = [model.model_fields[part].annotation for model in models if part in model.model_fields]
            options = [option for one in annotations for option in (one, *get_args(one))]
            models = [
                o for o in options if get_origin(o) is None and isinstance(o, type) and issubclass(o, BaseModel)
            ] or [Section]
    return list(dict.fromkeys(key for model in models for key in model.model_fields))


def _suggest(got: str, names: Iterable[str]) -> str:
    close = closest(got, names)
    return f"; did you mean {close!r}?" if close else ""
