"""A student as it is sent out: images in, logits and perhaps maps out, as one program of plain tensor operations."""

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
    """Give a student's logits, and its Grad-CAM++ map of the class that it chooses.

    Convention:
        - Images are float32 in [0, 1], (N, C, H, W); mean and standard deviation are inside.
        - ``maps`` have the size of the layer, each divided by its own largest value; a map that is zero everywhere
          stays zero.
        - Nothing is differentiated: maps are made by the closed form, or by the linear backward below the last layer.

    Args:
        student: A copy of it, in evaluation mode, goes out.
        size: Height and width of the images.
        layer: The layer explained; no maps if None.

    Raises:
        InputError: if the layer does not exist, is no cut, or what follows it is only known to autograd.
    """

    def __init__(self, student: StagedNetwork, *, size: tuple[int, int], layer: str | None = None) -> None:
        super().__init__()
        self.student = copy.deepcopy(student).eval().requires_grad_(False)
        self.size = size
        self.explainer = None if layer is None else _explainer(self.student, layer, self.example())

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what comes out."""
        return ("logits",) if self.explainer is None else ("logits", "maps")

    def forward(self, images: Float[Tensor, "n c h w"]) -> dict[str, Tensor]:
        """Compute what ``outputs`` names."""
        if self.explainer is None:
            return {"logits": self.student(images)}
        output = self.student.run(images, [self.explainer.layer])
        maps = self.explainer.from_output(output, output.logits.argmax(1))
        return {"logits": output.logits, "maps": normalize_maps(maps, "max")}

    def example(self) -> Float[Tensor, "2 c h w"]:
        """Make a batch of what it takes."""
        return torch.full((2, self.student.spec.in_channels, *self.size), 0.5)

    def facts(self) -> dict[str, Any]:
        """Put into plain values what a user of the file must know."""
        maps = None
        if self.explainer is not None:
            maps = {"method": METHOD, "layer": self.explainer.layer, "class": "predicted", "normalized": "max"}
        described = describe(self.student)
        return {
            "format": 1,
            "architecture": described["name"],
            **{key: described[key] for key in ("options", "classes", "normalisation")},
            "input": "float32 in [0, 1], N x C x H x W; normalisation is inside",
            "channels": described["in_channels"],
            "size": list(self.size),
            "maps": maps,
        }


def export_program(deployed: Deployed) -> ExportedProgram:
    """Write a student down as a program that takes any number of images.

    Raises:
        RunError: if torch cannot.
    """
    shapes = {INPUT: {0: Dim(BATCH)}}
    try:
        with torch.no_grad():
            program = torch.export.export(deployed, (deployed.example(),), dynamic_shapes=shapes, strict=False)
            return program.run_decompositions({})  # nothing but operations on tensors: no modes, no nested graphs
    except Exception as error:  # there are many ways not to be traceable
        what = f"{deployed.student.spec.name} with its maps" if deployed.explainer else deployed.student.spec.name
        raise RunError(f"torch.export cannot write down {what}: {str(error).strip().splitlines()[0]}") from error


def _explainer(student: StagedNetwork, layer: str, images: Tensor) -> Explainer:
    """Make an explainer of a layer whose gradient is an ordinary forward operation, and try it."""
    refused = f"no maps of layer {layer!r} can be exported"
    try:
        with torch.no_grad():
            output = student.run(images, [layer])
            head = output.heads.get(layer)
            closed = head is not None and head.classifier is not None
            obstacle = None if head is None or closed else head.obstacle(output.activations[layer])
            if obstacle is not None:
                raise InputError(
                    f"{refused}: {obstacle}, and a file cannot differentiate; choose a later layer, or leave out maps."
                )
            explainer = Explainer(METHOD, layer, "predicted", gradients="closed_form" if closed else "linear")
            explainer.from_output(output, output.logits.argmax(1))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{refused}: {error}") from error
    return explainer
