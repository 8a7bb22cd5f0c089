"""The data set `webdataset`: images and labels in tar files, which are read by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from distill.data.fashion_scenes import Split
from distill.data.file_set import OnError, check_options, file_set, listed
from distill.data.imageset import ImageSet
from distill.data.partition import split_rows
from distill.data.resizing import Canvas, Resize
from distill.data.shards import Sample, ShardEntry, find_shards, read_index
from distill.data.table_file import class_numbers
from distill.errors import InputError, warn_input

Patterns = str | Path | Sequence[str | Path]


def webdataset(
    split: Split,
    *,
    shards: Patterns,
    size: int,
    validation_shards: Patterns | None = None,
    test_shards: Patterns | None = None,
    json_key: str = "label",
    classes: Sequence[str] | None = None,
    validation: float = 0.1,
    test: float | None = None,
    seed: int = 0,
    in_memory: bool | None = None,
    background: Canvas = "black",
    resize: Resize = "crop",
    on_error: OnError = "fail",
) -> ImageSet:
    """Images and labels in tar files (shards) in the format of WebDataset, on a local disk.

    ``shards`` are the paths of the training shards, with braces (``train-{0000..0146}.tar``) and wildcards, or a list
    of them; ``validation_shards`` and ``test_shards`` those of the other splits. A split without shards of its own is
    a fraction of the training samples, ``validation`` or ``test``. The label of a sample is the text of its entry
    ``cls``, or the value of ``json_key`` in its entry ``json``: a name, or a number; ``classes`` names the classes in
    order. With ``on_error: skip``, samples without a label are left out as well. The other options are those of
    ``image_folder``.
    """
    check_options(size=size, background=background, resize=resize, on_error=on_error)
    given = {"train": shards, "validation": validation_shards, "test": test_shards}
    samples: list[Sample] = []
    splits: list[str] = []
    for name, patterns in given.items():
        if patterns is None:
            continue
        key = "shards" if name == "train" else f"{name}_shards"
        for path in find_shards(patterns, key):
            index = read_index(path, json_key=json_key)
            if index.problem and on_error == "fail":
                raise InputError(f"{index.problem}. Write it again, or use what is readable with `data.on_error=skip`.")
            if index.problem:
                warn_input(f"{index.problem}; {len(index.samples)} samples of it are used.")
            samples += index.samples
            splits += [name] * len(index.samples)
    missing = [row for row, sample in enumerate(samples) if not sample.label]
    _check_labels([samples[row].image for row in missing], len(samples), on_error)
    unlabelled = tuple(str(samples[row].image) for row in missing if splits[row] == split)
    splits = [name for name, sample in zip(splits, samples, strict=True) if sample.label]
    samples = [sample for sample in samples if sample.label]
    labels, names = class_numbers(Path(str(shards)), [str(sample.label) for sample in samples], classes)
    numbers = torch.tensor(labels, dtype=torch.int64)
    rows = split_rows(numbers, splits, split, name=str(shards), validation=validation, test=test, seed=seed)
    data = file_set(
        [samples[row].image for row in rows.tolist()],
        numbers[rows],
        names,
        split=split,
        size=size,
        in_memory=in_memory,
        background=background,
        resize=resize,
        on_error=on_error,
    )
    return replace(data, skipped=(*data.skipped, *unlabelled))


def _check_labels(missing: Sequence[ShardEntry], count: int, on_error: OnError) -> None:
    """Warn about images without a label, which are left out.

    Raises:
        InputError: If they are an error, or no image has a label.
    """
    if not missing:
        return
    problem = f"{len(missing)} of {count} samples have no label, an entry cls or json: {listed(missing)}"
    if on_error == "fail" or len(missing) == count:
        raise InputError(f"{problem}. Add it, or leave such samples out with `data.on_error=skip`.")
    warn_input(f"{problem}; they are skipped.")
