"""`Deployed`: a student with its maps as one module, and its export as a program of plain tensor operations."""

from __future__ import annotations

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from distill.errors import InputError, RunError
from distill.explain import Explainer
from distill.maps import normalize_maps
from distill.models import StagedNetwork, describe

INPUT, BATCH = "images", "batch"
METHOD = "grad_cam_pp"


class Deployed(nn.Module):
    """Return a student's logits and, with ``layer``, its Grad-CAM++ maps of the predicted class.

    Convention:
        - Images are float32 in [0, 1], (N, C, H, W). Normalisation by mean and standard deviation is included.
        - ``maps`` have the size of the layer. Each map is divided by its maximum; a map that is zero everywhere stays
          zero.
        - No autograd is used: the gradients come from the closed form at the last layer, and from the linear backward
          at inner layers.

    Args:
        student: The network; a copy of it in evaluation mode is exported.
        size: Height and width of the images.
        layer: The layer to explain; None for no maps.

    Raises:
        InputError: if the layer does not exist, is not a cut, or can only be differentiated by autograd.
    """

    def __init__(self, student: StagedNetwork, *, size: tuple[int, int], layer: str | None = None) -> None:
        super().__init__()
        self.student = copy.deepcopy(student).eval().requires_grad_(False)
        self.size = size
        self.explainer = None if layer is None else _explainer(self.student, layer, self.example())

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return ("logits",) if self.explainer is None else ("logits", "maps")

    def forward(self, images: Float[Tensor, "n c h w"]) -> dict[str, Tensor]:
        """Return the outputs by name."""
        if self.explainer is None:
            return {"logits": self.student(images)}
        output = self.student.run(images, [self.explainer.layer])
        maps = self.explainer.from_output(output, output.logits.argmax(1))
        return {"logits": output.logits, "maps": normalize_maps(maps, "max")}

    def example(self) -> Float[Tensor, "2 c h w"]:
        """Return an example batch of images."""
        return torch.full((2, self.student.spec.in_channels, *self.size), 0.5)

    def facts(self) -> dict[str, Any]:
        """Return the metadata of the file, as values that JSON can store."""
        maps = None
        if self.explainer is not None:
            maps = {"method": METHOD, "layer": self.explainer.layer, "class": "predicted", "normalized": "max"}
        spec = describe(self.student)
        return {
            "format": 1,
            "architecture": spec["name"],
            **{key: spec[key] for key in ("options", "classes", "normalisation")},
            "input": "float32 in [0, 1], N x C x H x W; normalisation is inside",
            "channels": spec["in_channels"],
            "size": list(self.size),
            "maps": maps,
        }


def export_program(deployed: Deployed) -> ExportedProgram:
    """Export a student as a program for any batch size.

    Raises:
        RunError: if torch.export fails.
    """
    shapes = {INPUT: {0: Dim(BATCH)}}
    try:
        with torch.no_grad():
            program = torch.export.export(deployed, (deployed.example(),), dynamic_shapes=shapes, strict=False)
            return program.run_decompositions({})  # plain tensor operations: no autograd modes, no nested graphs
    except Exception as error:  # torch.export has no common error class
        name = f"{deployed.student.spec.name} with its maps" if deployed.explainer else deployed.student.spec.name
        raise RunError(f"torch.export cannot export {name}: {str(error).strip().splitlines()[0]}") from error


def _explainer(student: StagedNetwork, layer: str, images: Tensor) -> Explainer:
    """Return an explainer whose gradients need no autograd, after trying it on example images."""
    problem = f"maps of layer {layer!r} cannot be exported"
    try:
        with torch.no_grad():
            output = student.run(images, [layer])
            head = output.heads.get(layer)
            closed = head is not None and head.classifier is not None
            obstacle = None if head is None or closed else head.obstacle(output.activations[layer])
            if obstacle is not None:
                raise InputError(
                    f"{problem}: {obstacle}, and an exported file has no autograd. Choose a later layer, or export "
                    "without maps."
                )
            explainer = Explainer(METHOD, layer, "predicted", gradients="closed_form" if closed else "linear")
            explainer.from_output(output, output.logits.argmax(1))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{problem}: {error}") from error
    return explainer
