"""`create_model`: build a network from its name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torchvision
from torch import nn

from distill.errors import InputError, unknown_name, without_addresses
from distill.importing import import_named, is_library_name
from distill.models import wrn
from distill.models.library_networks import build_library_network
from distill.models.staged import ModelSpec, StagedNetwork
from distill.objects import is_object, object_type

_RESNET_CUTS = {"layer1": "layer1", "layer2": "layer2", "layer3": "layer3", "final": "layer4"}


#: Arguments that a callable is offered, and that it does not have to take.
_OFFERED = ("num_classes", "in_channels")


class Family(NamedTuple):
    """One family of networks: a row of `distill list models`."""

    name: str
    about: str
    layers: tuple[str, ...]


FAMILIES = (
    Family("wrn_D_K", "wide residual network, D = 6n + 4 layers, K times the width", (*wrn.CUTS, *wrn.TAPS)),
    Family(
        "resnet18",
        "torchvision's ResNet-18; `small_images: true` removes the stride and pooling of the stem, for 32 x 32 images",
        tuple(_RESNET_CUTS),
    ),
    Family(
        "resnet50",
        "torchvision's ResNet-50; `small_images: true` removes the stride and pooling of the stem, for 32 x 32 images",
        tuple(_RESNET_CUTS),
    ),
    Family(
        "torchvision:NAME",
        "a classifier of torchvision; `weights: true` or the name of weights for pretrained ones",
        ("final",),
    ),
    Family(
        "timm:NAME",
        "a network of timm (extra `timm`); `weights: true` or a tag of weights for pretrained ones",
        ("final",),
    ),
    Family(
        "package.module:callable",
        "a custom network: called with num_classes and in_channels if it takes them; layers are dotted module paths",
        ("final",),
    ),
)


def create_model(
    name: str,
    *,
    num_classes: int,
    in_channels: int = 3,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] = (),
    **options: Any,
) -> StagedNetwork:
    """Build a network with randomly initialised weights.

    Args:
        name: ``wrn_D_K``, ``resnet18``, ``resnet50``, ``torchvision:NAME``, ``timm:NAME`` or
            ``package.module:callable``.
        num_classes: Number of classes: the length of the logits.
        in_channels: Number of image channels.
        mean: Mean of each channel, for images in [0, 1]; 0 by default.
        std: Standard deviation of each channel, for images in [0, 1]; 1 by default.
        classes: Names of the classes, in the order of the logits; optional.
        options: Further keyword arguments of the network, such as ``dropout`` for a WRN.

    Returns:
        The network in training mode.

    Raises:
        InputError: If the network does not exist or does not accept an option.

    Example:
        >>> create_model("wrn_16_2", num_classes=10).cuts["final"]
        'relu'
    """
    if any(values is not None and len(values) != in_channels for values in (mean, std)):
        raise InputError(
            f"normalisation must have a mean and a std for each of the {in_channels} channels, "
            f"got mean {mean} and std {std}."
        )
    if is_object(name):
        raise InputError(rebuild_message(name))
    build, cuts, taps = _resolve(name)
    try:
        network = build(num_classes=num_classes, in_channels=in_channels, **options)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"model {name!r} with options {options}: {_describe(error)}") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"model {name!r} must return an nn.Module, got {type(network).__name__}.")
    spec = ModelSpec(name, num_classes, in_channels, options, tuple(classes))
    return StagedNetwork(network, spec, cuts=cuts, taps=taps, mean=mean, std=std)


def stage_network(
    network: nn.Module,
    *,
    name: str,
    num_classes: int,
    in_channels: int = 3,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] = (),
) -> StagedNetwork:
    """Wrap an existing network and its weights in a :class:`StagedNetwork`.

    Args:
        network: A module from normalised images to logits. A ``StagedNetwork`` is returned unchanged, with its own
            normalisation.
        name: Name of the network in its record.
        num_classes: Number of classes: the length of the logits.
        in_channels: Number of image channels.
        mean: Mean of each channel, for images in [0, 1]; 0 by default.
        std: Standard deviation of each channel, for images in [0, 1]; 1 by default.
        classes: Names of the classes, in the order of the logits; optional.

    Returns:
        The wrapped network; it shares the parameters of ``network``.

    Example:
        >>> layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)]
        >>> stage_network(nn.Sequential(*layers), name="mine", num_classes=2).cuts
        {'final': '1'}
    """
    if isinstance(network, StagedNetwork):
        return network
    spec = ModelSpec(name, num_classes, in_channels, {}, tuple(classes))
    return StagedNetwork(network, spec, cuts=None, mean=mean, std=std)


def network_options(name: str) -> dict[str, Any]:
    """Return the options of a built-in network with their defaults; empty for a network that must be imported.

    Example:
        >>> network_options("resnet18"), network_options("package.module:callable")
        ({'small_images': False}, {})
    """
    build = _resnet if name in ("resnet18", "resnet50") else wrn.WideResNet if wrn.parse_name(name) else None
    if build is None:
        return {}
    parameters = inspect.signature(build).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty and p.name != "in_channels"}


def known_signs(name: str | None) -> dict[str, bool]:
    """Return whether each named layer of a built-in network has negative values; empty for any other network.

    Example:
        >>> known_signs("wrn_16_2")["final"], known_signs("wrn_16_2")["group2_sum"], known_signs("torchvision:resnet18")
        (False, True, {})
    """
    if name in ("resnet18", "resnet50"):
        return dict.fromkeys(_RESNET_CUTS, False)
    is_wrn = name is not None and wrn.parse_name(name) is not None
    return {**dict.fromkeys(wrn.CUTS, False), **dict.fromkeys(wrn.TAPS, True)} if is_wrn else {}


def import_network(name: str, *, num_classes: int, in_channels: int) -> nn.Module:
    """Import ``package.module:callable`` and call it with the number of classes and channels.

    Raises:
        InputError: If the callable cannot be imported, does not accept the arguments, or does not return a network.
    """
    if ":" not in name:
        raise InputError(f"expected package.module:callable, got {name!r}.")
    try:
        network = _import(name)(num_classes=num_classes, in_channels=in_channels)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"model {name!r}: {_describe(error)}") from error
    if not isinstance(network, nn.Module):
        raise InputError(f"model {name!r} must return an nn.Module, got {type(network).__name__}.")
    return network


def rebuild_message(name: str) -> str:
    """Return the message that a network passed as a Python object must be passed again."""
    return (
        f"the network was passed as a Python object ({object_type(name)}), which its files cannot rebuild. Pass a "
        "network of the same architecture: `--network package.module:callable` on the command line, or in Python "
        "`load_model(path, network=...)` or `evaluate(path, network=...)`."
    )


def _resolve(name: str) -> tuple[Callable[..., nn.Module], Mapping[str, str] | None, Mapping[str, str]]:
    size = wrn.parse_name(name)
    if size is not None:
        return lambda **kw: wrn.WideResNet(*size, **kw), wrn.CUTS, wrn.TAPS
    if name in ("resnet18", "resnet50"):
        return lambda **kw: _resnet(name, **kw), _RESNET_CUTS, {}
    if is_library_name(name):
        return functools.partial(build_library_network, name), None, {}
    if ":" in name:
        return _import(name), None, {}
    if name in torchvision.models.list_models(torchvision.models):
        raise InputError(f"unknown model {name!r}; write `torchvision:{name}` for the network of torchvision.")
    raise InputError(unknown_name("model", name, [family.name for family in FAMILIES], see="`distill list models`"))


def _resnet(name: str, *, num_classes: int, in_channels: int, small_images: bool = False) -> nn.Module:
    network = getattr(torchvision.models, name)(num_classes=num_classes)
    if small_images:
        network.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    elif in_channels != 3:
        network.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
    return network


def _import(name: str) -> Callable[..., nn.Module]:
    module_name, _, attribute = name.partition(":")
    try:
        build = getattr(import_named(module_name), attribute)
    except (Exception, SystemExit) as error:
        raise InputError(f"model {name!r} cannot be imported: {_describe(error)}") from error
    if not callable(build):
        raise InputError(f"model {name!r} is not callable; it must return an nn.Module.")
    return functools.partial(_call_accepted, build)


def _describe(error: BaseException) -> str:
    is_plain = isinstance(error, TypeError | ValueError | ImportError | AttributeError)
    return without_addresses(str(error) if is_plain else f"{type(error).__name__}: {error}")


def _call_accepted(build: Callable[..., nn.Module], **arguments: Any) -> nn.Module:
    """Call a builder without the number of classes or channels if it takes no such argument.

    The signature of a builder such as ``resnet34(**kwargs)`` does not say what is accepted: it is called again without
    the number of channels if it refuses that.
    """
    try:
        accepts = inspect.signature(build).parameters
    except ValueError:  # some builtins have no signature
        return build(**arguments)
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepts.values()):
        return build(**{k: v for k, v in arguments.items() if k in accepts or k not in _OFFERED})
    try:
        return build(**arguments)
    except TypeError as error:
        if "in_channels" in accepts or "unexpected keyword argument 'in_channels'" not in str(error):
            raise
    return build(**{k: v for k, v in arguments.items() if k != "in_channels"})
