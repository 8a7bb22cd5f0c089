"""Separate the keywords of `train` into values of a configuration and Python objects."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers.logger import Logger
from torch import nn

from distill.build import Objects, split_terms
from distill.build.teacher_cache import checksum
from distill.config import Config, Term
from distill.config.dotted_keys import merge_values
from distill.data import ImageSet, as_image_set, partition
from distill.errors import InputError
from distill.importing import is_library_name
from distill.models.class_names import class_difference
from distill.objects import object_name
from distill.workflows.run import Run


class TrainArguments:
    """The keywords of :func:`train`, separated into values of a configuration and objects."""

    def __init__(
        self,
        *,
        student: Any,
        teacher: Any,
        data: Any,
        objective: Mapping[str, Any] | None,
        explanation: float | Mapping[str, Any] | None,
        epochs: int | None,
    ) -> None:
        self.keywords: dict[str, Any] = {}
        self.networks: dict[str, nn.Module] = {}
        self.sets: tuple[ImageSet, ...] = ()
        if student is not None:
            self._network("student", "name", student)
        if teacher is not None:
            self._network("teacher", "checkpoint", str(teacher.directory) if isinstance(teacher, Run) else teacher)
        if data is not None:
            self._data(data)
        values, self.terms = split_terms(objective or {})
        terms = {name: _term(name, term) for name, term in values.items()}
        if explanation is not None:
            terms["explanation"] = merge_values(terms.get("explanation", {}), _term("explanation", explanation))
        if terms:
            self.keywords["objective"] = terms
        if epochs is not None:
            self.keywords["trainer"] = {"max_epochs": epochs}

    def objects(self, *, callbacks: Sequence[Callback], loggers: Sequence[Logger]) -> Objects:
        """Return the objects without the data. Splitting the data needs the configuration, see :meth:`with_data`."""
        return Objects(
            student=self.networks.get("student"),
            teacher=self.networks.get("teacher"),
            terms=self.terms,
            callbacks=tuple(callbacks),
            loggers=tuple(loggers),
        )

    def with_data(self, objects: Objects, config: Config) -> Objects:
        """Return ``objects`` with the images, split into training and validation."""
        if not self.sets:
            return objects
        if len(self.sets) == 2:
            return objects._replace(train=self.sets[0], validation=self.sets[1])
        fraction = float(config.data.options.get("validation", 0.1))
        parts = partition(self.sets[0].labels, seed=config.data.seed, validation=fraction)
        train, validation = (self.sets[0].subset(parts[name]) for name in ("train", "validation"))
        if not len(validation):
            raise InputError(
                f"data: {len(self.sets[0])} images are too few for a validation split. Pass (training, validation)."
            )
        return objects._replace(train=train, validation=validation)

    def _network(self, section: str, key: str, value: Any) -> None:
        rest: dict[str, Any] = {}
        if isinstance(value, Mapping):
            rest = {name: part for name, part in value.items() if name != "network"}
            value = value.get("network")
        if isinstance(value, nn.Module):
            self.networks[section] = value
            rest[key] = object_name(value, _weights_hash(value))
        elif isinstance(value, str | Path):
            if section == "teacher" and is_library_name(str(value)):
                key = "name"
                rest.setdefault("weights", True)
            rest[key] = str(value)
        elif callable(value):
            rest[key] = _import_path(section, value)
        elif value is not None:
            raise InputError(f"{section}: expected a name, a mapping or a network, got {type(value).__name__}.")
        self.keywords[section] = rest

    def _data(self, data: Any) -> None:
        if isinstance(data, str | Mapping):
            self.keywords["data"] = {"name": data} if isinstance(data, str) else dict(data)
            return
        pair = data if isinstance(data, tuple) and len(data) == 2 else (data,)
        names = ("training data", "validation data") if len(pair) == 2 else ("data",)
        first = as_image_set(pair[0], name=names[0])
        for one in pair[1:]:
            if difference := class_difference(first.classes, tuple(map(str, getattr(one, "classes", ())))):
                raise InputError(
                    f"data: training and validation data have different classes: {difference}. Give both the same "
                    "classes in the same order."
                )
        others = [as_image_set(one, classes=first.classes, name=names[-1]) for one in pair[1:]]
        self.sets = (first, *others)
        for other in others:
            if other.classes != first.classes or other.images.shape[1:] != first.images.shape[1:]:
                raise InputError(
                    f"data: training and validation data must have the same classes and image size, got "
                    f"{len(first.classes)} classes of {tuple(first.images.shape[1:])} and {len(other.classes)} of "
                    f"{tuple(other.images.shape[1:])}."
                )
        content = hashlib.sha256("/".join(checksum(one) for one in self.sets).encode()).hexdigest()
        size = first.images.shape[-1]
        self.keywords["data"] = {"name": object_name(pair[0], content), "size": size}


def _term(name: str, term: Any) -> Any:
    """Return the keys of a term that is given as a weight, a mapping, the record of a module, or None."""
    if isinstance(term, Term):
        return term.model_dump(mode="json")
    if term is None or isinstance(term, Mapping):
        return term
    if isinstance(term, int | float):
        return {"weight": term}
    raise InputError(f"objective.{name}: expected a weight, a mapping, a module or None, got {type(term).__name__}.")


def _weights_hash(network: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _import_path(section: str, value: Callable[..., Any]) -> str:
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    imported: Any = sys.modules.get(module or "")
    for part in name.split("."):
        imported = getattr(imported, part, None)
    if module in (None, "__main__") or imported is not value:
        raise InputError(
            f"{section}: {name or value!r} cannot be imported from a module. Pass the network that it returns."
        )
    return f"{module}:{name}"
