"""Data sets of the library Hugging Face datasets, from local folders."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from distill.data import ImageSet, load_split
from distill.errors import InputError, InputWarning

CLASSES = ["ant", "bee", "cow"]


def shades(count: int, first: int = 0, height: int = 12) -> dict[str, list[Any]]:
    """Images whose grey value tells class and number: 70 c + i."""
    labels = [i % 3 for i in range(first, first + count)]
    pixels = [np.full((height, 20, 3), 70 * label + i // 3, np.uint8) for i, label in enumerate(labels, first)]
    return {"picture": [Image.fromarray(one) for one in pixels], "kind": labels}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("datasets")


def make(hub: Any, values: dict[str, list[Any]], **features: Any) -> Any:
    kinds = {"picture": hub.Image(), "kind": hub.ClassLabel(names=CLASSES), **features}
    return hub.Dataset.from_dict(values, features=hub.Features({name: kinds[name] for name in values}))


def read(path: Path, split: str, **options: Any) -> ImageSet:
    return load_split("huggingface", split, **{"path": str(path), "size": 8, **options})


def numbers(data: ImageSet) -> list[int]:
    found = []
    for image, label in zip(data.images, data.labels.tolist(), strict=True):
        assert int(image.min()) == int(image.max())
        found.append(3 * (int(image[0, 0, 0]) - 70 * label) + label)
    return found


def test_splits_and_columns_are_found(hub: Any, tmp_path: Path) -> None:
    parts = {"train": make(hub, shades(30)), "valid": make(hub, shades(6, 30)), "test": make(hub, shades(9, 36))}
    hub.DatasetDict({**parts, "extra": make(hub, shades(3))}).save_to_disk(str(tmp_path / "saved"))
    with pytest.warns(InputWarning, match="the splits extra are not used"):
        found = {split: read(tmp_path / "saved", split) for split in ("train", "validation", "test")}
    assert {split: numbers(data) for split, data in found.items()} == {
        "train": list(range(30)),
        "validation": list(range(30, 36)),
        "test": list(range(36, 45)),
    }
    assert {data.classes for data in found.values()} == {tuple(CLASSES)}


def test_missing_splits_are_fractions_of_the_training_rows(hub: Any, tmp_path: Path) -> None:
    make(hub, shades(60)).save_to_disk(str(tmp_path / "one"))
    found = [numbers(read(tmp_path / "one", split, seed=2)) for split in ("train", "validation", "test")]
    assert sorted(number for part in found for number in part) == list(range(60))
    assert [len(part) for part in found] == [48, 6, 6]
    hub.DatasetDict({"train": make(hub, shades(60)), "test": make(hub, shades(6, 60))}).save_to_disk(
        str(tmp_path / "two")
    )
    found = [numbers(read(tmp_path / "two", split)) for split in ("train", "validation", "test")]
    assert [len(part) for part in found] == [54, 6, 6]
    assert sorted(found[0] + found[1]) == list(range(60))
    assert found[2] == list(range(60, 66))


def test_a_parquet_folder_and_labels_by_name_or_number(hub: Any, tmp_path: Path) -> None:
    values = shades(12)
    named = {"picture": values["picture"], "kind": [CLASSES[2 - label] for label in values["kind"]]}
    (tmp_path / "parquet").mkdir()
    make(hub, named, kind=hub.Value("string")).to_parquet(str(tmp_path / "parquet" / "train.parquet"))
    data = read(tmp_path / "parquet", "train", label_column="kind", validation=0.0, test=0.0)
    assert data.classes == ("ant", "bee", "cow")
    assert data.labels.tolist() == [2, 1, 0] * 4
    numbered = {"picture": values["picture"], "kind": [10 * label for label in values["kind"]]}
    make(hub, numbered, kind=hub.Value("int64")).save_to_disk(str(tmp_path / "numbers"))
    data = read(tmp_path / "numbers", "train", label_column="kind", validation=0.0, test=0.0)
    assert data.classes == ("0", "10", "20")
    assert numbers(data) == list(range(12))


def test_wide_images_are_padded(hub: Any, tmp_path: Path) -> None:
    make(hub, shades(6, height=10)).save_to_disk(str(tmp_path / "saved"))
    data = read(tmp_path / "saved", "train", resize="pad", background="white", validation=0.0, test=0.0)
    assert data.images[3, :, 0].unique().tolist() == [255]
    assert data.images[3, :, 3].unique().tolist() == [1]


def test_mistakes_are_named(hub: Any, tmp_path: Path) -> None:
    values = shades(6)
    make(hub, values, kind=hub.Value("int64")).save_to_disk(str(tmp_path / "numbers"))
    make(hub, {**values, "kind": [0, 1, 2, -1, -1, 0]}).save_to_disk(str(tmp_path / "unlabelled"))
    hub.DatasetDict({"test": make(hub, values)}).save_to_disk(str(tmp_path / "test_only"))
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("numbers", {}, r"`label_column`: .* has no columns of type ClassLabel; name the column. .* kind \(Value\)"),
        ("numbers", {"label_column": "knd"}, "unknown column 'knd'; did you mean 'kind'"),
        ("numbers", {"image_column": "kind", "label_column": "kind"}, "'kind' is of type Value, not Image"),
        ("unlabelled", {}, "2 of 6 rows of the split train have no label, such as row 3"),
        ("test_only", {}, "has no split train; it has test"),
        ("none", {}, "`path`: the data set .* cannot be loaded"),
    ]
    for name, options, message in cases:
        with pytest.raises(InputError, match=message):
            read(tmp_path / name, "train", **options)


def test_the_message_without_the_library_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"needs the package datasets: pip install .*\[huggingface\]"):
        load_split("huggingface", "train", path="photos", size=8)
