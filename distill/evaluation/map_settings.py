"""How networks are explained so that their maps can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from distill.errors import InputError, unknown
from distill.explain import Explainer

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
                unknown("class policy", self.target, POLICIES) + "; maps compare only if all explain the same class."
            )
        self.explainer("")

    def explainer(self, network: str) -> Explainer:
        """Give the explainer of one network."""
        try:
            return Explainer(self.method, self.layers.get(network, self.layer))
        except ValueError as error:
            raise InputError(str(error)) from error
