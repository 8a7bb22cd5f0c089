"""Where the pictures of explained images go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from distill.errors import InputError
from distill.explanations.drawing import SOFTWARE, draw
from distill.explanations.record import ImageExplanation


def output_paths(images: Sequence[Path | str], folder: Path | str) -> list[Path]:
    """Choose a file for the picture of every image: ``<stem>_explained.png``, numbered where two would collide.

    Raises:
        InputError: if a file of that name is there and is not one of these pictures, or is one of the images.

    Example:
        >>> [path.name for path in output_paths(["a/boot.png", "b/boot.jpg"], "out")]
        ['boot_explained.png', 'boot_explained_2.png']
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the pictures.")
    given = {Path(image).resolve() for image in images}
    paths: list[Path] = []
    for image in images:
        stem, number = f"{Path(image).stem}_explained", 1
        while (path := folder / f"{stem}{f'_{number}' if number > 1 else ''}.png") in paths:
            number += 1
        paths.append(path)
    for path in paths:
        if path.resolve() in given or (path.exists() and not _is_ours(path)):
            raise InputError(
                f"{path} is there already and is no picture of `distill explain`, or one of the images; choose another "
                "folder."
            )
    return paths


def save_explanations(explanations: Sequence[ImageExplanation], paths: Sequence[Path]) -> None:
    """Draw every explanation into its file; each appears whole or not at all."""
    for explanation, path in zip(explanations, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_bytes(draw(explanation))
        part.replace(path)


def _is_ours(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.info.get("Software") == SOFTWARE
    except (UnidentifiedImageError, OSError):
        return False
