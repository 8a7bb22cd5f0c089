"""Fit a state dict to a network: prefixes of names, types of numbers, and a head with another number of classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from distill.errors import InputError
from distill.models.damage import check_finite

#: Parts of names that wrappers and training modules put before the names of a network's parameters.
PREFIXES = ("module", "model", "backbone", "_orig_mod", "student", "network", "net")
#: Number of names in a message.
SHOWN = 10
_LONGEST = 100

HeadChoice = Literal["keep", "replace"]


class FittedWeights(NamedTuple):
    """Tensors with the names, shapes and types of a network's, and what was done to them, one sentence each."""

    state: dict[str, Tensor]
    notes: tuple[str, ...]


def fit_weights(
    state: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    path: Path,
    *,
    name: str,
    num_classes: int,
    head: HeadChoice = "keep",
    advice: str = "",
) -> FittedWeights:
    """Return the tensors of a file under the names and in the types of a network's parameters and buffers.

    Convention:
        - A prefix that all names share is removed, and those of :data:`PREFIXES` in any combination. If all weights of
          the network are found behind a prefix, tensors with other prefixes belong to something else and are ignored.
        - Floating-point numbers are converted to the type of the network. Other numbers are not turned into weights.

    Args:
        state: Tensors of the file by name.
        expected: The network's own tensors by name, from ``state_dict()``.
        path: The file, for messages.
        name: Name of the network, for messages.
        num_classes: Number of classes of the network.
        head: ``keep`` loads all layers. ``replace`` leaves out the layer that returns the classes, which the file may
            have for another number of classes, or not at all.
        advice: What to do if only the number of classes differs.

    Returns:
        The tensors to load. Counters of batches may be missing; with ``replace``, also the head.

    Raises:
        InputError: If tensors are missing, unexpected, of another shape or no floating-point numbers, or contain NaN.

    Example:
        >>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(4, 2))
        >>> file = {f"module.{key}": value.half() for key, value in network.state_dict().items()}
        >>> fitted = fit_weights(file, network.state_dict(), Path("a.pth"), name="mine", num_classes=2)
        >>> list(fitted.state)
        ['0.weight', '0.bias', '2.weight', '2.bias']
        >>> fitted.notes
        ('the prefix `module.` was removed from 4 names', '4 tensors were converted from float16 to float32')
    """
    names = _names_in_network(state, expected, path)
    named = {name: state[key] for key, name in names.items()}
    notes = [_removed(names)] if any(key != name for key, name in names.items()) else []
    missing = [key for key in expected if key not in named and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in named if key not in expected]
    shapes = [key for key in expected if key in named and named[key].shape != expected[key].shape]
    classes = classes_in_file(named, expected, num_classes)
    if head == "replace":
        layer = _head(expected, num_classes, name)
        new = [key for key in expected if key.startswith(layer)] if classes is None else shapes
        missing = [key for key in missing if key not in new]
        unexpected = [key for key in unexpected if not without_known_prefixes(key).startswith(layer)]
        shapes = [key for key in shapes if key not in new]
        named = {key: value for key, value in named.items() if key not in new}
        of = f" for {num_classes} classes" + ("" if classes is None else f" (the file has {classes})")
        notes.append(f"{_listed(_layers(new))} starts anew{of}; all other layers are from the file")
    elif classes is not None and not missing:
        raise InputError(
            f"{path} has {classes} classes, but {name} has {num_classes}: the layer {_listed(_layers(shapes))} does "
            f"not fit, {_compare(shapes[0], named, expected)}.{advice and ' '}{advice}"
        )
    prefixes = {key.removesuffix(own) for key, own in names.items() if own in expected}
    others = [] if missing or "" in prefixes else [key for key in unexpected if not key.startswith(tuple(prefixes))]
    unexpected = [key for key in unexpected if key not in others]
    if others:
        notes.append(f"{len(others)} tensors of something else are not used: {_listed(others)}")
    problems = [
        f"{len(keys)} {problem}: {_listed(keys)}"
        for problem, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", [_compare(key, named, expected) for key in shapes]),
        )
        if keys
    ]
    if problems:
        raise InputError(f"{path} does not fit {name} with {num_classes} classes: {'; '.join(problems)}.")
    fitted = {key: value for key, value in named.items() if key in expected}
    return FittedWeights(*_convert(fitted, expected, path, notes))


def classes_in_file(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], num_classes: int) -> int | None:
    """Return the number of classes of a file if it differs from that of a network, and nothing else does.

    Args:
        state: Tensors of the file, by their names in the network.
        expected: The network's own tensors.
        num_classes: Number of classes of the network.

    Example:
        >>> head = {"fc.weight": torch.zeros(1000, 8), "fc.bias": torch.zeros(1000)}
        >>> classes_in_file(head, {"fc.weight": torch.zeros(4, 8), "fc.bias": torch.zeros(4)}, 4)
        1000
    """
    found = set()
    for key, own in expected.items():
        if key not in state or state[key].shape == own.shape:
            continue
        shape = state[key].shape
        if not (len(shape) == own.ndim > 0 and own.shape[0] == num_classes and shape[1:] == own.shape[1:]):
            return None
        found.add(int(shape[0]))
    return found.pop() if len(found) == 1 else None


def strip_prefixes(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file under their names in a network; names that the network lacks stay.

    Raises:
        InputError: If a tensor of the network is found behind several prefixes.
    """
    return {name: state[key] for key, name in _names_in_network(state, expected, path).items()}


def without_known_prefixes(key: str) -> str:
    """Return a name without all prefixes of :data:`PREFIXES`.

    Example:
        >>> without_known_prefixes("module._orig_mod.fc.weight"), without_known_prefixes("net.weight")
        ('fc.weight', 'weight')
    """
    return ".".join(_split_known(key))


def _names_in_network(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> dict[str, str]:
    """Return the name in the network for the name of each tensor in a file."""
    start = _common_prefix(state, expected)
    names: dict[str, str] = {}
    sources: dict[str, str] = {}
    for key in state:
        name = _in_network(key[start:], expected)
        names[key] = key if name is None else name
        if name is not None and name in sources:
            first, second = sources[name].removesuffix(name), key.removesuffix(name)
            raise InputError(
                f"{path} holds {_short(name)} several times: behind the prefixes {_quoted(first)} and "
                f"{_quoted(second)}. Choose one with `weights_key`, such as {(second or first).strip('.')!r}."
            )
        sources[names[key]] = key
    return names


def _common_prefix(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> int:
    """Return the length of the prefix of all names, without which most of them are in the network."""
    parents = [key.split(".")[:-1] for key in state]
    common = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, zip(*parents, strict=False))]
    lengths = [len("".join(f"{part}." for part in common[:count])) for count in range(len(common) + 1)]
    return max(lengths, key=lambda length: sum(key[length:] in expected for key in state))


def _in_network(key: str, expected: Mapping[str, Tensor]) -> str | None:
    parts = key.split(".")
    for start in range(len(parts) - len(_split_known(key)) + 1):
        name = ".".join(parts[start:])
        if name in expected:
            return name
    return None


def _split_known(key: str) -> list[str]:
    parts = key.split(".")
    known = list(takewhile(lambda part: part in PREFIXES, parts[:-1]))
    return parts[len(known) :]


def _head(expected: Mapping[str, Tensor], num_classes: int, name: str) -> str:
    """Return the path, with a dot, of the last layer with one row of weights per class."""
    layers = [key for key, own in expected.items() if own.ndim > 1 and own.shape[0] == num_classes]
    if not layers:
        raise InputError(f"head: {name} has no layer with weights for {num_classes} classes; remove `head`.")
    return layers[-1].rpartition(".")[0] + "."


def _convert(
    state: dict[str, Tensor], expected: Mapping[str, Tensor], path: Path, notes: list[str]
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    converted: dict[tuple[torch.dtype, torch.dtype], int] = {}
    for key, value in state.items():
        wanted = expected[key].dtype
        plain = value.layout is torch.strided and value.device.type != "meta"
        if not plain or (value.is_floating_point(), value.is_complex()) != (
            wanted.is_floating_point,
            wanted.is_complex,
        ):
            raise InputError(
                f"{path}: {_short(key)} holds {_short_type(value.dtype)} values (quantised, sparse or without values), "
                f"expected {_short_type(wanted)}. Save the weights as plain floating-point numbers."
            )
        if value.dtype != wanted:
            state[key] = value.to(wanted)
            if wanted.is_floating_point:
                converted[value.dtype, wanted] = converted.get((value.dtype, wanted), 0) + 1
    check_finite(state, path)
    for (one, other), count in converted.items():
        notes.append(f"{count} tensors were converted from {_short_type(one)} to {_short_type(other)}")
    return state, tuple(notes)


def _removed(names: Mapping[str, str]) -> str:
    removed = [key.removesuffix(name) for key, name in names.items() if key != name]
    prefixes = dict.fromkeys(removed)
    word = "prefix" if len(prefixes) == 1 else "prefixes"
    return f"the {word} {', '.join(map(_quoted, prefixes))} {'was' if len(prefixes) == 1 else 'were'} removed from " + (
        f"{len(removed)} names"
    )


def _layers(keys: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(key.rpartition(".")[0] or key for key in keys))


def _compare(key: str, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    return f"{_short(key)} is {tuple(state[key].shape)}, expected {tuple(expected[key].shape)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(_short, names[:SHOWN])) + more


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."


def _quoted(prefix: str) -> str:
    return f"`{_short(prefix)}`" if prefix else "none"


def _short_type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
