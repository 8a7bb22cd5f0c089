"""Cascading parameter randomisation: a sanity check of whether explanations depend on the weights of a network.

References:
    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, arXiv 1810.03292, section 4 (cascading
    randomisation).
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from distill.errors import InputError
from distill.models.catalogue import create_model
from distill.models.graph import NetworkGraph
from distill.models.reinitialise import reinitialise
from distill.models.staged import ModelSpec, StagedNetwork
from distill.objects import is_object


def cascade(network: StagedNetwork, *, seed: int) -> Iterator[tuple[str, StagedNetwork]]:
    """Randomise the parts of a network one after the other, from the logits to the input.

    Convention:
        - A part is a top-level module or parameter of the network, such as ``fc`` or ``layer4``. If the network has
          only one, the parts are those one level below. Parts are ordered by their last use in the forward pass, or
          by their definition if the network cannot be traced.
        - A randomised part has the parameters and batch statistics of a newly initialised network of the same
          architecture. The mean and standard deviation of the input normalisation do not change.
        - A network that was passed as an object, or that cannot be built again by its name, is initialised again in
          place (:func:`~distill.models.reinitialise.reinitialise`).
        - Each network is a copy with one more part randomised, in the mode of the original. The original network and
          the global random state do not change.

    Args:
        network: A network from :func:`~distill.models.create_model` or :func:`~distill.models.load_model`.
        seed: Seed of the new weights.

    Yields:
        The name of the part that was randomised last, and the network.

    Raises:
        ValueError: If the parameters differ from those of the architecture, for example after folding.

    Example:
        >>> from distill.models import create_model
        >>> [part for part, _ in cascade(create_model("wrn_10_1", num_classes=10), seed=0)]
        ['fc', 'bn1', 'block3', 'block2', 'block1', 'conv1']
    """
    state = network.network.state_dict()
    with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.inference_mode(False):
        torch.default_generator.manual_seed(seed)
        new_state = (_build_again(network.full_spec) or reinitialise(network.network)).state_dict()
    if {name: value.shape for name, value in state.items()} != {name: v.shape for name, v in new_state.items()}:
        raise ValueError(
            f"`network` must have the parameters of a new {network.spec.name}, but they differ; pass it as it was "
            "built or loaded, not folded or changed."
        )
    randomised_state: dict[str, Tensor] = {}
    for part, names in _parts(network, state).items():
        randomised_state |= {name: new_state[name] for name in names}
        with torch.inference_mode(False):
            randomised = copy.deepcopy(network)
            randomised.network.load_state_dict(state | randomised_state)
        yield part, randomised


def _build_again(spec: ModelSpec) -> nn.Module | None:
    """Return a new network of the same architecture, or None if its name does not say how to build it.

    A module is not imported for this: the network exists, so its module is there unless it was built in another way.
    """
    module, colon, _ = spec.name.partition(":")
    if is_object(spec.name) or (colon and module not in sys.modules):
        return None
    try:
        return create_model(
            spec.name, num_classes=spec.num_classes, in_channels=spec.in_channels, **spec.options
        ).network
    except InputError:
        return None


def _parts(network: StagedNetwork, state: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Group the names in a state dict by part; the part that is used last comes first."""
    try:
        order = [f"{node.target}." for node in NetworkGraph(network.network).graph.nodes]
    except (ValueError, InputError):  # cannot be traced
        order = [f"{name}." for name in state]
    depth = 1
    while len({_part(name, depth) for name in state}) == 1 and any(name.count(".") > depth for name in state):
        depth += 1
    parts: dict[str, list[str]] = {}
    for name in state:
        parts.setdefault(_part(name, depth), []).append(name)
    return dict(sorted(parts.items(), key=lambda item: _last_use(order, item[0]), reverse=True))


def _part(name: str, depth: int) -> str:
    """Return the first ``depth`` names of a parameter's dotted path."""
    return ".".join(name.split(".")[:depth])


def _last_use(order: Sequence[str], part: str) -> int:
    return max((i for i, target in enumerate(order) if target.startswith(f"{part}.")), default=-1)
