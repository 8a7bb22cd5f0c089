"""Choose one of the sets of weights that a checkpoint file holds, such as `model` and `ema`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from distill.errors import InputError, unknown_name, warn_input
from distill.models.wrn import adapt_state_dict

#: Usual names of a nested state dict, in the order in which one is taken.
_NAMES = ("state_dict", "model", "model_state_dict", "net")


def choose_weights(content: Mapping[str, Any], path: Path, *, key: str | None = None) -> dict[str, Tensor]:
    """Return one state dict of a checkpoint.

    Convention:
        - Without ``key``, the first of ``state_dict``, ``model``, ``model_state_dict`` and ``net`` is taken, else the
          tensors at the top level. If the file holds another set of weights of the same network, such as a moving
          average, a warning says which one was taken.

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
    """
    sets = {name: state for name, state in content.items() if isinstance(state, Mapping) and _tensors(state)}
    if key is not None:
        if key not in sets:
            if not sets:
                raise InputError(f"weights_key: {path} holds a single set of weights; remove `weights_key`.")
            raise InputError(f"weights_key: {path}: {unknown_name('set of weights', key, map(str, sets))}")
        return _tensors(sets[key])
    taken = next((name for name in _NAMES if isinstance(content.get(name), Mapping)), None)
    state = _tensors(content if taken is None else content[taken])
    if not state:
        raise InputError(f"{path} holds no named tensors; expected a state dict.")
    others = [name for name, other in sets.items() if name != taken and _same_network(state, _tensors(other))]
    if others:
        warn_input(
            f"{path} holds several sets of weights: {', '.join(map(str, [taken or 'the top level', *others]))}. "
            f"{'The top level' if taken is None else repr(taken)} is used; choose another with "
            f"`teacher.weights_key={others[0]}`."
        )
    return state


def _tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if isinstance(value, Tensor) and name != "n_averaged"}


def _same_network(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Return whether most tensors of one state dict have a tensor of the same name and shape in the other."""
    first, second = adapt_state_dict(one), adapt_state_dict(other)
    same = sum(name in second and second[name].shape == value.shape for name, value in first.items())
    return 2 * same > len(first)
