"""`EvaluationSettings` (what is measured, on how many images) and `MapSettings` (how networks are explained)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from distill.errors import InputError, unknown_name
from distill.explain import Explainer

#: Height times width of all images of a batch that is chosen for the user: 256 images of 32 x 32, 8 of 181 x 181.
_PIXELS, _FEWEST, _MOST = 256 * 32 * 32, 8, 256


@dataclass(frozen=True)
class EvaluationSettings:
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
ONE_PASS = EvaluationSettings(masked=False, perturbed=0, held_out=(), sanity=0, resamples=0, compared=False)


def choose_batch_size(height: int, width: int) -> int:
    """Choose how many images are looked at at a time, so that large ones do not fill the memory.

    Example:
        >>> choose_batch_size(32, 32), choose_batch_size(64, 64), choose_batch_size(224, 224)
        (256, 64, 8)
    """
    return max(_FEWEST, min(_MOST, _PIXELS // (height * width)))


#: Which class is explained, as a record words it.
POLICIES = {
    "label": "Every map explains the image's label, whatever the network predicts.",
    "teacher": "Every map explains the class that the reference chooses, whatever the network predicts.",
}
PIPELINE = "raw map, relu, bilinear (align_corners=False) to image size"


@dataclass(frozen=True)
class MapSettings:
    """How networks are explained so that their maps can be compared.

    Args:
        method: A method of :class:`distill.explain.Explainer`.
        layer: The layer explained in every network,
        layers: but for these, by the network's name.
        target: The class explained, one for all networks: the ``label``, or the ``teacher``'s (the reference's) choice.

    Raises:
        InputError: if a name is unknown.
    """

    method: str = "grad_cam_pp"
    layer: str = "final"
    layers: Mapping[str, str] = field(default_factory=dict)
    target: str = "label"

    def __post_init__(self) -> None:
        if self.target not in POLICIES:
            raise InputError(
                unknown_name("class policy", self.target, POLICIES)
                + "; maps compare only if all explain the same class."
            )
        self.explainer("")

    def explainer(self, network: str) -> Explainer:
        """Give the explainer of one network."""
        try:
            return Explainer(self.method, self.layers.get(network, self.layer))
        except ValueError as error:
            raise InputError(str(error)) from error
