"""`load_starting_weights`: fill a network with the weights of a file, from which it is trained further."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from distill.errors import InputError, note_input, warn_input
from distill.models.class_names import class_difference
from distill.models.fitted_weights import HeadChoice, fit_weights
from distill.models.staged import StagedNetwork
from distill.models.weights import read_state, weights_file
from distill.objects import is_object

#: What to do about a head for another number of classes.
_REPLACE = "Set `student.head=replace` to train this layer anew."


def load_starting_weights(
    network: StagedNetwork,
    path: Path | str,
    *,
    head: HeadChoice = "keep",
    key: str | None = None,
    recorded_scaling: bool = False,
) -> None:
    """Load the weights of a file into a network of the same architecture.

    Convention:
        - The file is any that :func:`distill.models.load_network` reads. Its record, if it has one, is compared with
          the network and builds nothing: no name in it is imported.
        - What was done to the weights (prefixes, conversions, a new head) is said.

    Args:
        network: The network; it changes in place.
        path: Run directory, ``.ckpt``, ``.safetensors``, index of a sharded one, ``.pth`` or ``.pt``.
        head: ``keep`` loads all layers; the number of classes must be the same. ``replace`` leaves the layer that
            returns the classes as it is.
        key: Which set of weights to take from a file with several, such as ``ema``.
        recorded_scaling: Whether the network takes over the input normalisation that is recorded with the weights.

    Raises:
        InputError: If the file is missing, damaged or unsafe, or does not fit the network.

    Example:
        >>> import tempfile
        >>> from distill.models import create_model, save_model
        >>> first, second = (create_model("wrn_10_1", num_classes=count) for count in (5, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     load_starting_weights(second, save_model(first, folder), head="replace")
        >>> bool((second.network.conv1.weight == first.network.conv1.weight).all())
        True
    """
    path = weights_file(path)
    state, record = read_state(path, key)
    if record is not None:
        _check_architecture(network, record, path)
    fitted = fit_weights(
        state,
        network.network.state_dict(),
        path,
        name=network.spec.name,
        num_classes=network.spec.num_classes,
        head=head,
        advice=_REPLACE,
    )
    if record is not None and head == "keep":
        _compare_classes(network, record, path)
    network.network.load_state_dict(fitted.state, strict=False)
    for note in fitted.notes:
        note_input(f"{path}: {note}.")
    if recorded_scaling:
        _take_scaling(network, record, path)


def _check_architecture(network: StagedNetwork, record: Mapping[str, Any], path: Path) -> None:
    name, other = network.spec.name, str(record["name"])
    if name != other and not (is_object(name) or is_object(other)):
        raise InputError(f"{path} holds a {other}, but the student is a {name}. Set `student.name`, or other weights.")


def _compare_classes(network: StagedNetwork, record: Mapping[str, Any], path: Path) -> None:
    difference = class_difference(record["classes"], network.classes)
    if difference:
        warn_input(
            f"{path} was trained on other classes: {difference}. The layer that returns the classes starts with those "
            "of the file; `student.head=replace` trains it anew."
        )


def _take_scaling(network: StagedNetwork, record: Mapping[str, Any] | None, path: Path) -> None:
    if record is None:
        note_input(
            f"{path} does not say how its images were normalised, so the student uses mean and standard deviation of "
            "the training images. If the weights were trained with others, set `student.normalisation`."
        )
        return
    scaling = record["normalisation"]
    with torch.no_grad():
        for name in ("mean", "std"):
            buffer = getattr(network.normalise, name)
            buffer.copy_(torch.tensor(scaling[name], dtype=buffer.dtype).view(-1, 1, 1))
