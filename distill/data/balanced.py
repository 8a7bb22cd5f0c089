"""Classes of different sizes: weights of the classes, and an order of the images in which all classes are equal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from distill.data.counted import Purpose, permutation, random_stream
from distill.data.imageset import ImageSet
from distill.data.transformed_views import AnyViews
from distill.errors import InputError, unknown_name

#: Largest number of different views of an image in one epoch; further repetitions use the same views again.
MOST_VIEWS = 16


def class_weights(setting: str | Mapping[str, float], data: ImageSet) -> Float[Tensor, " k"]:
    """Return the weight of each class for the cross-entropy.

    Convention:
        - ``balanced`` is n / (k * count): n images, k classes that have images, as in scikit-learn. All classes have
          the same total weight, and the mean weight of an image is 1. A class without images has weight 0.

    Args:
        setting: ``balanced``, or weights by name of the class; a class that is not named has weight 1.
        data: The training images.

    Raises:
        InputError: If ``setting`` is another word, or a name is not the name of a class.

    References:
        King and Zeng, Logistic Regression in Rare Events Data, 2001.

    Example:
        >>> data = ImageSet(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 1, 1]), ("cat", "dog"))
        >>> class_weights("balanced", data).tolist(), class_weights({"cat": 3.0}, data).tolist()
        ([2.0, 0.6666666865348816], [3.0, 1.0])
    """
    if isinstance(setting, str):
        if setting != "balanced":
            raise InputError(f"data.class_weights: expected balanced, or weights by class, got {setting!r}.")
        counts = torch.bincount(data.labels.cpu(), minlength=len(data.classes)).double()
        weights = len(data) / ((counts > 0).sum() * counts)
        return torch.where(counts > 0, weights, 0.0).float()
    for name in setting:
        if name not in data.classes:
            raise InputError("data.class_weights: " + unknown_name("class", str(name), data.classes))
    return torch.tensor([float(setting.get(name, 1.0)) for name in data.classes])


class Order(NamedTuple):
    """The order of an epoch.

    Args:
        positions: Positions of the images in the set.
        repeats: How often each image occurred before in the epoch.
    """

    positions: Int64[Tensor, " n"]
    repeats: Int64[Tensor, " n"]


def balanced_order(labels: NDArray[np.int64], *, seed: int, epoch: int) -> Order:
    """Return an order with as many entries as there are images, in which all classes occur equally often.

    Convention:
        - The order is a function of ``labels``, ``seed`` and ``epoch``.
        - The numbers of entries of two classes differ by at most 1. In a class, no image occurs again before all of its
          images have occurred; which images of a large class are left out changes from epoch to epoch.

    Args:
        labels: Class of each image.
        seed: Determines the orders of all epochs.
        epoch: The epoch.

    Example:
        >>> order = balanced_order(np.array([0, 1, 1, 1, 1, 1]), seed=0, epoch=0)
        >>> np.array([0, 1, 1, 1, 1, 1])[order.positions].tolist().count(0), sorted(order.repeats.tolist())
        (3, [0, 0, 0, 0, 1, 2])
    """
    n = len(labels)
    classes = np.unique(labels)
    words = random_stream(Purpose.BALANCE, seed=seed, part=epoch).random_raw(n + len(classes))
    rank = np.argsort(np.argsort(words[n:], kind="stable"), kind="stable")  # which classes get one entry more
    positions, repeats = [], []
    for label, place in zip(classes, rank, strict=True):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(words[members], kind="stable")]
        entries = np.arange(n // len(classes) + (place < n % len(classes)))
        positions.append(members[entries % len(members)])
        repeats.append(entries // len(members))
    shuffled = permutation(n, Purpose.ORDER, seed=seed, part=epoch)
    return Order(*(torch.from_numpy(np.concatenate(part)[shuffled]) for part in (positions, repeats)))


def draw_views(views: AnyViews, order: Order, n: int, *, seed: int, epoch: int) -> Int64[Tensor, " m"]:
    """Draw the view of each entry of an order; an image that is repeated gets other views.

    Convention:
        - The view of an entry is a function of ``seed``, the epoch, the image and how often it occurred before, modulo
          16. The first view of an image is that of an epoch without repetitions.

    Args:
        views: The views to draw from.
        order: The entries.
        n: Number of images in the set.
        seed: Determines the views.
        epoch: The epoch.
    """
    drawn = views.draw(n, seed=seed, epoch=epoch)[order.positions]
    cycle = order.repeats % MOST_VIEWS
    for number in range(1, 1 + int(cycle.max()) if len(cycle) else 1):
        chosen = cycle == number
        drawn[chosen] = views.draw(n, seed=seed, epoch=epoch + (number << 32))[order.positions[chosen]]
    return drawn
