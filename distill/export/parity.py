"""Whether a file gives what the network gives, on images that neither was made with."""

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

#: Images at a time: one, and other numbers than the program was traced with.
BATCH_SIZES = (1, 3, 64)
#: How far logits may be apart, as a share of the largest one; rounding to float32 in another order moves them by 1e-6.
TOLERANCE = 1e-4
#: At an inner layer a ReLU may open in one library and not in the other, which moves single sites of a map.
LEAST_COSINE = 0.9999


class Parity(NamedTuple):
    """How near a file is to the network.

    Args:
        images: How many were compared.
        batch_sizes: So many at a time.
        logits: The largest difference of two logits.
        ties: Images whose first choice is another: their two likeliest classes are equal but for rounding.
        maps: The largest difference of two values of maps, whose largest value is 1; None without maps.
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
    """Compare logits, first choices and maps on images, in batches of several sizes.

    Args:
        exported: The file, opened.
        original: The network.
        images: At least one.
        limit: Compare on the first of them only.

    Raises:
        RunError: if something differs by more than rounding.
    """
    sizes: list[int] = []
    ties, furthest = 0, {"logits": 0.0}
    total = min(len(images), limit or len(images))
    for start, stop in _batches(total):
        batch = to_unit(images[start:stop])
        with torch.no_grad():
            expected, got = original(batch), exported(batch)
        where = f"on test images {start} to {stop - 1}"
        for name, values in expected.items():
            if name not in got or got[name].shape != values.shape:
                came = tuple(got[name].shape) if name in got else "none"
                raise RunError(f"the file gives {name} {came} {where}, the student {tuple(values.shape)}.")
            furthest[name] = max(furthest.get(name, 0.0), float((got[name] - values).abs().max()))
        tied = _check_logits(expected["logits"], got["logits"], where)
        if "maps" in expected:
            _check_maps(expected["maps"], got["maps"], tied, where)
        ties += int(tied.sum())
        sizes.append(stop - start)
    return Parity(total, tuple(dict.fromkeys(sizes)), furthest["logits"], ties, furthest.get("maps"))


def _check_logits(expected: Tensor, got: Tensor, where: str) -> Tensor:
    """Refuse other logits; tell where nevertheless the first choice is another: two classes are equal there."""
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    apart = float((got - expected).abs().max())
    if not apart <= allowed:  # nor is NaN
        raise RunError(
            f"the file's logits differ from the student's by {apart:.3g} {where}; {allowed:.3g} is rounding."
        )
    return expected.argmax(1) != got.argmax(1)


def _check_maps(expected: Tensor, got: Tensor, tied: Tensor, where: str) -> None:
    one, other = expected.flatten(1), got.flatten(1)
    both_empty = ~(one.any(1) | other.any(1))
    equal = both_empty | tied | (F.cosine_similarity(one, other) >= LEAST_COSINE)
    if not bool(equal.all()):
        raise RunError(f"{int((~equal).sum())} of the file's maps are not the student's {where}.")


def _batches(total: int) -> Iterator[tuple[int, int]]:
    """Divide images into batches of each size, the last size until none is left."""
    start = 0
    for size in itertools.chain(BATCH_SIZES, itertools.repeat(BATCH_SIZES[-1])):
        if start >= total:
            return
        yield start, min(start + size, total)
        start += size
