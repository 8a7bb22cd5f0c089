"""`EvaluationSettings` (what is measured, on how many images) and `MapSettings` (how networks are explained)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from distill.errors import InputError, unknown_name
from distill.explain import Explainer
from distill.models.layouts import Layout

#: Pixels (height times width) of all images of a batch whose size is chosen automatically: 256 images of 32 x 32, 8 of
#: 181 x 181; and the smallest and the largest batch size.
_PIXELS, _SMALLEST_BATCH, _LARGEST_BATCH = 256 * 32 * 32, 8, 256


@dataclass(frozen=True)
class EvaluationSettings:
    """What is measured, on how many images, and how intervals are computed.

    Args:
        masked: Whether every network also runs on the images masked by its own maps; needed for average drop, increase
            in confidence, win rate, coherency and ADCC.
        perturbed: Number of images, drawn by the seed, for deletion and insertion; 0 skips both.
        steps: Number of steps of deletion and of insertion.
        held_out: Names of explainers that no network was trained on.
        explained: Number of images, drawn by the seed, for the held-out explainers; 0 skips them. Some explainers need
            a hundred forward passes per image.
        sanity: Number of images, drawn by the seed, for the maps of networks with random weights; 0 skips them.
        resamples: Bootstrap resamples of every interval; 0: no intervals.
        compared: Whether networks are compared with each other, image by image.
        seed: Seed of every random draw.

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
            value = getattr(self, name)
            if value < least:
                raise InputError(f"`{name}` must be at least {least}, got {value}.")

    def describe(self) -> str:
        """Return a description of how images are perturbed, for the record."""
        parts = []
        if self.masked:
            parts.append("masked: image x map, divided by its largest value, on black")
        if self.perturbed:
            parts.append(
                f"deletion to black, insertion into the blurred image (11 pixels, sigma 5), in {self.steps} steps, the "
                f"brightest pixels first, on {self.perturbed} images drawn by seed {self.seed}"
            )
        return "; ".join(parts) or "none"


#: One forward pass per network and no intervals; used by the trials of an ablation.
ONE_PASS = EvaluationSettings(masked=False, perturbed=0, held_out=(), sanity=0, resamples=0, compared=False)


def choose_batch_size(height: int, width: int) -> int:
    """Choose a batch size for images of a size, so that large images do not fill the memory.

    Example:
        >>> choose_batch_size(32, 32), choose_batch_size(64, 64), choose_batch_size(224, 224)
        (256, 64, 8)
    """
    return max(_SMALLEST_BATCH, min(_LARGEST_BATCH, _PIXELS // (height * width)))


#: Descriptions for the record: the class that is explained, by the `target` of `MapSettings`.
POLICIES = {
    "label": "Every map explains the image's label, whatever the network predicts.",
    "teacher": "Every map explains the class that the reference chooses, whatever the network predicts.",
}
PIPELINE = "raw map, relu, bilinear (align_corners=False) to image size"


@dataclass(frozen=True)
class MapSettings:
    """How all networks are explained, so that their maps can be compared.

    Args:
        method: A method of :class:`distill.explain.Explainer`.
        layer: The layer that is explained in every network.
        layers: Exceptions from ``layer``, by the network's name.
        layout: Axes of the layer's activations, see :class:`distill.explain.Explainer`.
        layouts: Exceptions from ``layout``, by the network's name.
        target: The class that is explained, the same for all networks: ``label``, or ``teacher`` (the class that the
            reference predicts).

    Raises:
        InputError: if a name is unknown.
    """

    method: str = "grad_cam_pp"
    layer: str = "final"
    layers: Mapping[str, str] = field(default_factory=dict)
    target: str = "label"
    layout: Layout = "auto"
    layouts: Mapping[str, Layout] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.target not in POLICIES:
            raise InputError(
                unknown_name("class policy", self.target, POLICIES)
                + "; maps can be compared only if all of them explain the same class."
            )
        self.explainer("")

    def explainer(self, network: str) -> Explainer:
        """Return the explainer of one network."""
        try:
            layout = self.layouts.get(network, self.layout)
            return Explainer(self.method, self.layers.get(network, self.layer), layout=layout)
        except ValueError as error:
            raise InputError(str(error)) from error


Settings = TypeVar("Settings", EvaluationSettings, MapSettings)


def as_settings(value: Settings | Mapping[str, Any] | None, kind: type[Settings], *, argument: str) -> Settings | None:
    """Return settings that were given as a record or as a mapping of its fields.

    Args:
        value: The record, or a mapping; missing keys have the record's defaults.
        kind: The class of the record.
        argument: Name of the argument, for messages.

    Raises:
        InputError: if a key is unknown, or a value has the wrong type or is out of its range.

    Example:
        >>> as_settings({"sanity": 0}, EvaluationSettings, argument="settings").sanity
        0
        >>> as_settings({"sanitty": 0}, EvaluationSettings, argument="settings")
        Traceback (most recent call last):
        distill.errors.InputError: settings: unknown key 'sanitty'; did you mean 'sanity'? ...
    """
    if value is None or isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise InputError(f"`{argument}` must be {kind.__name__} or a mapping of its fields, got {value!r}.")
    names = [entry.name for entry in fields(kind)]
    for key in value:
        if key not in names:
            raise InputError(f"{argument}: {unknown_name('key', str(key), names)}")
    keywords: dict[str, Any] = {key: tuple(given) if isinstance(given, list) else given for key, given in value.items()}
    try:
        return kind(**keywords)
    except (TypeError, AttributeError) as error:
        raise InputError(f"{argument}: a value has the wrong type, got {dict(value)!r}: {error}") from error
