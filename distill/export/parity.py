"""Parity check: compare the outputs of an exported file with those of the network on test images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from distill.data import to_unit
from distill.errors import RunError

#: Batch sizes: one, and sizes that differ from that of the traced program. The last size repeats.
BATCH_SIZES = (1, 3, 64)
#: Largest allowed difference of logits, relative to the largest logit (or to 1, if that is smaller). Float32 rounding
#: in another order of operations changes them by about 1e-6.
TOLERANCE = 1e-4
#: Smallest allowed cosine similarity of maps. At an inner layer, rounding can switch a ReLU on in one library and off
#: in the other, which changes single positions of a map.
LEAST_COSINE = 0.9999


class Parity(NamedTuple):
    """Result of a parity check.

    Args:
        images: Number of images that were compared.
        batch_sizes: Batch sizes that were used.
        logits: Largest absolute difference of logits.
        ties: Number of images whose predicted class differs, because their two highest logits are equal up to rounding.
        maps: Largest absolute difference of maps, which are scaled to a maximum of 1; None without maps.
    """

    images: int
    batch_sizes: tuple[int, ...]
    logits: float
    ties: int
    maps: float | None


def compare(
    exported: Callable[[Tensor], Mapping[str, Tensor]],
    original: Callable[[Tensor], Mapping[str, Tensor]],
    images: UInt8[Tensor, "n c h w"],
    *,
    limit: int | None = None,
) -> Parity:
    """Compare logits, predicted classes and maps on images, in batches of several sizes.

    Args:
        exported: The loaded file.
        original: The network.
        images: At least one image.
        limit: Number of images to compare, from the first; all if None.

    Returns:
        The largest differences.

    Raises:
        RunError: if an output differs by more than rounding.
    """
    sizes: list[int] = []
    ties, largest = 0, {"logits": 0.0}
    total = min(len(images), limit or len(images))
    for start, stop in _batches(total):
        batch = to_unit(images[start:stop])
        with torch.no_grad():
            expected, outputs = original(batch), exported(batch)
        where = f"on test images {start} to {stop - 1}"
        for name, values in expected.items():
            if name not in outputs or outputs[name].shape != values.shape:
                shape = tuple(outputs[name].shape) if name in outputs else "none"
                raise RunError(
                    f"the file returns {name} of shape {shape} {where}, but the student returns {tuple(values.shape)}."
                )
            largest[name] = max(largest.get(name, 0.0), float((outputs[name] - values).abs().max()))
        tied = _check_logits(expected["logits"], outputs["logits"], where)
        if "maps" in expected:
            _check_maps(expected["maps"], outputs["maps"], tied, where)
        ties += int(tied.sum())
        sizes.append(stop - start)
    return Parity(total, tuple(dict.fromkeys(sizes)), largest["logits"], ties, largest.get("maps"))


def _check_logits(expected: Tensor, exported: Tensor, where: str) -> Tensor:
    """Check the logits, and return for each image whether its predicted class differs because of a tie."""
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    difference = float((exported - expected).abs().max())
    if not difference <= allowed:  # written so that NaN fails
        raise RunError(
            f"the file's logits differ from the student's by {difference:.3g} {where}; rounding explains at most "
            f"{allowed:.3g}."
        )
    return expected.argmax(1) != exported.argmax(1)


def _check_maps(expected: Tensor, exported: Tensor, tied: Tensor, where: str) -> None:
    one, other = expected.flatten(1), exported.flatten(1)
    both_empty = ~(one.any(1) | other.any(1))
    equal = both_empty | tied | (F.cosine_similarity(one, other) >= LEAST_COSINE)
    if not bool(equal.all()):
        raise RunError(f"{int((~equal).sum())} of the file's maps differ from the student's {where}.")


def _batches(total: int) -> Iterator[tuple[int, int]]:
    """Split images into batches of each size in turn; the last size repeats until all images are used."""
    start = 0
    for size in itertools.chain(BATCH_SIZES, itertools.repeat(BATCH_SIZES[-1])):
        if start >= total:
            return
        yield start, min(start + size, total)
        start += size
