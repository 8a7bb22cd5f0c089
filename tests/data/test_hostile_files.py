"""Files that claim huge sizes, pipes and dangling links are refused before memory is taken or a read waits."""

from __future__ import annotations

import gzip
import os
import resource
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from distill.data.datasets import load_split
from distill.data.idx import read_idx
from distill.data.image_files import decode_images, fingerprint
from distill.data.image_input import read_image
from distill.errors import InputError


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Let the process take at most 1 GiB more of memory."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def huge_png(path: Path, side: int = 13_000) -> Path:
    """A black image of a few hundred kilobytes."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 3 * side)) for _ in range(side)) + packer.flush()
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows[: 1 << 16]) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.usefixtures("little_memory")
def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = huge_png(tmp_path / "a.png", 9000)
    for read in (lambda: read_image(path, "a.png"), lambda: decode_images([path], 16)):
        with pytest.raises(InputError, match=rf"^{path} has 9000 x 9000 pixels, more than the limit of 64 x 2\^20\."):
            read()


def test_a_large_jpeg_file_is_decoded_at_a_lower_resolution(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8200, 8200), np.uint8)).save(tmp_path / "a.jpg")
    assert decode_images([tmp_path / "a.jpg"], 16).shape == (1, 3, 16, 16)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("zipped", [False, True])
def test_an_idx_header_of_huge_counts_is_refused(tmp_path: Path, zipped: bool) -> None:
    content = bytes([0, 0, 8, 3]) + np.array([0x7FFFFFFF, 28, 28], ">u4").tobytes() + bytes(1000)
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(InputError, match=rf"^{path} has the wrong length: its header requires 1683627179264 bytes"):
        read_idx(path)


@pytest.mark.usefixtures("little_memory")
def test_no_more_is_decompressed_than_the_header_requires(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    with gzip.open(path, "wb") as file:
        file.write(bytes([0, 0, 8, 1]) + np.array([10], ">u4").tobytes())
        for _ in range(2048):
            file.write(bytes(1 << 20))
    with pytest.raises(InputError, match=rf"^{path} has the wrong length: its header requires 18 bytes, it has more"):
        read_idx(path)


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_only_regular_files_of_an_image_folder_are_read(tmp_path: Path, kind: str) -> None:
    for name in ("ants", "bees"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{i}.png")
    path = tmp_path / "ants" / "x.png"
    if kind == "pipe":
        os.mkfifo(path)
        message = rf"^{path} is a pipe, not a regular file\.$"
    else:
        path.symlink_to(tmp_path / "gone.png")
        message = rf"^no file {path}\. It is a link to {tmp_path}/gone\.png, which does not exist\.$"
    with pytest.raises(InputError, match=message):
        load_split("image_folder", "train", root=tmp_path, size=8, validation=0.0, test=0.0)
    with pytest.raises(InputError, match=message):
        fingerprint("image_folder", {"root": tmp_path})
    with pytest.raises(InputError, match=message):
        read_image(path, "x.png")
    with pytest.raises(InputError, match=message):
        read_idx(path)
