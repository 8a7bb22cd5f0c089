"""Images a second of a folder of photographs: `image_folder` compared with torchvision's ImageFolder."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from distill.data import BatchLoader, Views, load_split

from .pairs import alternate, pair_ratios, spread
from .setting import Row, Setting

OURS, TORCHVISION = "image_folder", "torchvision ImageFolder"
SIDE, WORKERS, IMAGES = 224, 2, 512
#: Width and height of the files; half of ImageNet's photographs are about as large as the first.
SIZES = ((500, 375), (1280, 960))


def measure_folders(setting: Setting) -> list[Row]:
    """Time an epoch of both loaders over the same JPEG files, with the same number of worker processes."""
    return [row for size in SIZES for row in _measure(setting, size)]


def _measure(setting: Setting, size: tuple[int, int]) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        write_photographs(Path(folder), size, count=IMAGES)
        ours = BatchLoader(
            load_split("image_folder", "train", root=folder, size=SIDE, in_memory=False, validation=0.0, test=0.0),
            batch_size=setting.batch,
            views=Views(),
            shuffle=True,
            drop_last=True,
            workers=WORKERS,
        )
        transform = v2.Compose([v2.Resize(SIDE), v2.CenterCrop(SIDE), v2.PILToTensor()])
        theirs: DataLoader[Any] = DataLoader(
            ImageFolder(folder, transform),
            batch_size=setting.batch,
            shuffle=True,
            drop_last=True,
            num_workers=WORKERS,
            persistent_workers=True,
        )
        runs = {OURS: partial(read_all, ours), TORCHVISION: partial(read_all, theirs)}
        seconds = alternate(runs, rounds=setting.rounds_or(7), warm_up=1)
        ours.close()
    images = len(ours) * setting.batch
    return [
        {
            "loader": name,
            "file": f"{size[0]} x {size[1]}",
            "batch": setting.batch,
            "workers": WORKERS,
            "images_per_second": images / spread(seconds[name])["median"],
            "ratio": pair_ratios(seconds[TORCHVISION], seconds[name]),
        }
        for name in runs
    ]


def read_all(loader: Any) -> None:
    """Read all batches of an epoch."""
    for _ in loader:
        pass


def write_photographs(folder: Path, size: tuple[int, int], *, count: int) -> None:
    """Write JPEG files with the detail of photographs: noise at all scales."""
    width, height = size
    rng = np.random.default_rng(0)
    noise = sum(
        torch.nn.functional.interpolate(
            torch.from_numpy(rng.standard_normal((1, 3, height >> level, width >> level))), (height, width)
        )
        * 2**level
        for level in range(7)
    )
    assert isinstance(noise, torch.Tensor)
    base = (127 + 1.2 * noise[0].permute(1, 2, 0)).clamp(0, 255).to(torch.uint8).numpy()
    for number in range(count):
        target = folder / f"class{number % 2}" / f"{number:05}.jpg"
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(np.roll(base, number * 7, axis=1)).save(target, quality=90)
