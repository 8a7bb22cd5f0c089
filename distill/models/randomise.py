"""A network whose weights are lost from the logits down: what is left of a map that does not need them?

References:
    Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, arXiv 1810.03292, section 4 (cascading
    randomisation).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, fx

from distill.models.catalogue import create_model
from distill.models.graph import NetworkGraph
from distill.models.staged import StagedNetwork


def cascade(network: StagedNetwork, *, seed: int) -> Iterator[tuple[str, StagedNetwork]]:
    """Randomise the parts of a network one after the other, from the logits down to the images.

    Convention:
        - A part is what the network names first on a way to its weights (``fc``, ``layer4``), and counts as late as
          it is used last. A network that is all one part is looked into.
        - A part becomes that of a fresh network of the same architecture, batch statistics included. The network's
          own mean and standard deviation stay.
        - Each network is a copy with one more part lost, in the mode of the original, which is left as it is.

    Args:
        network: Made by :func:`~distill.models.create_model`, or loaded.
        seed: Of the fresh weights; the random state stays as it is.

    Yields:
        The name of the part that was lost last, and the network.

    Raises:
        ValueError: if the network is not as its architecture is built, as after folding.
        InputError: if its architecture has no name to build it by.

    Example:
        >>> from distill.models import create_model
        >>> [part for part, _ in cascade(create_model("wrn_10_1", num_classes=10), seed=0)]
        ['fc', 'bn1', 'block3', 'block2', 'block1', 'conv1']
    """
    own = network.network.state_dict()
    fresh = _fresh(network, seed)
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in fresh.items()}:
        raise ValueError(
            f"`network` has other parameters than a fresh {network.spec.name}: give it as it was built or loaded, "
            "not folded or changed."
        )
    lost: dict[str, Tensor] = {}
    for part, names in _parts(network, own).items():
        lost |= {name: fresh[name] for name in names}
        with torch.inference_mode(False):
            randomised = copy.deepcopy(network)
            randomised.network.load_state_dict(own | lost)
        yield part, randomised


def _fresh(network: StagedNetwork, seed: int) -> dict[str, Tensor]:
    spec = network.spec
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        made = create_model(spec.name, num_classes=spec.num_classes, in_channels=spec.in_channels, **spec.options)
    return made.network.state_dict()


def _parts(network: StagedNetwork, state: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Group the names of a state by the part that they belong to, the part that is used last first."""
    graph = NetworkGraph(network.network).graph
    depth = 1
    while len({_part(name, depth) for name in state}) == 1 and any(name.count(".") > depth for name in state):
        depth += 1
    parts: dict[str, list[str]] = {}
    for name in state:
        parts.setdefault(_part(name, depth), []).append(name)
    return dict(sorted(parts.items(), key=lambda item: _last_use(graph, item[0]), reverse=True))


def _part(name: str, depth: int) -> str:
    """Cut the path of a parameter; one that lies higher is a part of its own."""
    return ".".join(name.split(".")[:depth])


def _last_use(graph: fx.Graph, part: str) -> int:
    used = [i for i, node in enumerate(graph.nodes) if f"{node.target}.".startswith(f"{part}.")]
    return max(used, default=-1)
