"""Ways in which a file is damaged."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

#: Values of a wrong type, for a random place in a record.
WRONG: tuple[Any, ...] = (None, True, -1, 7.5, 10**400, "0.99", "", "\ud800", [], {}, [[]], {"a": {}}, [1] * 3)
_PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\x00\x00\x00"
_OTHER = (b"PK\x03\x04" + bytes(200), _PNG, b"\x93NUMPY", b'{"format": 1}', b"hello\n", b"\x80\x04\x95", b"PAR1", b"[]")


def _truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def _flipped(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _huge(content: bytes, rng: random.Random) -> bytes:
    """Replace 4 or 8 bytes, often near one of the ends, where formats keep their counts."""
    size = rng.choice((4, 8))
    place = rng.choice((rng.randrange(64), max(len(content) - 1 - rng.randrange(64), 0), rng.randrange(len(content))))
    number = rng.choice((b"\x7f" + b"\xff" * (size - 1), b"\xff" * (size - 1) + b"\x7f", b"\xff" * size))
    return content[:place] + number + content[place + size :]


def _not_utf8(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + rng.choice((b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\x00")) + content[place:]


def _leaves(value: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of every place in nested values."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [leaf for key, part in items for leaf in [(value, key), *_leaves(part)]]


def _change_record(content: bytes, rng: random.Random, replacement: Any, *, sealed: bool) -> bytes:
    try:
        record = json.loads(content)
        dump: Callable[[Any], str] = json.dumps
    except ValueError:
        record, dump = yaml.safe_load(content), yaml.safe_dump
    places = _leaves(record)
    container, key = rng.choice(places)
    container[key] = replacement
    if not sealed and isinstance(record, dict):
        for name in ("checksum", "sha256", "config", "metrics"):
            record.pop(name, None)
    return dump(record).encode("utf-8", "surrogatepass")


def _wrong_type(content: bytes, rng: random.Random) -> bytes:
    return _change_record(content, rng, rng.choice(WRONG), sealed=True)


def _wrong_type_unsealed(content: bytes, rng: random.Random) -> bytes:
    return _change_record(content, rng, rng.choice(WRONG), sealed=False)


def _nan(content: bytes, rng: random.Random) -> bytes:
    return _change_record(content, rng, rng.choice((float("nan"), float("inf"), -float("inf"))), sealed=True)


Mutation = Callable[[bytes, random.Random], bytes]
#: By name; those of the second group apply to JSON and YAML only.
OF_BYTES: dict[str, Mutation] = {
    "truncated": _truncated,
    "bits flipped": _flipped,
    "huge sizes": _huge,
    "not UTF-8": _not_utf8,
    "another kind": lambda content, rng: rng.choice(_OTHER),
    "empty": lambda content, rng: b"",
    "deep nesting": lambda content, rng: rng.choice((b"[", b'{"a":', b"- ", b"[[{a: ")) * 100_000,
}
OF_RECORDS: dict[str, Mutation] = {
    "wrong type": _wrong_type,
    "wrong type, no checksum": _wrong_type_unsealed,
    "NaN": _nan,
}
#: Damages of the place of the file instead of its bytes.
OF_PLACES: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "a link to nothing": lambda path: path.symlink_to(path.with_name("gone")),
}


def remove(path: Path) -> None:
    """Remove whatever is in the place of a file."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def damage(path: Path, kind: str, rng: random.Random) -> None:
    """Damage a file."""
    content = path.read_bytes()
    if kind in OF_PLACES:
        path.unlink()
        OF_PLACES[kind](path)
    else:
        path.write_bytes((OF_BYTES | OF_RECORDS)[kind](content, rng))
