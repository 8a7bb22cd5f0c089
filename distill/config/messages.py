"""Mistakes in a configuration, in words: where, what was expected, what came, what may have been meant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from distill.config.base import Section
from distill.config.schema import Config
from distill.config.terms import AnyTerm, Term


def describe_mistake(item: Any, *, record: type[BaseModel] = Config) -> str:
    """Word one error of the validation of a record."""
    path = _path(item["loc"])
    where = ".".join(path)
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown key{_suggest(path[-1], _fields(record, path[:-1]))}"
    if item["type"] == "union_tag_invalid":
        known = list(_terms())
        got = item["ctx"]["tag"]
        return f"{where}: unknown term {got!r}{_suggest(got, known)} (known: {', '.join(known)}; or give it a `term:`)"
    message = str(item["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    got = item["input"]
    shown = f", got {got!r}" if not isinstance(got, Mapping | BaseModel) else ""
    if item["type"] == "literal_error" and isinstance(got, str):
        shown += _suggest(got, item["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", "))
    return f"{where + ': ' if where else ''}{message}{shown}"


def _path(loc: Sequence[int | str]) -> list[str]:
    path = [str(part) for part in loc]
    if path[:1] == ["objective"] and len(path) > 2:
        del path[2]  # pydantic's tag of the term
    return path


def _fields(record: type[BaseModel], path: Sequence[str]) -> list[str]:
    """List the keys that a section takes."""
    model: Any = record
    for i, part in enumerate(path):
        if path[0] == "objective" and i == 1:
            model = _terms().get(part, Term)
        elif i == 0 or path[0] != "objective":
            annotation = model.model_fields[part].annotation
            options = [annotation, *get_args(annotation)]
            model = next(
                (o for o in options if get_origin(o) is None and isinstance(o, type) and issubclass(o, BaseModel)),
                Section,
            )
    return list(model.model_fields)


def _suggest(got: str, known: Iterable[str]) -> str:
    close = get_close_matches(got, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def _terms() -> dict[str, type[Term]]:
    kinds = get_args(get_args(AnyTerm)[0])
    return {get_args(kind.model_fields["term"].annotation)[0]: kind for kind in kinds}
