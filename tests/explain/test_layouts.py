"""Maps of tokens and of channels on the last axis equal those of other code; what is uncertain is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LayerGradientXActivation
from torch import Tensor, nn
from torchvision.models import ConvNeXt
from torchvision.models.convnext import CNBlockConfig

from distill.explain import Explainer
from distill.models import as_staged, stage_network
from distill.models.layout_finder import find_grid
from distill.models.layouts import read_maps
from tests.explain.transformers import CASES, CLASSES, Case, images_of, network_of, swin, vit
from tests.oracles import cam as cam_oracle

READ: tuple[Callable[[nn.Module], Any], ...] = (
    lambda network: network,
    as_staged,
    lambda network: stage_network(network, name="mine", num_classes=CLASSES).double().eval(),
)
TARGETS = torch.tensor([0, 3, 4])


def layer_of(name: str, network: nn.Module) -> str:
    last = [path for path, _ in network.named_modules() if path.endswith("layernorm_before")]
    return CASES[name].layer or last[-1]


def parts(case: Case, network: nn.Module, layer: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """Activations of a layer and gradients of the explained logits, by an ordinary hook, as (N, K, H, W)."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_() if not output.requires_grad else output)
        return kept[-1]

    handle = network.get_submodule(layer).register_forward_hook(keep)
    output = network(images)
    handle.remove()
    logits = output if isinstance(output, Tensor) else output.logits
    (gradients,) = torch.autograd.grad(logits[range(3), TARGETS].sum(), kept)
    return case.reshape(kept[0].detach()), case.reshape(gradients)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore")
def test_maps_equal_the_formulas_on_rearranged_values(name: str) -> None:
    network, images = network_of(name), images_of(name)
    layer = layer_of(name, network)
    values, gradients = parts(CASES[name], network, layer, images)
    a, g = values.numpy(), gradients.numpy()
    channel_sums = a.sum((2, 3))
    expected = {
        "grad_cam": cam_oracle.grad_cam(a, g),
        "hires_cam": np.maximum((a * g).sum(1), 0),
        "layer_cam": np.maximum((a * np.maximum(g, 0)).sum(1), 0),
        "xgrad_cam": np.maximum(np.einsum("nk,nkhw->nhw", (a * g).sum((2, 3)) / channel_sums, a), 0),
        "activation_attention": (a * a).sum(1),
    }
    ways = READ[:2] if name == "timm registers" or not CASES[name].layer else READ
    assert sum(bool(maps.any()) for maps in expected.values()) >= 4
    for read in ways:
        model = read(network)
        for method, maps in expected.items():
            found = Explainer(method, layer)(model, images, TARGETS).maps
            np.testing.assert_allclose(found.numpy(), maps, rtol=1e-7, atol=1e-9 * maps.max(), err_msg=method)


@pytest.mark.parametrize("name", ["vit", "swin", "timm deit"])
def test_hires_cam_equals_captum(name: str) -> None:
    network, images = network_of(name), images_of(name)
    layer = layer_of(name, network)
    product = LayerGradientXActivation(network, network.get_submodule(layer)).attribute(images, target=TARGETS)
    expected = CASES[name].reshape(product.detach()).sum(1).relu()
    found = Explainer("hires_cam", layer)(network, images, TARGETS).maps
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-12)


def test_final_is_not_before_the_last_norm_where_hires_cam_is_empty() -> None:
    network, images = network_of("vit"), images_of("vit")
    before, final = (
        Explainer("hires_cam", layer)(network, images, TARGETS).maps
        for layer in ("encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1.ln_1")
    )
    assert float(before.amax()) < 1e-3 * float(final.amax())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit", "swin", "timm vit", "timm deit", "timm registers", "timm swin"])
@pytest.mark.parametrize(
    ("method", "theirs"),
    [("grad_cam", "GradCAM"), ("hires_cam", "HiResCAM"), ("layer_cam", "LayerCAM"), ("xgrad_cam", "XGradCAM")],
)
def test_maps_equal_those_of_pytorch_grad_cam(name: str, method: str, theirs: str) -> None:
    package = pytest.importorskip("pytorch_grad_cam")
    network, images = network_of(name).float(), images_of(name).float()
    layer = CASES[name].layer
    target_layers = [network.get_submodule(layer)]
    with getattr(package, theirs)(network, target_layers, reshape_transform=CASES[name].reshape) as explainer:
        logits = explainer.activations_and_grads(images)
        logits[range(3), TARGETS].sum().backward()
        both = explainer.activations_and_grads
        activations, gradients = both.activations[0].numpy(), both.gradients[0].numpy()
        expected = np.maximum(explainer.get_cam_image(images, target_layers[0], [], activations, gradients, False), 0)
    found = Explainer(method, layer)(network, images, TARGETS).maps.numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * expected.max())


@pytest.mark.parametrize("training", [False, True])
def test_gradients_of_maps_are_those_of_the_whole_network(training: bool) -> None:
    """The head of a layer that the class token bypasses, and a second pass of the network, have one gradient."""
    found = []
    for read in (READ[2], lambda network: as_staged(network, trace=False)):
        network = network_of("vit").train(training)
        model = read(network)
        model.train(training)
        layer = CASES["vit"].layer
        output = model.run(images_of("vit"), [layer])
        explainer = Explainer("grad_cam", layer, gradients="auto" if training else "autograd")
        maps = explainer.from_output(output, TARGETS, create_graph=True)
        maps.square().sum().backward()
        found.append({name: p.grad for name, p in network.named_parameters() if p.grad is not None})
        assert all(bool(g.any()) for name, g in found[-1].items() if name in ("class_token", "conv_proj.weight"))
    for name, expected in found[1].items():
        gradient = found[0].get(name, torch.zeros_like(expected))
        torch.testing.assert_close(gradient, expected, rtol=1e-7, atol=1e-12)


def test_the_gradient_through_the_class_token_equals_finite_differences() -> None:
    network, images = network_of("vit"), images_of("vit", 1)
    model = READ[2](network)
    explainer = Explainer("hires_cam", "final", gradients="autograd")

    def loss() -> Tensor:
        return explainer.from_output(model.run(images, ["final"]), TARGETS[:1], create_graph=True).square().sum()

    parameter = network.get_parameter("class_token")
    (gradient,) = torch.autograd.grad(loss(), parameter)
    for index in (0, 7):
        values = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                parameter[0, 0, index] += step
            values.append(float(loss().detach()))
            with torch.no_grad():
                parameter[0, 0, index] -= step
        assert float(gradient[0, 0, index]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5)


class Ambiguous(nn.Module):
    """Sixteen channels at 16 x 16 sites, on axis 1 or on the last axis; which one cannot be told from the shape."""

    def __init__(self, *, last: bool, mixing: bool = False) -> None:
        super().__init__()
        self.conv, self.read, self.fc = nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Linear(16, CLASSES)
        self.keep, self.last, self.mixing = nn.Module(), last, mixing
        self.keep.forward = lambda x: x * 1

    def forward(self, images: Tensor) -> Tensor:
        values = self.conv(images).relu()
        if self.mixing:
            values = values.mean((2, 3), keepdim=True) + torch.zeros_like(values)
        kept = self.keep(values.movedim(1, 3) if self.last else values)
        return self.fc((kept.movedim(3, 1) if self.last else kept).square().mean((2, 3)))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("read", READ[:2])
def test_channels_are_found_where_the_shape_does_not_tell(read: Callable[[nn.Module], Any], last: bool) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 16, 16)
    network = Ambiguous(last=last).eval()
    found = Explainer("hires_cam", "keep", "predicted")(read(network), images)
    values = network.conv(images).relu()
    weights = network.fc.weight[found.target][:, :, None, None]
    torch.testing.assert_close(found.maps, (2 * values.square() * weights / 256).sum(1).relu(), rtol=1e-4, atol=1e-7)


def test_what_cannot_be_seen_is_refused_and_can_be_given() -> None:
    network, images = Ambiguous(last=True, mixing=True).eval(), torch.rand(2, 3, 16, 16)
    with pytest.raises(ValueError, match=r"either \(N, K, H, W\) or \(N, H, W, K\).*`layout: nchw`"):
        Explainer("grad_cam", "keep", "predicted")(network, images)
    maps = {}
    for layout in ("nchw", "nhwc"):
        explainer = Explainer("activation_attention", "keep", "predicted", layout=layout)
        maps[layout] = explainer(network, images).maps
    assert float(maps["nhwc"].flatten(1).std(1).max()) < 1e-6 < float(maps["nchw"].flatten(1).std(1).min())


class Shuffled(nn.Module):
    """A transformer whose tokens are in another order, with its attention as a layer, and windows of its patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.shuffle, self.attend = nn.Conv2d(3, 16, 4, 4), nn.Identity(), nn.Softmax(-1)
        self.windows, self.fc = nn.Identity(), nn.Linear(16, CLASSES)
        self.order = torch.randperm(64, generator=torch.Generator().manual_seed(0))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        shuffled = self.shuffle(tokens[:, self.order])
        attention = self.attend((shuffled @ shuffled.transpose(1, 2))[:, None])
        return self.fc((attention[:, 0] @ self.windows(shuffled.reshape(-1, 16, 16)).reshape(-1, 64, 16)).mean(1))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("shuffle", r"\(2, 64, 16\), tokens \(N, T, K\), but not in the order of the rows"),
        ("attend", r"\(2, 1, 64, 64\), neither \(N, K, H, W\) nor"),
        ("windows", r"\(8, 16, 16\), for 2 images: windows"),
    ],
)
def test_other_values_than_maps_are_refused(layer: str, message: str) -> None:
    torch.manual_seed(0)
    network, images = Shuffled().eval(), torch.rand(2, 3, 32, 32)
    with pytest.raises(ValueError, match=message + ".*explain another layer"):
        Explainer("grad_cam", layer, "predicted")(network, images)
    if layer == "shuffle":
        maps = Explainer("activation_attention", layer, "predicted", layout="tokens")(network, images).maps
        assert maps.shape == (2, 8, 8)


@pytest.mark.parametrize(
    ("layer", "layout", "message"),
    [
        ("encoder.ln", "nhwc", r"means activations \(N, H, W, K\), but `layer` 'encoder.ln' returns \(3, 17, 16\)"),
        ("conv_proj", "tokens", r"means activations \(N, T, K\), but `layer` 'conv_proj' returns \(3, 16, 4, 4\)"),
        ("encoder.ln", "rows", r"`layout` must be one of auto, nchw, nhwc, tokens, got 'rows'"),
    ],
)
def test_a_wrong_layout_is_named(layer: str, layout: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Explainer("grad_cam", layer, "predicted", layout=layout)(network_of("vit"), images_of("vit"))


@pytest.mark.parametrize(
    ("size", "count", "prefixes", "grids", "expected"),
    [
        ((32, 32), 17, (1, 0, 1), (), (1, (4, 4))),
        ((32, 32), 16, (1, 0, 1), (), (0, (4, 4))),
        ((30, 44), 33, (0,), ((8, 11), (3, 11)), (0, (3, 11))),
        ((224, 160), 145, (5, 0, 1), ((14, 10),), (5, (14, 10))),
        ((224, 160), 7, (0,), ((14, 10),), None),
    ],
)
def test_the_grid_of_tokens(
    size: tuple[int, int], count: int, prefixes: tuple[int, ...], grids: Any, expected: Any
) -> None:
    assert find_grid(size, count, prefixes=prefixes, grids=frozenset(grids)) == expected


def test_layers_with_maps_need_no_look() -> None:
    """Convolutions, and what keeps their axes, are known to have the channels on axis 1."""
    blocks = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 1)]
    networks = {"features.0.0": swin(), "features.2.1": ConvNeXt(blocks, num_classes=CLASSES), "conv_proj": vit()}
    for layer, network in networks.items():
        for read in READ[:2]:
            output = (lambda model: model if hasattr(model, "run") else as_staged(model, trace=False))(
                read(network.eval())
            ).run(torch.rand(2, 3, 32, 32), [layer])
            assert not output.layouts
            assert read_maps(output, layer).activations is output.activations[layer]


def test_looking_changes_nothing_and_happens_once() -> None:
    network = vit(dropout=0.1).train()
    passes: list[int] = []
    network.register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
    images, state = torch.rand(3, 3, 32, 32), {name: value.clone() for name, value in network.state_dict().items()}
    explainer = Explainer("activation_attention", "encoder.ln", "predicted")
    before = torch.random.get_rng_state()
    explainer(network, images)
    assert passes == [3, 2, 2, 2, 2]
    explainer(network, images)
    assert passes == [3, 2, 2, 2, 2, 3]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules() if module is not network)


def test_signals_have_activations_of_three_axes() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(2, 4, 3, padding=1)
            self.along = nn.Linear(9, 1)
            self.fc = nn.Linear(4, 3)

        def forward(self, signals: Tensor) -> Tensor:
            return self.fc(self.along(self.conv(signals))[:, :, 0])

    for read in READ[:2]:
        maps = Explainer("grad_cam", "conv", "predicted")(read(Net().eval()), torch.rand(5, 2, 9)).maps
        assert maps.shape == (5, 9)
