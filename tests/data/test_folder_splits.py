"""Folders of images: names of splits in any case, hidden files, and formats that are skipped."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from PIL import Image

from distill.data import fingerprint, load_split
from distill.errors import InputError, InputWarning


def write(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(root / name, format="PNG")
    return root


def pets(root: Path, *folders: str, each: int = 10) -> Path:
    return write(
        root, *(f"{folder}/{name}/{i}.png" for folder in folders for name in ("cat", "dog") for i in range(each))
    )


def sizes(root: Path, *splits: str) -> list[int]:
    return [len(load_split("image_folder", split, root=root, size=4)) for split in splits]


@pytest.mark.parametrize(
    "names",
    [
        ("Train", "Val", "Test"),
        ("training", "valid", "testing"),
        ("TRAIN", "dev", "test"),
        ("train", "Validation", "test"),
    ],
)
def test_splits_are_found_by_their_usual_names(tmp_path: Path, names: tuple[str, str, str]) -> None:
    for folder, each in zip(names, (10, 3, 2), strict=True):
        pets(tmp_path, folder, each=each)
    assert sizes(tmp_path, "train", "validation", "test") == [20, 6, 4]
    assert load_split("image_folder", "train", root=tmp_path, size=4).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("train", "val", "validation"), "two folders for the split validation: val and validation"),
        (("train", "holdout"), r"has split folders \(train\) and other folders: holdout"),
        (("valid", "Test"), "has the split folder Test, but no folder train"),
        (("set_a", "set_b"), "all class folders of .* contain the same folders: cat, dog"),
    ],
)
def test_folders_that_could_be_misread_are_refused(tmp_path: Path, folders: tuple[str, ...], message: str) -> None:
    pets(tmp_path, *folders)
    with pytest.raises(InputError, match=message):
        sizes(tmp_path, "train")


def test_a_split_within_every_class_is_refused(tmp_path: Path) -> None:
    write(
        tmp_path, *(f"{name}/{split}/{i}.png" for name in ("cat", "dog") for split in ("test", "train") for i in (1, 2))
    )
    with pytest.raises(InputError, match="contain the same folders: test, train"):
        sizes(tmp_path, "train")


def test_class_folders_may_have_the_name_of_a_split_or_one_inner_folder(tmp_path: Path) -> None:
    vehicles = write(tmp_path / "a", *(f"{name}/{i}.png" for name in ("bus", "train") for i in range(10)))
    assert load_split("image_folder", "train", root=vehicles, size=4).classes == ("bus", "train")
    inner = write(tmp_path / "b", *(f"{name}/images/{i}.png" for name in ("cat", "dog") for i in range(10)))
    assert load_split("image_folder", "train", root=inner, size=4).classes == ("cat", "dog")


def test_hidden_names_are_skipped(tmp_path: Path) -> None:
    pets(tmp_path, "train", "test")
    before, hashed = sizes(tmp_path, "train", "test"), fingerprint("image_folder", {"root": tmp_path})
    write(
        tmp_path,
        ".ipynb_checkpoints/a.png",
        "__MACOSX/train/cat/._0.png",
        "train/.ipynb_checkpoints/a.png",
        "train/cat/._0.png",
        "train/cat/.thumbnails/0.png",
        "test/__MACOSX/0.png",
    )
    assert sizes(tmp_path, "train", "test") == before
    assert load_split("image_folder", "train", root=tmp_path, size=4).classes == ("cat", "dog")
    assert fingerprint("image_folder", {"root": tmp_path}) == hashed


def test_formats_that_are_not_read_are_counted(tmp_path: Path) -> None:
    pets(tmp_path, "train", "test")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sizes(tmp_path, "train")
    for name in ("cat/a.heic", "cat/b.HEIC", "dog/c.jfif", "dog/notes.txt"):
        (tmp_path / "train" / name).write_text("")
    with pytest.warns(InputWarning, match=r"train: image files of .* are skipped \(2 .heic, 1 .jfif\)"):
        assert sizes(tmp_path, "train") == [18]
    for path in (tmp_path / "test" / "cat").iterdir():
        path.rename(path.with_suffix(".avif"))
    with pytest.raises(InputError, match=r"cat contains no image file .*, only 10 .avif"):
        sizes(tmp_path, "test")
