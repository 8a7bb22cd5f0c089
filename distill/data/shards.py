"""Tar files in the format of WebDataset: find their files, and read the entries of a sample by their positions."""

from __future__ import annotations

import functools
import glob
import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from distill.errors import InputError
from distill.files import expand_home
from distill.untrusted import check_regular

#: Endings of the entries that are images, without the dot. No other entry but `cls` and `json` is read.
IMAGE_ENTRIES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "ppm", "pgm", "tif", "tiff")
#: Largest size of an entry with a label, in bytes.
LABEL_LIMIT = 1 << 20
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_REMOTE = re.compile(r"^(pipe:|[a-z][a-z0-9+.-]*://)", re.IGNORECASE)


class ShardEntry(NamedTuple):
    """An image in a tar file; it is read by its position, without the entries before it.

    Args:
        shard: The tar file.
        name: Name of the entry.
        offset: Position of its first byte in the file.
        size: Number of its bytes.
    """

    shard: Path
    name: str
    offset: int
    size: int

    def open(self) -> io.BytesIO:
        """Return the bytes of the entry as a file."""
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            return io.BytesIO(file.read(self.size))

    def __str__(self) -> str:
        return f"{self.shard}: {self.name}"


class Sample(NamedTuple):
    """The image of a sample, and its label as text; None if it has none."""

    image: ShardEntry
    label: str | None


def find_shards(patterns: str | Path | Sequence[str | Path], key: str) -> list[Path]:
    """Return the tar files of patterns with braces (``{0000..0012}``, ``{a,b}``) and wildcards, in order.

    Args:
        patterns: A pattern, or a list of patterns.
        key: The key of the configuration, for messages.

    Raises:
        InputError: If a file does not exist, is remote or compressed, or a pattern matches nothing.

    Example:
        >>> list(expand_braces("shards/{train,val}-{08..10}.tar"))[2:4]
        ['shards/train-10.tar', 'shards/val-08.tar']
    """
    listed = [patterns] if isinstance(patterns, str | Path) else patterns
    if not isinstance(listed, Sequence) or not listed or not all(isinstance(one, str | Path) for one in listed):
        raise InputError(f"`{key}`: expected a path or a list of paths of tar files, got {patterns!r}.")
    found: list[Path] = []
    for pattern in map(str, listed):
        if _REMOTE.match(pattern):
            raise InputError(
                f"`{key}`: {pattern} is not a path. Copy the shards to a disk: their images are read by position, so "
                "that every view can be repeated."
            )
        for path in expand_braces(expand_home(pattern)):
            matches = sorted(glob.glob(path)) if glob.has_magic(path) else [path]  # noqa: PTH207
            if not matches:
                raise InputError(f"`{key}`: no file matches {path}.")
            found += map(Path, matches)
    if missing := [path for path in found if not path.exists()]:
        names = ", ".join(map(str, missing[:10])) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        raise InputError(f"`{key}`: {len(missing)} of {len(found)} shards do not exist: {names}. Correct the pattern.")
    for shard in found:
        check_regular(shard)
    if len(set(found)) < len(found):
        raise InputError(f"`{key}`: a shard is named twice: {next(p for p in found if found.count(p) > 1)}.")
    return found


def expand_braces(pattern: str) -> Iterator[str]:
    """Yield the texts that a pattern with braces stands for, as a shell does."""
    braces = _BRACES.search(pattern)
    if braces is None:
        yield pattern
        return
    span = _RANGE.fullmatch(braces[1])
    parts: Sequence[str] = braces[1].split(",")
    if span:
        first, last = int(span[1]), int(span[2])
        width = len(span[1]) if span[1].startswith("0") else 0
        parts = [str(number).zfill(width) for number in range(first, last + 1)]
    for part in parts:
        yield from expand_braces(pattern[: braces.start()] + part + pattern[braces.end() :])


class Index(NamedTuple):
    """The samples of a tar file, and what is wrong with it; empty if it is complete."""

    samples: tuple[Sample, ...]
    problem: str


def read_index(path: Path, *, json_key: str) -> Index:
    """Read the positions of the images of a tar file, and the labels; the images are not read.

    Convention:
        - Entries with the same name up to the first dot of the last part are a sample. The label is the text of the
          entry ``cls``, or the value of ``json_key`` in the entry ``json``.
        - Entries of other kinds are not read, nor are links and folders. Nothing is unpacked.
        - The samples before a damaged place can be used.

    Args:
        path: The tar file, not compressed.
        json_key: Key of the label in ``json`` entries.

    Raises:
        InputError: If an entry with a label is too large or not valid, or a sample has two images.
    """
    stat = path.stat()
    return _read_index(path, json_key, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _read_index(path: Path, json_key: str, size: int, changed: int) -> Index:
    images: dict[str, ShardEntry] = {}
    labels: dict[str, str] = {}
    last, problem = "", ""
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            while (member := archive.next()) is not None:
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError(f"the file ends within the entry {member.name}")
                archive.members = []  # type: ignore[attr-defined]  # otherwise all headers stay in memory
                last = member.name
                key, ending = _split_name(member.name)
                if not member.isreg() or member.issparse():
                    continue
                if ending in IMAGE_ENTRIES:
                    if key in images:
                        raise InputError(f"{path}: {member.name}: the sample has another image, {images[key].name}.")
                    images[key] = ShardEntry(path, member.name, member.offset_data, member.size)
                elif ending == "cls" or (ending == "json" and key not in labels):
                    file.seek(member.offset_data)
                    labels[key] = _label(path, member.name, file.read(min(member.size, LABEL_LIMIT + 1)), json_key)
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("the mark of the end is missing")
    except InputError:
        raise
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        after = f", after the entry {last}" if last else ""
        problem = f"{path} is no tar file, is compressed, or is damaged{after}: {error}"
    if not images and not problem:
        problem = f"{path} has no image entry ({', '.join(IMAGE_ENTRIES)})"
    return Index(tuple(Sample(image, labels.get(key)) for key, image in images.items()), problem)


def _split_name(name: str) -> tuple[str, str]:
    """Return the key of a sample and the ending of an entry, which begins after the first dot of the last part."""
    folder, slash, last = name.rpartition("/")
    base, _, ending = last.partition(".")
    return f"{folder}{slash}{base}", ending.lower()


def _label(path: Path, name: str, content: bytes, json_key: str) -> str:
    where = f"{path}: {name}"
    if len(content) > LABEL_LIMIT:
        raise InputError(f"{where} is larger than {LABEL_LIMIT >> 20} MiB, the limit for a label.")
    try:
        text = content.decode("utf-8").strip()
        if name.lower().endswith(".cls"):
            return text
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where} is not valid: {str(error)[:200]}.") from error
    label = value.get(json_key) if isinstance(value, dict) else None
    if isinstance(label, bool) or not isinstance(label, str | int):
        raise InputError(f"{where} has no name or whole number under the key {json_key!r}; set `json_key`.")
    return str(label)
