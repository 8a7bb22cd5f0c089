"""Networks `torchvision:NAME` and `timm:NAME`: built by name, with the library's weights, and rebuilt offline."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from distill.checksums import save_checked
from distill.errors import InputError, InputNote
from distill.models import create_model, create_pretrained, find_library_weights, load_model, save_model
from distill.models.library_networks import image_size_option
from tests.models.library_files import cache_timm, cache_torchvision, work_offline

TIMM = "timm:resnet10t"


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v3_small", "timm:tinynet_e"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_is_built_by_name_and_rebuilt_from_its_record_without_trust(
    tmp_path: Path, name: str, channels: int
) -> None:
    net = create_model(name, num_classes=5, in_channels=channels).eval()
    images = torch.rand(2, channels, 32, 32)
    save_model(net, tmp_path)
    assert torch.equal(load_model(tmp_path)(images), net(images))
    assert net(images).shape == (2, 5)


def test_auxiliary_classifiers_are_left_out() -> None:
    with torch.device("meta"):
        for name in ("googlenet", "inception_v3"):
            net = create_model(f"torchvision:{name}", num_classes=5, init_weights=False)
            assert not any("aux" in key.lower() for key in net.network.state_dict())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torchvision:resnet81", r"unknown network 'resnet81' of torchvision; did you mean 'torchvision:resnet.*"),
        ("timm:convnext_ato", r"did you mean 'timm:convnext_atto'.* See `distill list models convnext`"),
        ("timm:hf-hub:someone/resnet", "unknown network 'hf-hub:someone/resnet' of timm"),
        ("torchvision:resnet18.IMAGENET1K_V1", "unknown network 'resnet18.IMAGENET1K_V1' of torchvision"),
        ("timm:resnet10t.no_such", "no_such"),
    ],
)
def test_an_unknown_name_gets_the_nearest_ones(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        create_model(name, num_classes=2)


@pytest.mark.parametrize("key", ["weights", "checkpoint_path", "pretrained", "pretrained_cfg", "cache_dir"])
def test_a_record_cannot_make_a_library_read_a_file(tmp_path: Path, key: str) -> None:
    net = create_model(TIMM, num_classes=2)
    save_model(net, tmp_path)
    record = json.loads((tmp_path / "student.json").read_text())
    del record["checksum"]
    save_checked({**record, "options": {key: "evil.pth"}}, tmp_path / "student.json")
    with pytest.raises(InputError, match=f"the option {key} reads a file"):
        load_model(tmp_path)


def test_a_missing_timm_is_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"need the package timm; run `pip install .*\[timm\]"):
        create_model(TIMM, num_classes=2)


def test_weights_of_torchvision_keep_all_layers_but_the_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    source = torchvision.models.resnet18()
    name = "torchvision:resnet18"
    cache_torchvision(tmp_path, monkeypatch, name, source)
    with pytest.warns(InputNote, match=r"resnet18.IMAGENET1K_V1: fc starts anew for 4 classes \(the weights have 1000"):
        net = create_pretrained(name, "IMAGENET1K_V1", num_classes=4)
    own = net.network.state_dict()
    assert all(torch.equal(own[key], value) for key, value in source.state_dict().items() if not key.startswith("fc."))
    assert own["fc.weight"].shape == (4, 512)
    assert net.normalise.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    native = create_pretrained(name).eval()
    images = torch.rand(2, 3, 64, 64)
    preset = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    scaled = torchvision.transforms.functional.normalize(images, preset.mean, preset.std)
    torch.testing.assert_close(native(images), source.eval()(scaled))
    grey = create_pretrained(name, in_channels=1).eval()
    torch.testing.assert_close(
        grey.network(images[:, :1]), source(images[:, :1].expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4
    )
    assert grey.normalise.mean.flatten().tolist() == pytest.approx([(0.485 + 0.456 + 0.406) / 3])


def test_weights_of_timm_keep_all_layers_but_the_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    source: Any = timm.create_model("resnet10t")
    cache_timm(tmp_path, monkeypatch, TIMM, source)
    with pytest.warns(InputNote, match=r"resnet10t.c3_in1k: fc starts anew for 4 classes"):
        net = create_pretrained(TIMM, "c3_in1k", num_classes=4)
    own = net.network.state_dict()
    assert all(torch.equal(own[key], value) for key, value in source.state_dict().items() if not key.startswith("fc."))
    assert tuple(net.normalise.std.flatten().tolist()) == pytest.approx(source.pretrained_cfg["std"])
    work_offline(tmp_path / "other", monkeypatch)
    save_model(net, tmp_path / "run")
    assert torch.equal(load_model(tmp_path / "run").normalise.mean, net.normalise.mean)


def test_position_embeddings_are_resized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"num_layers": 1, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 8}
    builder = torchvision.models.vision_transformer.VisionTransformer

    def tiny(*, weights: object = None, progress: bool = True, image_size: int = 224, **named: int) -> nn.Module:
        network = builder(image_size, 16, **small, **named)
        if weights is not None:
            network.load_state_dict(weights.get_state_dict())  # type: ignore[attr-defined]
        return network

    monkeypatch.setattr("distill.models.library_networks.torchvision_builder", lambda name: tiny)
    monkeypatch.setattr("distill.models.library_weights.torchvision_builder", lambda name: tiny)
    name = "torchvision:vit_b_16"
    source = tiny(num_classes=1000)
    cache_torchvision(tmp_path, monkeypatch, name, source)
    assert image_size_option(name, (32, 32)) == {"image_size": 32}
    net = create_pretrained(name, num_classes=1000, image_size=32)
    assert net.network.encoder.pos_embedding.shape == (1, 5, 8)  # type: ignore[union-attr]
    assert torch.equal(net.network.conv_proj.weight, source.conv_proj.weight)  # type: ignore[union-attr,arg-type]


@pytest.mark.parametrize("name", ["torchvision:resnet18", TIMM])
def test_a_failed_download_says_which_file_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    work_offline(tmp_path, monkeypatch)
    with pytest.raises(InputError, match=r"cannot be loaded: .*https://\S+ into .*set `weights` to its path") as caught:
        create_pretrained(name)
    assert str(tmp_path) in str(caught.value)


class Pickled:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("__import__('sys').modules.update(evil=True)",)


def test_code_in_the_folder_of_downloads_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    found = find_library_weights("torchvision:resnet18", True)
    file = Path(found.folder) / found.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save({"conv1.weight": Pickled()}, file)
    with pytest.raises(InputError, match="cannot be loaded"):
        create_pretrained("torchvision:resnet18")
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("torchvision:resnet18", "IMAGENET1K_V9", "unknown weights of torchvision:resnet18 'IMAGENET1K_V9'; did you"),
        (TIMM, "c3_in1", "unknown weights of timm:resnet10t 'c3_in1'; did you mean 'c3_in1k'"),
        ("timm:resnet10t.c3_in1k", "other", "names the weights 'c3_in1k', but `weights` is 'other'"),
        ("timm:mixer_s32_224", True, "timm has no pretrained weights of mixer_s32_224"),
    ],
)
def test_unknown_weights_are_refused(name: str, weights: str | bool, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_library_weights(name, weights)


def test_the_default_weights_have_one_name() -> None:
    assert find_library_weights(TIMM, True) == find_library_weights(TIMM, "c3_in1k")
    assert find_library_weights("torchvision:resnet50", "DEFAULT").name == "torchvision:resnet50.IMAGENET1K_V2"
