#!/usr/bin/env python3
"""Select the 12,000 Fashion-MNIST items that ship with the package.

Per class: the first 900 items of the train file for training, its next 100 for validation, and the first 200 of the
t10k file for testing. They are stored in the order train, validation, test. Within a split the classes alternate: item
``i`` has class ``i % 10``, so the first items of a split are balanced.

    python scripts/make_fashion_items.py [FOLDER] [--output FILE]

FOLDER has the four IDX files, for example that of Debian's package dataset-fashion-mnist.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distill.data.idx import read_pair

CLASSES = 10
PER_CLASS = {"train": slice(0, 900), "validation": slice(900, 1000), "test": slice(0, 200)}
ASSET = Path(__file__).parents[1] / "distill" / "data" / "assets" / "fashion_items.npz"


def choose(labels: NDArray[np.uint8], part: slice) -> NDArray[np.intp]:
    """Return the positions of the items ``part`` of every class, with the classes alternating."""
    return np.stack([np.flatnonzero(labels == c)[part] for c in range(CLASSES)], axis=1).ravel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--output", type=Path, default=ASSET)
    arguments = parser.parse_args()

    images, labels = [], []
    for split, part in PER_CLASS.items():
        all_images, all_labels = read_pair(arguments.folder, "t10k" if split == "test" else "train")
        chosen = choose(all_labels, part)
        images.append(all_images[chosen])
        labels.append(all_labels[chosen])
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arguments.output, images=np.concatenate(images), labels=np.concatenate(labels))
    size = arguments.output.stat().st_size
    print(f"{arguments.output}: {sum(map(len, labels))} items, {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
