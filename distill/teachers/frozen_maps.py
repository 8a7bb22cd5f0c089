"""`FrozenMaps`: the teacher's maps of the untransformed training images, computed once and cropped with every view.

This is an approximation, since the map of a shifted image differs from the shifted map. It saves the teacher's forward
pass during training.

References:
    Parchami-Araghi et al., "Good Teachers Explain" (e2-KD), ECCV 2024: frozen explanations.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from distill.data import ImageSet, Views, to_unit
from distill.explain import PairExplainer
from distill.maps import resize_maps
from distill.teachers.frozen import FrozenTeacher


class FrozenMaps:
    """The teacher's maps of all training images, for the layers of one term.

    Convention:
        - Raw maps, resized to the images, float32: 4 bytes per pixel, image and layer, on the device.

    Args:
        pairs: Explainers of student and teacher, by layer of the student.
        data: The training images.
        views: The views used in training.
        batch_size: Batch size for computing the maps.
    """

    def __init__(
        self, pairs: Mapping[str, PairExplainer], data: ImageSet, views: Views, *, batch_size: int = 256
    ) -> None:
        self.pairs, self.data, self.views, self.batch_size = pairs, data, views, batch_size
        self.maps: dict[str, Float[Tensor, "n h w"]] = {}
        self.predicted: Int[Tensor, " n"] = data.labels

    def make(self, teacher: FrozenTeacher, device: torch.device) -> None:
        """Compute the maps of all images in their identity view; does nothing if called again."""
        if self.maps:
            return
        layers = [pair.teacher.layer for pair in self.pairs.values()]
        parts: dict[str, list[Tensor]] = {layer: [] for layer in self.pairs}
        predicted = []
        for images, labels in zip(
            self.data.images.split(self.batch_size), self.data.labels.split(self.batch_size), strict=True
        ):
            output = teacher(to_unit(images.to(device)), layers)
            for layer, pair in self.pairs.items():
                target = pair.choose_for_teacher(output, labels.to(device))
                maps = pair.teacher.from_output(output, target)
                parts[layer].append(resize_maps(maps, images.shape[2:]))
            predicted.append(output.logits.argmax(1))
        self.maps = {layer: torch.cat(batches) for layer, batches in parts.items()}
        self.predicted = torch.cat(predicted)

    def of(self, layer: str, index: Int[Tensor, " n"], view: Int[Tensor, " n"]) -> Float[Tensor, "n h w"]:
        """Return the maps of the images at ``index``, cropped to their views."""
        return self.views.crop(self.maps[layer][index][:, None], view)[:, 0]

    def target(self, layer: str, labels: Int[Tensor, " n"], index: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Return the classes that the maps explain."""
        return labels if self.pairs[layer].policy == "label" else self.predicted[index]
