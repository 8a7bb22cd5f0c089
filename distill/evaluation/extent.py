"""How much is measured beyond the one pass over the images."""

from __future__ import annotations

from dataclasses import dataclass

from distill.errors import InputError

#: Height times width of all images of a batch that is chosen for the user: 256 images of 32 x 32, 8 of 181 x 181.
_PIXELS, _FEWEST, _MOST = 256 * 32 * 32, 8, 256


@dataclass(frozen=True)
class Extent:
    """What is measured, on how many images, and how sure the figures are to be.

    Args:
        masked: Whether every image is looked at a second time, with only what its map shows: average drop, increase,
            win rate, coherency and ADCC.
        perturbed: Images, drawn by the seed, for deletion and insertion; 0 leaves them out.
        steps: Of deletion and of insertion.
        held_out: Explainers by name that no network was trained on.
        explained: Images, drawn by the seed, for them, some of which need a hundred passes; 0 leaves them out.
        sanity: Images, drawn by the seed, for the maps of networks whose weights are random; 0 leaves them out.
        resamples: Of the bootstrap behind every interval; 0: no intervals.
        compared: Whether networks are compared with each other, image by image.
        seed: Of all that is drawn.

    Raises:
        InputError: if a number is out of its range.
    """

    masked: bool = True
    perturbed: int = 256
    steps: int = 16
    held_out: tuple[str, ...] = ("input_x_gradient", "smooth_grad")
    explained: int = 64
    sanity: int = 64
    resamples: int = 2000
    compared: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("perturbed", 0), ("steps", 1), ("explained", 0), ("sanity", 0), ("resamples", 0)):
            got = getattr(self, name)
            if got < least:
                raise InputError(f"`{name}` must be at least {least}, got {got}.")

    def describe(self) -> str:
        """Say what is done to images, as a record words it."""
        parts = []
        if self.masked:
            parts.append("masked: image x map, divided by its largest value, on black")
        if self.perturbed:
            parts.append(
                f"deletion to black, insertion into the blurred image (11 pixels, sigma 5), in {self.steps} steps, the "
                f"brightest pixels first, on {self.perturbed} images drawn by seed {self.seed}"
            )
        return "; ".join(parts) or "none"


#: One forward pass a network, and no intervals: what a trial of an ablation needs.
ONE_PASS = Extent(masked=False, perturbed=0, held_out=(), sanity=0, resamples=0, compared=False)


def choose_batch_size(height: int, width: int) -> int:
    """Choose how many images are looked at at a time, so that large ones do not fill the memory.

    Example:
        >>> choose_batch_size(32, 32), choose_batch_size(64, 64), choose_batch_size(224, 224)
        (256, 64, 8)
    """
    return max(_FEWEST, min(_MOST, _PIXELS // (height * width)))
