"""Files from strangers: names that need an import, kinds of files, sizes, JSON, terminal escapes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from distill.errors import InputError
from distill.untrusted import Trust, check_regular, printable, read_json, read_text


def test_only_names_that_the_user_wrote_are_imported() -> None:
    trust = Trust.in_names(["mynets:tiny", "wrn_16_2", None])
    assert trust.names == {"mynets:tiny"}
    trust.check("mynets:tiny", "student.json", "--network")
    Trust(everything=True).check("evil:run", "student.json", "--network")
    with pytest.raises(InputError, match=r"^student\.json asks to import 'evil:run', which executes code"):
        trust.check("evil:run", "student.json", "--network")


@pytest.mark.parametrize("kind", ["a pipe", "a socket", "a folder", "a device"])
def test_what_is_no_regular_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind == "a folder":
        path.mkdir()
    else:
        path = Path("/dev/zero")
    with pytest.raises(InputError, match=f"{path} is {kind}, not a regular file"):
        check_regular(path)
    with pytest.raises(InputError, match=f"{path} is {kind}, not a regular file"):
        read_json(path)


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to(tmp_path / "gone")
    with pytest.raises(
        InputError, match=f"no file {tmp_path}/x. It is a link to {tmp_path}/gone, which does not exist"
    ):
        check_regular(tmp_path / "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"a": NaN}', "contains NaN, which JSON does not have"),
        (b'{"a": 1', "is not valid JSON: "),
        (b'{"a": 1e999}', "is not valid JSON: 1e999 is too large a number"),
        (b'{"a": "\\ud800"}', "is not valid JSON: .*surrogates not allowed"),
        (b"", "is not valid JSON: "),
        (b"\xff\xfe", "is not a text file: byte 0 is not UTF-8"),
    ],
)
def test_what_is_not_json_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_json(path)


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # one TiB that takes no space
    with pytest.raises(InputError, match="larger than 256 MiB"):
        read_text(path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mred", r"a\x1b[31mred"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\x00", r"a\rb\x00"),
        ("\u202eabc", r"\u202eabc"),
        ("Größe 猫\n\tx", "Größe 猫\n\tx"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown
