"""Pretrained weights of torchvision and timm for networks by name: found, downloaded by the library, and fitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor
from torchvision.models.vision_transformer import interpolate_embeddings

from distill.errors import InputError, note_input, unknown_name, without_addresses
from distill.models.catalogue import create_model
from distill.models.fitted_weights import HeadChoice, fit_weights
from distill.models.library_networks import (
    first_convolution,
    import_timm,
    split_name,
    torchvision_builder,
    torchvision_options,
)
from distill.models.staged import StagedNetwork

#: Options of networks of torchvision that their weights need.
_NEEDED = {"googlenet": {"transform_input": True}, "inception_v3": {"transform_input": True}}


class LibraryWeights(NamedTuple):
    """Pretrained weights of a library, before they are downloaded.

    Args:
        name: Name of the network and of the weights, such as ``torchvision:resnet18.IMAGENET1K_V1``.
        num_classes: Number of classes of the weights.
        mean: Mean of each channel that the weights were trained with, for images in [0, 1].
        std: Standard deviation of each channel.
        options: Options that the network needs for these weights.
        url: Where the library downloads them.
        folder: Folder in which the library keeps them.
    """

    name: str
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    options: Mapping[str, Any]
    url: str
    folder: str


def find_library_weights(name: str, weights: bool | str) -> LibraryWeights:
    """Return what a library says about weights; nothing is downloaded.

    Args:
        name: ``torchvision:NAME`` or ``timm:NAME``.
        weights: True or ``DEFAULT``, or the name of the weights: a member of torchvision's enum, or timm's tag.

    Raises:
        InputError: If there are no such weights.

    Example:
        >>> find_library_weights("torchvision:resnet18", True).name
        'torchvision:resnet18.IMAGENET1K_V1'
    """
    library, network = split_name(name)
    return (_find_in_timm if library == "timm" else _find_in_torchvision)(network, weights)


def library_weights_names(name: str) -> list[str]:
    """Return the names of the weights of a library's network, such as ``['IMAGENET1K_V1']``.

    Example:
        >>> library_weights_names("torchvision:resnet50")
        ['IMAGENET1K_V1', 'IMAGENET1K_V2']
    """
    library, network = split_name(name)
    if library == "torchvision":
        return [one.name for one in torchvision.models.get_model_weights(network)]
    base = network.partition(".")[0]
    return [tag for one in import_timm().list_pretrained(f"{base}.*") if (tag := one.partition(".")[2])]


def create_pretrained(
    name: str,
    weights: bool | str = True,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] = (),
    head: HeadChoice = "keep",
    download: bool = True,
    **options: Any,
) -> StagedNetwork:
    """Build a network of a library with its pretrained weights.

    Convention:
        - For another number of classes than that of the weights, the layers that return the classes start anew.
        - For another number of channels than 3, the weights of the first convolution are summed over the channels, and
          shared equally among those of the images.

    Args:
        name: ``torchvision:NAME`` or ``timm:NAME``.
        weights: True or ``DEFAULT``, or the name of the weights: a member of torchvision's enum, or timm's tag.
        num_classes: Number of classes; that of the weights if None.
        in_channels: Number of image channels.
        mean: Mean of each channel, for images in [0, 1]; that of the weights if None.
        std: Standard deviation of each channel; that of the weights if None.
        classes: Names of the classes, in the order of the logits; optional.
        head: ``replace`` trains the layer that returns the classes anew, also for the same number of classes.
        download: Whether to load the weights; otherwise they are random.
        options: Further keyword arguments of the library's function.

    Raises:
        InputError: If the network or the weights do not exist, cannot be downloaded, or do not fit.
    """
    found = find_library_weights(name, weights)
    network = create_model(
        name,
        num_classes=num_classes or found.num_classes,
        in_channels=in_channels,
        mean=mean or _for_channels(found.mean, in_channels),
        std=std or _for_channels(found.std, in_channels),
        classes=classes,
        **{**found.options, **options},
    )
    if download:
        _load(network, found, head)
    return network


def _for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values if len(values) == channels else (sum(values) / len(values),) * channels


def _load(network: StagedNetwork, found: LibraryWeights, head: HeadChoice) -> None:
    spec = network.spec
    library = spec.name.partition(":")[0]
    state = (_timm_state if library == "timm" else _torchvision_state)(found, network)
    own = network.network.state_dict()
    new = []
    if found.num_classes != spec.num_classes:
        new = [key for key, value in own.items() if _is_head(state.get(key), value, found.num_classes)]
        state |= {key: own[key] for key in new}
    fitted = fit_weights(
        state,
        own,
        Path(found.name),
        name=spec.name,
        num_classes=spec.num_classes,
        head="keep" if new else head,
    )
    network.network.load_state_dict(fitted.state, strict=False)
    if new:
        layers = ", ".join(dict.fromkeys(key.rpartition(".")[0] for key in new))
        note_input(
            f"{found.name}: {layers} starts anew for {spec.num_classes} classes (the weights have "
            f"{found.num_classes}); all other layers are pretrained."
        )
    for note in fitted.notes:
        note_input(f"{found.name}: {note}.")


def _is_head(value: Tensor | None, own: Tensor, classes: int) -> bool:
    return (
        value is not None
        and own.ndim > 0
        and value.shape != own.shape
        and value.shape[0] == classes
        and value.shape[1:] == own.shape[1:]
    )


def _find_in_torchvision(network: str, weights: bool | str) -> LibraryWeights:
    members = torchvision.models.get_model_weights(network)
    wanted = "DEFAULT" if weights is True else str(weights).rpartition(".")[2]
    names = ["DEFAULT", *(one.name for one in members)]
    if wanted not in names:
        raise InputError(unknown_name(f"weights of torchvision:{network}", str(weights), names))
    found = members[wanted]
    preset = found.transforms()
    return LibraryWeights(
        f"torchvision:{network}.{found.name}",
        len(found.meta["categories"]),
        tuple(preset.mean),
        tuple(preset.std),
        _NEEDED.get(network, {}),
        found.url,
        str(Path(torch.hub.get_dir()) / "checkpoints"),
    )


def _torchvision_state(found: LibraryWeights, network: StagedNetwork) -> dict[str, Tensor]:
    spec = network.spec
    name, _, member = found.name.rpartition(".")
    weights = torchvision.models.get_model_weights(name.partition(":")[2])[member]
    options = {key: value for key, value in spec.options.items() if key not in ("image_size", *found.options)}
    if "init_weights" in torchvision_options(name, None, {}):
        options["init_weights"] = False
    if found.options and spec.in_channels != 3:
        raise InputError(f"{found.name} needs images of 3 channels, got {spec.in_channels}. Remove `weights`.")
    with _loading_errors(found):
        # Read first as plain tensors, so that no file in the cache can execute code; the builder reads it again.
        weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        pretrained = torchvision_builder(name)(
            weights=weights, progress=False, **torchvision_options(name, None, options)
        )
    state = dict(pretrained.state_dict())
    if spec.in_channels != 3:
        key = f"{first_convolution(pretrained, name)[0]}.weight"
        state[key] = _share_among(state[key], spec.in_channels)
    size = spec.options.get("image_size")
    if size is not None and name.startswith("torchvision:vit"):
        return dict(interpolate_embeddings(size, pretrained.patch_size, state))
    return state


def _share_among(weight: Tensor, channels: int) -> Tensor:
    """Return the weights of a convolution of 3 channels for another number of channels: equal shares of their sum."""
    return weight.sum(1, keepdim=True).expand(-1, channels, -1, -1) / channels


def _find_in_timm(network: str, weights: bool | str) -> LibraryWeights:
    timm = import_timm()
    base, _, own_tag = network.partition(".")
    tags = library_weights_names(f"timm:{base}")
    if not tags:
        raise InputError(f"timm has no pretrained weights of {base}; remove `weights`, or give a path.")
    tag = own_tag if weights is True or weights == "DEFAULT" else str(weights)
    if own_tag and tag != own_tag:
        raise InputError(f"timm:{network} names the weights {own_tag!r}, but `weights` is {weights!r}; give one.")
    if tag not in ("", *tags):
        raise InputError(unknown_name(f"weights of timm:{base}", tag, ["DEFAULT", *tags]))
    settings = timm.models.get_pretrained_cfg(f"{base}.{tag}" if tag else base)
    file = "model.safetensors"
    url = f"https://huggingface.co/{settings.hf_hub_id}/resolve/main/{file}" if settings.hf_hub_id else settings.url
    return LibraryWeights(
        f"timm:{base}.{settings.tag}" if settings.tag else f"timm:{base}",
        settings.num_classes,
        tuple(settings.mean),
        tuple(settings.std),
        {},
        str(url),
        _hub_folder(settings.hf_hub_id),
    )


def _hub_folder(repository: str | None) -> str:
    if repository is None:
        return str(Path(torch.hub.get_dir()) / "checkpoints")
    from huggingface_hub import constants

    return str(Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}")


def _timm_state(found: LibraryWeights, network: StagedNetwork) -> dict[str, Tensor]:
    spec, options = network.spec, dict(network.spec.options)
    size = options.pop("image_size", None)
    sized = {} if size is None else {"img_size": size}
    with _loading_errors(found):
        pretrained = import_timm().create_model(
            found.name.partition(":")[2], pretrained=True, in_chans=spec.in_channels, **sized, **options
        )
    return dict(pretrained.state_dict())


@contextmanager
def _loading_errors(found: LibraryWeights) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # clients of HTTP and readers of files raise many types of exceptions
        reason = without_addresses(" ".join(str(error).split()))[:300]
        raise InputError(
            f"the weights {found.name} cannot be loaded: {type(error).__name__}: {reason}. They are downloaded from "
            f"{found.url} into {found.folder}. Without access to the internet, copy that folder from a machine that "
            "has them, or download the file and set `weights` to its path."
        ) from error
