"""Networks of torchvision and timm by name: `torchvision:NAME` and `timm:NAME`.

A name is looked up in the list of the library, so building the network imports nothing else. timm is imported when one
of its networks is asked for.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any

import torchvision
from torch import nn

from distill.errors import InputError
from distill.importing import install_command, is_library_name

#: Options of the libraries that read files or download; `weights` is a key of its own.
_READING = ("weights", "weights_backbone", "checkpoint_path", "cache_dir", "pretrained")
#: Arguments of networks of torchvision with auxiliary classifiers: these are left out.
_WITHOUT_AUXILIARY = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}
#: Families of torchvision that take images of one size, and the argument that sets it.
_SIZED = {"vit": "image_size", "maxvit": "input_size"}


def build_library_network(
    name: str, *, num_classes: int, in_channels: int, image_size: int | Sequence[int] | None = None, **options: Any
) -> nn.Module:
    """Build a network of a library with random weights.

    Args:
        name: ``torchvision:NAME`` or ``timm:NAME``.
        num_classes: Number of classes: the length of the logits.
        in_channels: Number of image channels.
        image_size: Height and width of the images in pixels, for a network that takes one size only.
        options: Further keyword arguments of the library's function.

    Raises:
        InputError: If the library has no such network, is not installed, or the network has other channels.

    Example:
        >>> network = build_library_network("torchvision:resnet18", num_classes=5, in_channels=1)
        >>> network.conv1.in_channels, network.fc.out_features
        (1, 5)
    """
    library, network = split_name(name)
    for key in options:
        if key.startswith(_READING):
            raise InputError(f"{name}: the option {key} reads a file; remove it, and set `weights` beside `name`.")
    if library == "timm":
        size = {} if image_size is None else {"img_size": image_size}
        return import_timm().create_model(network, num_classes=num_classes, in_chans=in_channels, **size, **options)
    built = torchvision_builder(name)(num_classes=num_classes, **torchvision_options(name, image_size, options))
    if in_channels != 3:
        replace_first_convolution(built, name, in_channels)
    return built


def split_name(name: str) -> tuple[str, str]:
    """Return the library and the name in it, which for timm may end with the tag of weights.

    Raises:
        InputError: If the library has no such network, or is not installed.
    """
    library, _, network = name.partition(":")
    known = library_names(library)
    if network.partition(".")[0] not in known or (library == "torchvision" and network not in known):
        near = difflib.get_close_matches(network, known, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(repr(f'{library}:{one}') for one in near)}?" if near else "."
        stem = (near[0] if near else network).partition("_")[0]
        raise InputError(f"unknown network {network!r} of {library}{hint} See `distill list models {stem}`.")
    return library, network


def library_names(library: str, pattern: str = "*") -> list[str]:
    """Return the names of the classifiers of a library that match a pattern with ``*``.

    Example:
        >>> library_names("torchvision", "resnet1*")
        ['resnet101', 'resnet152', 'resnet18']
    """
    names = import_timm().list_models() if library == "timm" else torchvision.models.list_models(torchvision.models)
    return sorted(fnmatch.filter(names, pattern))


def import_timm() -> Any:
    """Import timm, or say how to install it."""
    try:
        import timm
    except ImportError as error:
        raise InputError(f"networks `timm:NAME` need the package timm; run `{install_command('timm')}`.") from error
    return timm


def image_size_option(name: str | None, size: Sequence[int]) -> dict[str, Any]:
    """Return the option ``image_size`` of a network that takes images of one size only; empty for any other network.

    Args:
        name: Name of the network.
        size: Height and width of the images, in pixels.

    Example:
        >>> image_size_option("torchvision:vit_b_16", (96, 96)), image_size_option("torchvision:resnet18", (96, 96))
        ({'image_size': 96}, {})
    """
    if name is None or not is_library_name(name):
        return {}
    library, network = split_name(name)
    if library == "timm":
        settings = import_timm().models.get_pretrained_cfg(network.partition(".")[0])
        fixed = settings is not None and settings.fixed_input_size
    else:
        fixed = network.partition("_")[0] in _SIZED
    height, width = size
    return {"image_size": height if height == width else [height, width]} if fixed else {}


def torchvision_builder(name: str) -> Any:
    """Return the function of torchvision that builds a network."""
    return torchvision.models.get_model_builder(name.partition(":")[2])


def torchvision_options(
    name: str, image_size: int | Sequence[int] | None, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the keyword arguments of torchvision's function.

    Raises:
        InputError: If the network does not take the size of images.
    """
    network = name.partition(":")[2]
    arguments = {**_WITHOUT_AUXILIARY.get(network, {}), **options}
    if image_size is None:
        return arguments
    key = _SIZED.get(network.partition("_")[0])
    if key is None:
        raise InputError(f"{name} takes images of any size; remove `image_size`.")
    if not isinstance(image_size, int):
        raise InputError(f"{name} takes square images only, got {tuple(image_size)}.")
    return {**arguments, key: (image_size, image_size) if key == "input_size" else image_size}


def first_convolution(network: nn.Module, name: str) -> tuple[str, nn.Conv2d]:
    """Return the first convolution of a network, which reads three channels, and its path.

    Raises:
        InputError: If there is none.
    """
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels == 3 and module.groups == 1:
                return path, module
            break
    raise InputError(f"{name} cannot be built for another number of channels than 3: it starts with no convolution.")


def replace_first_convolution(network: nn.Module, name: str, in_channels: int) -> None:
    """Replace the first convolution by one that reads another number of channels."""
    path, old = first_convolution(network, name)
    new = nn.Conv2d(
        in_channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    parent, _, last = path.rpartition(".")
    setattr(network.get_submodule(parent), last, new)
