"""One network of each family of torchvision and timm: built by name, `final` found, maps and their gradient right.

Grad-CAM is compared with Captum's, which reads the module by a hook of its own and differentiates by autograd.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator

import pytest
import torch
from captum.attr import LayerGradCam
from torch import nn

from distill.explain import Explainer
from distill.losses import explanation_loss
from distill.models import StagedNetwork, create_model, image_size_option

#: Height and width of the images; larger where a network needs it.
SIZE = 64
LARGER = {"torchvision:inception_v3": 128, "torchvision:maxvit_t": 224, "timm:levit_128s": 128}
#: In every run of the tests; the others are slow.
QUICK = (
    *("torchvision:resnet18", "torchvision:mobilenet_v3_small", "timm:convnext_atto", "timm:ghostnet_050"),
    "timm:vit_tiny_patch16_224",
)
TORCHVISION = (
    *("alexnet", "vgg11_bn", "resnet18", "resnext50_32x4d", "wide_resnet50_2", "squeezenet1_1", "densenet121"),
    *("googlenet", "mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5", "efficientnet_b0"),
    *("efficientnet_v2_s", "regnet_y_400mf", "convnext_tiny", "swin_t", "swin_v2_t", "maxvit_t", "inception_v3"),
)
TIMM = (
    *("resnet10t", "resnest14d", "res2net50_14w_8s", "cspresnet50", "dla46_c", "densenet121", "hrnet_w18_small"),
    *("mobilenetv2_035", "mobilenetv3_small_050", "mnasnet_small", "efficientnet_lite0", "tinynet_e", "lcnet_035"),
    *("ghostnet_050", "repghostnet_050", "regnetx_002", "regnety_002", "repvgg_a0", "fastvit_t8"),
    *("convnext_atto", "convnextv2_atto", "edgenext_xx_small", "poolformer_s12", "efficientvit_b0"),
)
#: Networks whose last features are tokens (N, T, K), with the number of those before the patches; None: (N, H, W, K).
OTHER_LAYOUTS = {
    "torchvision:vit_b_16": 1,
    "timm:vit_tiny_patch16_224": 1,
    "timm:deit_tiny_distilled_patch16_224": 2,
    "timm:swin_tiny_patch4_window7_224": None,
    "timm:mixer_s32_224": 0,
    "timm:levit_128s": 0,
}
_NAMES = [f"torchvision:{name}" for name in TORCHVISION] + [f"timm:{name}" for name in TIMM]


def build(name: str) -> tuple[StagedNetwork, torch.Tensor]:
    size = LARGER.get(name, SIZE)
    torch.manual_seed(0)
    network = create_model(name, num_classes=5, **image_size_option(name, (size, size)))
    images = torch.rand(2, 3, size, size)
    network.train()
    with torch.no_grad():
        for module in network.modules():  # so that the maps of an untrained network are not all zero
            if isinstance(module, nn.Linear) and module.out_features == 5:
                nn.init.normal_(module.weight)
        for _ in range(2):
            network(images)
    return network.eval(), images


@pytest.fixture(autouse=True)
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def captum_maps(network: StagedNetwork, images: torch.Tensor) -> torch.Tensor:
    """Return Captum's Grad-CAM of every class (5, N, H, W) at the layer ``final``."""
    path, whole = network.cuts["final"], network.network
    modules = dict(whole.named_modules())
    while path and path not in modules:  # the path of a function begins with that of the module that calls it
        path = path.rpartition(".")[0]
    forward: nn.Module = network
    if not path:  # torchvision's DenseNet calls a functional ReLU after its last module
        layers = whole.features, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), whole.classifier
        forward = nn.Sequential(network.normalise, *layers)  # type: ignore[arg-type]
        modules[path] = forward[2]
    oracle = LayerGradCam(forward, modules[path])
    found = [oracle.attribute(images, target=label, relu_attributions=True)[:, 0].detach() for label in range(5)]
    return torch.stack(found)


def hooked_maps(network: StagedNetwork, images: torch.Tensor, prefix: int | None) -> torch.Tensor:
    """Return Grad-CAM of every class (5, N, H, W) at ``final``, read by a hook and arranged by the known layout."""
    read: list[torch.Tensor] = []
    module = network.network.get_submodule(network.cuts["final"])
    handle = module.register_forward_hook(lambda _, inputs, output: read.append(output))
    logits = network(images)
    handle.remove()

    def arrange(values: torch.Tensor) -> torch.Tensor:
        if prefix is None:
            return values.permute(0, 3, 1, 2)
        side = math.isqrt(values.shape[1] - prefix)
        return values[:, prefix:].transpose(1, 2).unflatten(2, (side, side))

    found = []
    for label in range(5):
        (gradient,) = torch.autograd.grad(logits[:, label].sum(), read[0], retain_graph=True)
        weights = arrange(gradient).mean((2, 3), keepdim=True)
        found.append((weights * arrange(read[0].detach())).sum(1).relu())
    return torch.stack(found)


def check_family(name: str) -> None:
    network, images = build(name)
    by_class = (
        hooked_maps(network, images, OTHER_LAYOUTS[name]) if name in OTHER_LAYOUTS else captum_maps(network, images)
    )
    labels = by_class.amax((2, 3)).argmax(0)
    expected = by_class[labels, torch.arange(2)]
    assert bool(expected.any())
    maps = Explainer("grad_cam", "final")(network, images, labels).maps
    assert maps.isfinite().all()
    assert maps.shape[-1] > 1
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-4 * float(expected.max()))
    network.train()
    output = network.run(images, ["final"])
    maps = Explainer("grad_cam", "final").from_output(output, labels, create_graph=True)
    explanation_loss(maps, torch.rand_like(maps), normalize="l2", distance="squared_error").backward()
    first = next(p for p in network.network.parameters() if p.ndim > 1)
    assert first.grad is not None
    assert first.grad.isfinite().all()
    assert bool(first.grad.any())


@pytest.mark.parametrize("name", QUICK)
def test_a_family(name: str) -> None:
    check_family(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in (*_NAMES, *OTHER_LAYOUTS) if name not in QUICK])
def test_each_other_family(name: str) -> None:
    check_family(name)
