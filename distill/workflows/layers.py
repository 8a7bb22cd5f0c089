"""`list_layers`: the layers of a network that is named, or of a run."""

from __future__ import annotations

from pathlib import Path

from distill.build.finished_run import image_size, load_run
from distill.errors import InputError
from distill.files import expand_home
from distill.models import StagedNetwork, create_model, image_size_option
from distill.models.layer_table import LayerRow, layer_table
from distill.untrusted import Trust

#: Height and width of the images if none are given, in pixels.
SIZE = 32
LIBRARY_SIZE = 224


def list_layers(
    network: str,
    *,
    size: int | None = None,
    channels: int = 3,
    classes: int = 10,
    trust: Trust | bool = False,
) -> list[LayerRow]:
    """Return the layers of a network that have positions, in the order of the forward pass.

    Args:
        network: A name as of ``student.name``, which may be imported, or a run directory.
        size: Height and width of the images, in pixels. Default: that of the run's data; for a name, 32, or 224 for a
            network of torchvision or timm.
        channels: Number of image channels; that of the run for a run.
        classes: Number of classes; that of the run for a run.
        trust: Names that the files of a run may import, or whether they may import any.

    Raises:
        InputError: If there is no such network or run, or the network does not take images of this size.
    """
    built, size = _find(network, size, channels, classes, trust)
    try:
        return layer_table(built, size=size)
    except Exception as error:  # networks raise many types of exceptions for images that do not fit
        text = " ".join(str(error).split())[:300]
        raise InputError(
            f"{network} cannot be run on images of {size} x {size} pixels: {text}. Set --size to a size that it takes."
        ) from error


def _find(
    network: str, size: int | None, channels: int, classes: int, trust: Trust | bool
) -> tuple[StagedNetwork, int]:
    folder = Path(expand_home(network))
    if folder.is_dir():
        student, config = load_run(folder, trust=trust)
        return student, size or image_size(config.data) or SIZE
    size = size or (LIBRARY_SIZE if ":" in network else SIZE)
    return create_model(
        network, num_classes=classes, in_channels=channels, **image_size_option(network, (size, size))
    ), size
