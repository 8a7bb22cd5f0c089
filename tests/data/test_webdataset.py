"""Samples in tar files: positions, labels, splits, damaged files, and training with counted views."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from distill.build import load_config
from distill.config import Config
from distill.data import load_split
from distill.data.image_files import DecodedImages
from distill.data.shards import expand_braces, find_shards
from distill.errors import InputError, InputWarning
from distill.training import RunDirectory
from tests.training.helpers import SMALL, CrashError, checkpoint, crash_at, train

COLOURS = {"red": (200, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 200)}
NAMES = tuple(COLOURS)


def picture(colour: str, seed: int, kind: str = "png", side: int = 24) -> bytes:
    noise = np.random.default_rng(seed).integers(-20, 20, (side, side, 3))
    image = Image.fromarray((np.array(COLOURS[colour]) + noise).clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def write(path: Path, entries: dict[str, bytes], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def samples(numbers: range, *, label: str = "cls", kind: str = "png") -> dict[str, bytes]:
    entries: dict[str, bytes] = {}
    for i in numbers:
        colour = NAMES[i % 3]
        key = f"part/{i:06}"
        content = colour.encode() if label == "cls" else json.dumps({"label": i % 3, "more": [1]}).encode()
        entries |= {f"{key}.{kind}": picture(colour, i, kind), f"{key}.{label}": content}
    return entries


@pytest.fixture
def shards(tmp_path: Path) -> str:
    for number in range(3):
        write(tmp_path / f"train-{number:04}.tar", samples(range(20 * number, 20 * number + 20)))
    return str(tmp_path / "train-{0000..0002}.tar")


def test_samples_are_those_of_webdatasets_own_reader(tmp_path: Path, shards: str) -> None:
    wds = pytest.importorskip("webdataset")
    ours = load_split("webdataset", "train", shards=shards, size=24, validation=0.0, test=0.0)
    theirs = list(wds.WebDataset(shards, shardshuffle=False))
    assert len(ours) == len(theirs) == 60
    assert ours.classes == ("blue", "green", "red")
    for i, sample in enumerate(theirs):
        assert ours.classes[int(ours.labels[i])] == sample["cls"].decode()
        expected = torch.from_numpy(np.array(Image.open(io.BytesIO(sample["png"])))).permute(2, 0, 1)
        assert torch.equal(ours.images[i], expected)


def test_splits_are_disjoint_and_cover_all_samples(shards: str) -> None:
    parts = [
        load_split("webdataset", split, shards=shards, size=8, in_memory=False, validation=0.2, test=0.1)
        for split in ("train", "validation", "test")
    ]
    assert [len(part) for part in parts] == [42, 12, 6]
    names = [entry.name for part in parts for entry in part.images.files]  # type: ignore[attr-defined]
    assert len(set(names)) == 60


def test_shards_of_other_splits_and_labels_as_numbers(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", samples(range(9), label="json", kind="jpeg"))
    write(tmp_path / "b.tar", samples(range(9, 15), label="json"))
    options: dict[str, Any] = {
        "shards": str(tmp_path / "a.tar"),
        "validation_shards": [str(tmp_path / "b.*")],
        "size": 8,
    }
    validation = load_split("webdataset", "validation", classes=NAMES, **options)
    assert (len(validation), validation.classes) == (6, NAMES)
    assert validation.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert validation.images.float().mean((2, 3)).argmax(1).tolist() == [0, 1, 2, 0, 1, 2]
    assert len(load_split("webdataset", "train", **options)) == 9


def config_of(folder: Path, shards: str, *pairs: str) -> Config:
    data = f"data={{name: webdataset, shards: '{shards}', size: 16, batch_size: 8, in_memory: false, workers: 2}}"
    return load_config([], [data, *SMALL[1:], f"output_dir={folder}", *pairs])


def test_training_reads_by_position_in_workers_and_resumes_bit_for_bit(tmp_path: Path, shards: str) -> None:
    pairs = ("trainer.max_epochs=2", "checkpoint.every_n_steps=1")
    whole, cut = (config_of(tmp_path, shards, *pairs, f"name={name}") for name in ("whole", "cut"))
    run = train(whole)
    assert isinstance(run.data.split("train").images, DecodedImages)
    with pytest.raises(CrashError):
        train(cut, before_step=crash_at(8))
    train(cut)
    a, b = (checkpoint(RunDirectory(config.directory).last)["state_dict"] for config in (whole, cut))
    assert all(torch.equal(value, b[name]) for name, value in a.items())


def test_only_images_and_labels_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that other readers unpickle are not touched; the places of links and folders are not either."""
    monkeypatch.chdir(tmp_path)

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.write_text, (Path("executed"), "")

    entries = samples(range(6))
    for ending in ("pyd", "pickle", "pkl", "pth", "npy", "ten"):
        entries[f"part/000000.{ending}"] = pickle.dumps(Evil())
    path = write(tmp_path / "a.tar", entries)
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("part/000009.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    data = load_split("webdataset", "train", shards=str(path), size=8, validation=0.0, test=0.0)
    assert len(data) == 6
    assert not (tmp_path / "executed").exists()


def truncated(path: Path, length: int) -> Path:
    path.write_bytes(path.read_bytes()[:length])
    return path


@pytest.mark.parametrize("length", [100, 700, 1024, 4000, 9000, 12_800])
def test_a_truncated_shard_is_named_or_used_up_to_the_damage(tmp_path: Path, length: int) -> None:
    good = write(tmp_path / "a.tar", samples(range(9)))
    bad = truncated(write(tmp_path / "b.tar", samples(range(9, 18))), length)
    options: dict[str, Any] = {"shards": [str(good), str(bad)], "size": 8, "validation": 0.0, "test": 0.0}
    with pytest.raises(InputError, match=r"b\.tar is no tar file, is compressed, or is damaged"):
        load_split("webdataset", "train", **options)
    with pytest.warns(InputWarning, match=r"b\.tar .*samples of it are used"):
        assert 9 <= len(load_split("webdataset", "train", on_error="skip", **options)) < 18


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"x.png": b"junk", "x.cls": b"red"}, r"cannot decode .*a\.tar: x\.png: "),
        ({"x.png": picture("red", 0)}, r"^1 of 7 samples have no label, an entry cls or json: .*a\.tar: x\.png"),
        ({"x.png": picture("red", 0), "x.json": b"{"}, r"a\.tar: x\.json is not valid: "),
        ({"x.png": picture("red", 0), "x.json": b"[" * 100_000}, r"a\.tar: x\.json is not valid: "),
        ({"x.png": picture("red", 0), "x.json": b'{"class": 1}'}, r"x\.json has no name or whole number under the key"),
        ({"x.png": picture("red", 0), "x.cls": b"r" * (2 << 20)}, r"x\.cls is larger than 1 MiB"),
        ({"x.png": picture("red", 0), "x.jpg": picture("red", 1, "jpeg"), "x.cls": b"red"}, "the sample has another"),
    ],
)
def test_a_bad_entry_is_named(tmp_path: Path, entries: dict[str, bytes], message: str) -> None:
    path = write(tmp_path / "a.tar", {**samples(range(6)), **entries})
    with pytest.raises(InputError, match=message):
        load_split("webdataset", "train", shards=str(path), size=8, validation=0.0, test=0.0)


def test_bad_samples_are_left_out_and_counted(tmp_path: Path) -> None:
    bad = {"x.png": b"junk", "x.cls": b"red", "y.png": picture("red", 0)}
    path = write(tmp_path / "a.tar", {**samples(range(6)), **bad})
    with pytest.warns(InputWarning, match=r"1 of 8 samples have no label.*y\.png; they are skipped"):
        data = load_split("webdataset", "train", shards=str(path), size=8, validation=0.0, test=0.0, on_error="skip")
    assert len(data) == 6
    assert data.skipped == (f"{path}: x.png", f"{path}: y.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shards": "train-{0000..0009}.tar"}, r"^`shards`: 7 of 10 shards do not exist: train-0003\.tar, "),
        ({"shards": "none*.tar"}, r"^`shards`: no file matches none\*\.tar"),
        ({"shards": "https://host/a.tar"}, r"^`shards`: https://host/a\.tar is not a path"),
        ({"shards": "pipe:cat a.tar"}, r"^`shards`: pipe:cat a\.tar is not a path"),
        ({"shards": ["train-0000.tar", "train-0000.tar"]}, r"named twice: train-0000\.tar"),
        ({"shards": []}, "expected a path or a list of paths"),
        ({"shards": 3}, "expected a path or a list of paths"),
        ({"shards": "train-0000.tar", "classes": ["red", "green"]}, "unknown label 'blue'"),
        (
            {"shards": "train-0000.tar", "test_shards": "packed.tar.gz"},
            r"packed\.tar\.gz is no tar file, is compressed",
        ),
        ({"shards": "empty.tar"}, r"empty\.tar has no image entry"),
    ],
)
def test_wrong_options_are_named(
    tmp_path: Path, shards: str, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "empty.tar", {"a.txt": b"text"})
    with tarfile.open(tmp_path / "packed.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "empty.tar", "a.png")
    with pytest.raises(InputError, match=message):
        load_split("webdataset", "train", size=8, **options)


def test_braces_and_wildcards(tmp_path: Path) -> None:
    assert list(expand_braces("a{08..10}")) == ["a08", "a09", "a10"]
    assert list(expand_braces("a{8..10}{x,y}")) == ["a8x", "a8y", "a9x", "a9y", "a10x", "a10y"]
    for name in ("b.tar", "a.tar"):
        (tmp_path / name).touch()
    assert [path.name for path in find_shards(str(tmp_path / "*.tar"), "shards")] == ["a.tar", "b.tar"]
