from __future__ import annotations

import gzip
import hashlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets as torchvision_datasets

from distill.data import (
    DATASETS,
    ImageSet,
    channel_statistics,
    dataset_info,
    load_split,
    partition,
)
from distill.data.idx import read_idx
from distill.data.image_files import read_images
from distill.errors import InputError

RED, GREEN, BLUE = (250, 0, 0), (0, 250, 0), (0, 0, 250)


def idx(array: np.ndarray[Any, Any]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, *, zipped: bool) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = np.arange(40 * 28 * 28).reshape(40, 28, 28) % 251, np.arange(40) % 10
    for stem, n in (("train", 40), ("t10k", 20)):
        for name, array in ((f"{stem}-images-idx3-ubyte", images[:n]), (f"{stem}-labels-idx1-ubyte", labels[:n])):
            content = idx(array)
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
            else:
                (folder / name).write_bytes(content)
    return images, labels


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("under", [".", "FashionMNIST/raw"])
def test_fashion_mnist_reads_idx_files_zipped_or_not(tmp_path: Path, zipped: bool, under: str) -> None:
    images, labels = write_mnist(tmp_path / under, zipped=zipped)
    test = load_split("fashion_mnist", "test", root=tmp_path)
    assert torch.equal(test.images[:, 0], torch.from_numpy(images[:20]).to(torch.uint8))
    assert test.labels.tolist() == labels[:20].tolist()
    train, held = (load_split("fashion_mnist", s, root=tmp_path, validation=0.25) for s in ("train", "validation"))
    assert (len(train), len(held)) == (30, 10)
    assert sorted(held.labels.tolist()) == list(range(10))
    pixels = {image.numpy().tobytes() for data in (train, held) for image in data.images}
    assert pixels == {image.astype(np.uint8).tobytes() for image in images}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file of unsigned bytes.*got an empty file"),
        (b"PNG and more", "expected the first bytes 00 00 08, got 50 4e 47"),
        (idx(np.zeros((3, 4)))[:-1], "has the wrong length: its header requires 24 bytes, it has 23"),
        (idx(np.zeros((3, 4)))[:6], "has the wrong length"),
        (idx(np.zeros((3, 4))) + b"x", "has the wrong length: its header requires 24 bytes, it has 25"),
        (gzip.compress(idx(np.zeros((3, 4))), mtime=0)[:-9], "cannot read .*copy or download the file again"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "some-idx2-ubyte"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_idx_files_that_are_missing_or_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file train-images-idx3-ubyte or .*dataset-fashion-mnist"):
        load_split("fashion_mnist", "train", root=tmp_path)
    write_mnist(tmp_path, zipped=False)
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(np.zeros(19)))
    with pytest.raises(InputError, match="contains 20 images but 19 labels for 't10k'"):
        load_split("fashion_mnist", "test", root=tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="no file t10k-labels-idx1-ubyte"):
        load_split("fashion_mnist", "test", root=tmp_path)


def write_cifar(folder: Path, source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write files in CIFAR's format, and patch torchvision's list of checksums to match them."""
    base = folder / source.base_folder
    base.mkdir(parents=True)
    label_key = "labels" if source is torchvision_datasets.CIFAR10 else "fine_labels"
    checked: dict[str, list[list[str]]] = {"train_list": [], "test_list": []}
    for part, names in checked.items():
        for position, (name, _) in enumerate(getattr(source, part)):
            pixels = np.full((20, 3072), 10 * position, np.uint8)
            pixels[:, 0] = np.arange(20)  # the red value of the first pixel identifies the image
            content = pickle.dumps({"data": pixels, label_key: [i % 10 for i in range(20)]})
            (base / name).write_bytes(content)
            names.append([name, hashlib.md5(content).hexdigest()])
        monkeypatch.setattr(source, part, names)
    content = pickle.dumps({source.meta["key"]: [f"class {i}" for i in range(10)]})
    (base / source.meta["filename"]).write_bytes(content)
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": hashlib.md5(content).hexdigest()})


@pytest.mark.parametrize(("name", "files"), [("cifar10", 5), ("cifar100", 1)])
def test_cifar_reads_torchvisions_folder(tmp_path: Path, name: str, files: int, monkeypatch: Any) -> None:
    write_cifar(tmp_path, getattr(torchvision_datasets, name.upper()), monkeypatch)
    test = load_split(name, "test", root=tmp_path)
    assert test.images.shape == (20, 3, 32, 32)
    assert test.images[:, 0, 0, 0].tolist() == list(range(20))
    assert test.labels.tolist() == [i % 10 for i in range(20)]
    assert test.classes[3] == "class 3"
    train, held = (load_split(name, s, root=tmp_path, validation=0.5, seed=1) for s in ("train", "validation"))
    assert (len(train), len(held)) == (10 * files, 10 * files)
    assert torch.bincount(held.labels).tolist() == [files] * 10
    shown = {(int(image[0, 0, 0]), int(image[1, 0, 0])) for data in (train, held) for image in data.images}
    assert shown == {(i, 10 * file) for i in range(20) for file in range(files)}


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_missing_cifar_says_how_to_get_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="download: true") as caught:
        load_split(name, "train", root=tmp_path)
    assert f"{name.upper()}('{tmp_path}', download=True)" in str(caught.value)


def write_images(folder: Path, n: int, classes: tuple[str, ...] = ("ants", "bees")) -> None:
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(n):
            Image.new("RGB", (12, 10), (i, 0, 0)).save(folder / name / f"{i:03}.png")


def reds(data: ImageSet) -> set[tuple[int, int]]:
    return {(int(label), int(image[0, 0, 0])) for label, image in zip(data.labels, data.images, strict=True)}


def test_image_folder_divides_class_folders_into_three(tmp_path: Path) -> None:
    write_images(tmp_path, 20)
    options: dict[str, Any] = {"root": tmp_path, "size": 8, "validation": 0.1, "test": 0.2, "seed": 3}
    parts = {split: load_split("image_folder", split, **options) for split in ("train", "validation", "test")}
    assert {split: len(part) for split, part in parts.items()} == {"train": 28, "validation": 4, "test": 8}
    assert parts["test"].classes == ("ants", "bees")
    assert parts["test"].images.shape == (8, 3, 8, 8)
    union = [reds(part) for part in parts.values()]
    assert set().union(*union) == {(c, i) for c in range(2) for i in range(20)}
    assert sum(map(len, union)) == 40
    assert reds(load_split("image_folder", "test", **options)) == reds(parts["test"])
    assert reds(load_split("image_folder", "test", **{**options, "seed": 4})) != reds(parts["test"])


def sizes(root: Path, *splits: str, **options: Any) -> list[int]:
    return [len(load_split("image_folder", split, root=root, size=4, **options)) for split in splits]


@pytest.mark.parametrize("held", ["validation", "val"])
def test_image_folder_takes_splits_that_have_folders(tmp_path: Path, held: str) -> None:
    write_images(tmp_path / "train", 10)
    write_images(tmp_path / held, 2)
    assert sizes(tmp_path, "train", "validation") == [20, 4]
    with pytest.raises(
        InputError, match=r"has no test split: add a folder .*test, or train with the option `test`, the fraction"
    ):
        load_split("image_folder", "test", root=tmp_path, size=4)
    assert sizes(tmp_path, "train", "validation", "test", test=0.1) == [18, 4, 2]
    write_images(tmp_path / "test", 3)
    assert sizes(tmp_path, "train", "validation", "test") == [20, 4, 6]


def test_image_folder_with_a_test_folder_alone_keeps_a_part_for_validation(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 10)
    assert sizes(tmp_path, "train", "validation", "test") == [16, 2, 2]
    write_images(tmp_path / "test", 3)
    assert sizes(tmp_path, "train", "validation", "test") == [18, 2, 6]


def test_images_are_turned_upright_resized_and_cut_in_the_middle(tmp_path: Path) -> None:
    wide = Image.new("RGB", (30, 10), GREEN)
    wide.paste(RED, (0, 0, 10, 10))
    wide.paste(BLUE, (20, 0, 30, 10))
    wide.save(tmp_path / "wide.png")
    half = Image.new("RGB", (10, 10), GREEN)
    half.paste(BLUE, (0, 0, 5, 10))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise
    half.save(tmp_path / "turned.png", exif=exif)
    Image.new("L", (7, 9), 77).save(tmp_path / "grey.png")
    Image.fromarray(np.full((9, 7), 77 * 257, dtype=np.uint16)).save(tmp_path / "deep.png")
    images = read_images([tmp_path / f"{name}.png" for name in ("wide", "turned", "grey", "deep")], 10)
    assert (images[0] == torch.tensor(GREEN).view(3, 1, 1)).all()
    assert (images[1, :, :5] == torch.tensor(BLUE).view(3, 1, 1)).all()
    assert (images[1, :, 5:] == torch.tensor(GREEN).view(3, 1, 1)).all()
    assert (images[2:] == 77).all()


def test_floating_point_images_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((8, 8), dtype=np.float32)).save(tmp_path / "numbers.tif")
    with pytest.raises(InputError, match=r"numbers\.tif has floating-point pixels \(mode F\)"):
        read_images([tmp_path / "numbers.tif"], 8)


@pytest.mark.parametrize("size", [9, 24, 40])
def test_images_are_resized_as_by_pil(tmp_path: Path, size: int) -> None:
    random = np.random.default_rng(0)
    picture = Image.fromarray(random.integers(256, size=(24, 36, 3), dtype=np.uint8))
    picture.save(tmp_path / "noise.png")
    expected = np.array(picture.crop((6, 0, 30, 24)).resize((size, size), Image.Resampling.BICUBIC))
    ours = read_images([tmp_path / "noise.png"], size)[0].permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - expected).max() <= 1
    assert ours.std() > 20


def test_damaged_images_are_named(tmp_path: Path) -> None:
    write_images(tmp_path, 10)
    options: dict[str, Any] = {"root": tmp_path, "size": 8, "validation": 0.0, "test": 0.0}
    broken = tmp_path / "bees" / "half.jpg"
    Image.effect_noise((64, 64), 90).save(broken)
    assert len(load_split("image_folder", "train", **options)) == 21
    broken.write_bytes(broken.read_bytes()[:1_000])
    with pytest.raises(InputError, match=r"cannot decode .*truncated.*; repair or remove it") as caught:
        load_split("image_folder", "train", **options)
    assert str(broken) in str(caught.value)
    broken.write_text("no image")
    with pytest.raises(InputError, match=r"cannot decode .*cannot identify image file"):
        load_split("image_folder", "train", **options)


def test_image_folder_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(split: str = "train", **options: Any) -> ImageSet:
        return load_split("image_folder", split, **{"root": tmp_path, "size": 8, **options})

    with pytest.raises(InputError, match=r"no folder .*nowhere; expected one sub-folder of images per class"):
        load(root=tmp_path / "nowhere")
    with pytest.raises(InputError, match="has no sub-folders; expected one sub-folder of images per class"):
        load()
    (tmp_path / "ants").mkdir()
    (tmp_path / "ants" / "notes.txt").write_text("none here")
    with pytest.raises(InputError, match=r"ants contains no image file \(.bmp, .gif"):
        load()
    write_images(tmp_path / "deep" / "train", 3)
    with pytest.raises(InputError, match="the split validation has no images: increase the fraction `validation`"):
        load("validation", root=tmp_path / "deep")
    with pytest.raises(InputError, match=r"got 0.6 and 0.4"):
        load(root=tmp_path / "deep", validation=0.6, test=0.4)
    write_images(tmp_path / "deep" / "test", 1, classes=("ants", "wasps"))
    with pytest.raises(InputError, match=r"has the classes ants, wasps, but .* has ants, bees"):
        load("test", root=tmp_path / "deep")
    monkeypatch.setattr("distill.data.image_files.free_memory", lambda: 1_000)
    with pytest.raises(InputError, match=r"images of 100 x 100 pixels need 0.0 GB of memory, but only 0.0 GB are free"):
        load(root=tmp_path / "deep", size=100)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"name": "cifar11"}, "unknown data set 'cifar11'; did you mean 'cifar10'.*see `distill list datasets`"),
        ({"split": "valid"}, "unknown split 'valid'; did you mean 'validation'"),
        ({"sizes": 3}, r"unknown option of data set fashion_scenes 'sizes'; did you mean 'size'\? \(known: background"),
        ({"name": "cifar10"}, "data set cifar10 requires the option `root`"),
        ({"count": {"trian": 5}}, "unknown split in `count` 'trian'; did you mean 'train'"),
    ],
)
def test_what_load_split_does_not_know(call: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_split(**{"name": "fashion_scenes", "split": "train", **call})


def test_counts_of_scenes_may_differ_by_split() -> None:
    count = {"train": 30, "test": 20}
    assert [len(load_split("fashion_scenes", s, count=count)) for s in ("train", "validation", "test")] == [
        30,
        2_000,
        20,
    ]


def test_every_data_set_describes_itself() -> None:
    infos = {info.name: info for info in dataset_info()}
    own = {"image_folder", "table", "huggingface", "webdataset"}
    assert set(infos) == set(DATASETS) == {"fashion_scenes", "fashion_mnist", "cifar10", "cifar100", *own}
    for info in infos.values():
        assert 30 < len(info.description) < 110
        assert info.description.endswith(".")
    assert infos["image_folder"].options == {
        "root": "required",
        "size": "required",
        "validation": "0.1",
        "test": "None",
        "seed": "0",
        "in_memory": "None",
        "background": "'black'",
        "resize": "'crop'",
        "on_error": "'fail'",
    }


def test_partitions_are_stratified_disjoint_and_fixed_by_the_seed() -> None:
    labels = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)[
        torch.randperm(100, generator=torch.Generator().manual_seed(0))
    ]
    parts = partition(labels, seed=0, validation=0.1, test=0.2)
    assert sorted(torch.cat(list(parts.values())).tolist()) == list(range(100))
    assert torch.bincount(labels[parts["validation"]]).tolist() == [5, 3, 2]
    assert torch.bincount(labels[parts["test"]]).tolist() == [10, 6, 4]
    assert parts["train"].tolist() == sorted(parts["train"].tolist())
    assert torch.equal(partition(labels, seed=0, validation=0.1)["validation"], parts["validation"])
    assert not torch.equal(partition(labels, seed=1, validation=0.1)["validation"], parts["validation"])
    assert partition(torch.tensor([0, 1] * 10), seed=0, validation=0.2)["validation"].tolist() == [5, 7, 16, 18]


def test_channel_statistics_equal_numpys_in_float64() -> None:
    images = torch.randint(0, 200, (1_500, 3, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    images[:, 2] = 51
    mean, deviation = channel_statistics(images)
    pixels = images.numpy().astype(np.float64) / 255
    assert mean == pytest.approx(pixels.mean((0, 2, 3)), rel=1e-12)
    assert deviation == pytest.approx(pixels.std((0, 2, 3)), rel=1e-9, abs=1e-12)
    assert (mean[2], deviation[2]) == (0.2, 0.0)
    with pytest.raises(ValueError, match="at least one image"):
        channel_statistics(images[:0])
