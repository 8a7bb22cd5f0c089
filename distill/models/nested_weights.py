"""Choose one of the sets of weights that a checkpoint file holds, such as `model` and `ema`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from distill.errors import InputError, unknown_name, warn_input
from distill.models.fitted_weights import without_known_prefixes

#: Usual names of a nested state dict, in the order in which one is taken.
_NAMES = (
    *("state_dict", "model", "model_state_dict", "net", "module", "network", "weights"),
    *("ema", "model_ema", "state_dict_ema", "ema_state_dict", "ema_model"),
)
#: Depth to which sets of weights are looked for in each other, as in `{"ema": {"module": ...}}`.
_DEPTH = 4
#: Largest number of parts of a training module that are named in a message.
_MOST_PARTS = 5


def choose_weights(content: Mapping[str, Any], path: Path, *, key: str | None = None) -> dict[str, Tensor]:
    """Return one state dict of a checkpoint.

    Convention:
        - Without ``key``, the first of ``state_dict``, ``model``, ``model_state_dict``, ``net``, ``module`` and further
          usual names is taken, else the tensors at the top level. If the file holds another set of weights of the same
          network, such as a moving average, a warning says which one was taken. A set may lie inside another one.
        - ``key`` names such a set, or the first part of the names of its tensors, as in ``student.fc.weight``.

    Args:
        content: Content of the file.
        path: The file, for messages.
        key: Name of the set of weights.

    Returns:
        The tensors by name. The counter ``n_averaged`` of an averaged model is left out.

    Raises:
        InputError: If there are no weights, or none of that name.

    Example:
        >>> import torch
        >>> raw, average = {"fc.bias": torch.zeros(1)}, {"module.fc.bias": torch.ones(1)}
        >>> choose_weights({"model": raw, "ema": average}, Path("net.pth"), key="ema")
        {'module.fc.bias': tensor([1.])}
        >>> choose_weights({"net.bias": torch.ones(1), "loss.scale": torch.zeros(1)}, Path("net.pth"), key="net")
        {'bias': tensor([1.])}
    """
    sets = {name: found for name, state in content.items() if (found := _weights_in(state))}
    if key is not None and key in sets:
        return sets[key]
    taken = next((name for name in _NAMES if name in sets), None)
    state = _tensors(content) if taken is None else sets[taken]
    if key is not None:
        start = f"{key}."
        part = {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
        if part:
            return part
        known = [*map(str, sets), *_first_parts(state)]
        if len(known) < 2:
            raise InputError(f"weights_key: {path} holds a single set of weights; remove `weights_key`.")
        raise InputError(f"weights_key: {path}: {unknown_name('set of weights', key, known)}")
    if not state:
        raise InputError(f"{path} holds no named tensors; expected a state dict.")
    others = [name for name, other in sets.items() if name != taken and _same_network(state, other)]
    if others:
        warn_input(
            f"{path} holds several sets of weights: {', '.join(map(str, [taken or 'the top level', *others]))}. "
            f"{'The top level' if taken is None else repr(taken)} is used; choose another with "
            f"`weights_key={others[0]}`."
        )
    return state


def _weights_in(state: Any, depth: int = _DEPTH) -> dict[str, Tensor]:
    """Return the tensors of a state dict, or of one of the usual names that it holds; empty if there are none."""
    if not isinstance(state, Mapping) or not depth:
        return {}
    inner = next((found for name in _NAMES if (found := _weights_in(state.get(name), depth - 1))), {})
    return inner or _tensors(state)


def _first_parts(state: Mapping[str, Tensor]) -> list[str]:
    """Return the first parts of the names of tensors if they are few, as in a training module."""
    parts = list(dict.fromkeys(name.partition(".")[0] for name in state))
    return parts if len(parts) <= _MOST_PARTS and all("." in name for name in state) else []


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in state.items()
        if isinstance(name, str) and isinstance(value, Tensor) and name != "n_averaged"
    }


def _same_network(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Return whether most tensors of one state dict have a tensor of the same name and shape in the other."""
    first, second = ({without_known_prefixes(key): value for key, value in state.items()} for state in (one, other))
    same = sum(name in second and second[name].shape == value.shape for name, value in first.items())
    return 2 * same > len(first)
