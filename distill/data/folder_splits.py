"""Find the split folders and class folders of a folder of images by the usual names."""

from __future__ import annotations

from pathlib import Path

from distill.errors import InputError

#: Usual names of the folders of a split, in any case.
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
#: Folders that archives and file servers add; so do all names that begin with a dot.
_HIDDEN = ("__MACOSX", "@eaDir", "$RECYCLE.BIN")


def is_hidden(path: Path) -> bool:
    """Return whether a relative path has a hidden part, such as ``.ipynb_checkpoints``, ``._a.png`` or ``__MACOSX``.

    Example:
        >>> is_hidden(Path("cat/.ipynb_checkpoints/a.png")), is_hidden(Path("cat/a.png"))
        (True, False)
    """
    return any(part in _HIDDEN or part.startswith(".") for part in path.parts)


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder that are not hidden, sorted by name."""
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not is_hidden(Path(entry.name)))


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split that a folder contains; empty if it contains class folders.

    Convention:
        - A folder with the name of a split that has files but no sub-folders is a class, such as ``train`` beside
          ``bus``.

    Args:
        root: A folder of class folders, or of split folders with class folders.

    Raises:
        InputError: If a split has two folders, there is no training folder, or there are other folders beside the
            splits.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("Train/cat", "Train/dog", "dev/cat", "dev/dog"):
        ...         (Path(folder) / name).mkdir(parents=True)
        ...     {split: path.name for split, path in split_folders(Path(folder)).items()}
        {'train': 'Train', 'validation': 'dev'}
    """
    if not root.is_dir():
        return {}
    found: dict[str, Path] = {}
    others = []
    for folder in subfolders(root):
        split = next((split for split, names in SPLIT_NAMES.items() if folder.name.lower() in names), None)
        if split is None or _is_class(folder):
            others.append(folder.name)
        elif split in found:
            raise InputError(
                f"{root} has two folders for the split {split}: {found[split].name} and {folder.name}. Keep one of "
                "them, or merge them."
            )
        else:
            found[split] = folder
    if found and "train" not in found:
        raise InputError(
            f"{root} has the split folder {next(iter(found.values())).name}, but no folder train. Add it, or set "
            "`root` to a folder of class folders."
        )
    if found and others:
        raise InputError(
            f"{root} has split folders ({', '.join(folder.name for folder in found.values())}) and other folders: "
            f"{', '.join(others[:5])}{', ...' if len(others) > 5 else ''}. The names of splits are "
            f"{', '.join(name for names in SPLIT_NAMES.values() for name in names)}; rename the others, or move them "
            "away."
        )
    return found


def check_class_folders(folder: Path, classes: list[Path]) -> None:
    """Raise an error if the class folders look like splits or groups, with the classes one level below.

    Raises:
        InputError: If no class folder has files of its own, and all have the same two or more sub-folders.
    """
    inner = [[path.name for path in subfolders(one)] for one in classes]
    if len(classes) < 2 or len(inner[0]) < 2 or any(names != inner[0] for names in inner) or any(map(_files, classes)):
        return
    raise InputError(
        f"all class folders of {folder} ({', '.join(path.name for path in classes[:5])}"
        f"{', ...' if len(classes) > 5 else ''}) contain the same folders: {', '.join(inner[0][:5])}"
        f"{', ...' if len(inner[0]) > 5 else ''}. If these are the classes, set `root` to one of the upper folders, or "
        f"use the names of splits (train, validation, test) for them; otherwise, move the images up into "
        f"{folder / classes[0].name}."
    )


def _is_class(folder: Path) -> bool:
    return not subfolders(folder) and _files(folder)


def _files(folder: Path) -> bool:
    return any(not entry.is_dir() and not is_hidden(Path(entry.name)) for entry in folder.iterdir())
