"""The fingerprint distinguishes folders of images by content, not by location."""

from __future__ import annotations

import shutil
from pathlib import Path

from distill.build import run_identity
from distill.config import load
from distill.data import fingerprint


def folder(path: Path, **files: str) -> Path:
    for name, content in files.items():
        file = path / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".png").write_text(content)
    return path


def of(root: Path) -> str | None:
    return fingerprint("image_folder", {"root": str(root), "size": 32})


def test_a_folder_may_move(tmp_path: Path) -> None:
    here = folder(tmp_path / "here", cat__a="1", dog__b="22")
    there = Path(shutil.copytree(here, tmp_path / "there"))
    assert of(here) is not None
    assert of(here) == of(there)


def test_other_files_are_other_data(tmp_path: Path) -> None:
    folders = [
        folder(tmp_path / "first", cat__a="1", dog__b="22"),
        folder(tmp_path / "named", cat__a="1", dog__c="22"),
        folder(tmp_path / "moved", cat__a="1", cat__b="22"),
        folder(tmp_path / "sized", cat__a="1", dog__b="2"),
        folder(tmp_path / "fewer", cat__a="1"),
    ]
    assert len({of(root) for root in folders}) == len(folders)


def test_what_is_no_image_does_not_count(tmp_path: Path) -> None:
    root = folder(tmp_path / "here", cat__a="1")
    before = of(root)
    (root / "cat" / "notes.txt").write_text("a cat")
    assert of(root) == before


def test_data_that_their_options_decide_have_none(tmp_path: Path) -> None:
    assert fingerprint("cifar10", {"root": str(tmp_path)}) is None
    assert fingerprint("fashion_scenes", {"count": 8}) is None
    assert of(tmp_path / "nowhere") is None


def test_it_is_part_of_the_identity_of_a_run(tmp_path: Path) -> None:
    first, second = folder(tmp_path / "a", cat__a="1"), folder(tmp_path / "b", cat__a="22")
    moved = Path(shutil.copytree(first, tmp_path / "c"))
    one, other, same = (
        run_identity(load([], ["data.name=image_folder", f"data.root={root}", "data.size=8"]))
        for root in (first, second, moved)
    )
    assert one != other
    assert one == same
