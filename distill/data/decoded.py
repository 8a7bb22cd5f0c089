"""Images that stay in their files: decoded when they are asked for, by whoever asks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from distill.data.folders import decode_images


class DecodedImages:
    """Stand in for a tensor of images (N, 3, size, size) of which only what is indexed is ever in memory.

    Args:
        files: The image files.
        size: Height and width that they are given, see :func:`distill.data.folders.decode_images`.

    Example:
        >>> DecodedImages([Path("a.png"), Path("b.png")], 32).shape
        torch.Size([2, 3, 32, 32])
    """

    dtype, ndim = torch.uint8, 4

    def __init__(self, files: Sequence[Path], size: int) -> None:
        self.files, self.size = list(files), size

    def __len__(self) -> int:
        return len(self.files)

    def as_tensor(self) -> UInt8[Tensor, "n 3 s s"]:
        """Take the place of the tensor that it stands in for, in an :class:`~distill.data.ImageSet`."""
        return cast(Tensor, self)

    @property
    def shape(self) -> torch.Size:
        """Number, channels, height, width."""
        return torch.Size((len(self.files), 3, self.size, self.size))

    def __getitem__(self, index: slice | int | Int[Tensor, " m"]) -> UInt8[Tensor, "..."]:
        """Decode some of the images.

        Raises:
            InputError: if one cannot be decoded; it is named.
        """
        if isinstance(index, int):
            return decode_images([self.files[index]], self.size)[0]
        files = self.files[index] if isinstance(index, slice) else [self.files[i] for i in index.tolist()]
        return decode_images(files, self.size)

    def split(self, size: int) -> Iterator[UInt8[Tensor, "m 3 s s"]]:
        """Decode all, so many at a time."""
        return (self[start : start + size] for start in range(0, len(self), size))

    def checksum(self) -> int:
        """Tell one set of files from another, by their paths, sizes and times; nothing is decoded."""
        facts = [f"{path.resolve()} {(s := path.stat()).st_size} {s.st_mtime_ns}" for path in self.files]
        return zlib.crc32("\n".join([str(self.size), *facts]).encode())


def same(one: object, other: object) -> bool:
    """Tell whether two sets hold the same images: the same pixels, or the same files."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return torch.equal(one, other)
    if isinstance(one, DecodedImages) and isinstance(other, DecodedImages):
        return one.size == other.size and [p.resolve() for p in one.files] == [p.resolve() for p in other.files]
    return False
