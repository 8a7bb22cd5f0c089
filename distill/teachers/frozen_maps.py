"""The teacher's maps of whole training images, made once and moved along with every view.

References:
    Parchami-Araghi et al., "Good Teachers Explain" (e2-KD), ECCV 2024: frozen explanations.

An approximation: a network's map of a shifted image is not quite the shifted map. It spares the teacher's pass.
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
    """Maps of every training image for the layers of one term.

    Convention:
        - Raw maps in the size of the images, float32: 4 bytes a pixel, image and layer, kept on the device.

    Args:
        pairs: How student and teacher are explained, by layer of the student.
        data: The training images.
        views: What training sees of them.
        batch_size: Images at a time while the maps are made.
    """

    def __init__(
        self, pairs: Mapping[str, PairExplainer], data: ImageSet, views: Views, *, batch_size: int = 256
    ) -> None:
        self.pairs, self.data, self.views, self.batch_size = pairs, data, views, batch_size
        self.maps: dict[str, Float[Tensor, "n h w"]] = {}
        self.chosen: Int[Tensor, " n"] = data.labels

    def make(self, teacher: FrozenTeacher, device: torch.device) -> None:
        """Run the teacher once over all images as they are; done before, this does nothing."""
        if self.maps:
            return
        layers = [pair.teacher.layer for pair in self.pairs.values()]
        parts: dict[str, list[Tensor]] = {layer: [] for layer in self.pairs}
        chosen = []
        for images, labels in zip(
            self.data.images.split(self.batch_size), self.data.labels.split(self.batch_size), strict=True
        ):
            output = teacher(to_unit(images.to(device)), layers)
            for layer, pair in self.pairs.items():
                target = labels.to(device) if pair.policy == "label" else output.logits.argmax(1)
                maps = pair.teacher.from_output(output, target)
                parts[layer].append(resize_maps(maps, images.shape[2:]))
            chosen.append(output.logits.argmax(1))
        self.maps = {layer: torch.cat(found) for layer, found in parts.items()}
        self.chosen = torch.cat(chosen)

    def of(self, layer: str, index: Int[Tensor, " n"], view: Int[Tensor, " n"]) -> Float[Tensor, "n h w"]:
        """Give the maps of some images in their views."""
        return self.views.crop(self.maps[layer][index][:, None], view)[:, 0]

    def target(self, layer: str, labels: Int[Tensor, " n"], index: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Give the classes that the maps explain."""
        return labels if self.pairs[layer].policy == "label" else self.chosen[index]
