"""Records with a checksum: what is written comes back, and what was changed does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.checksums import hash_file, read_checked, save_checked
from distill.errors import InputError

RECORD = {"accuracy": 0.1, "names": ["a", "ü"], "nested": {"b": None, "a": 1}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return save_checked(RECORD, tmp_path / "a.json")


def test_a_record_comes_back_without_its_checksum(path: Path) -> None:
    assert read_checked(path, remedy="") == RECORD
    assert '"checksum"' in path.read_text()


def test_a_record_without_a_checksum_is_read(path: Path) -> None:
    path.write_text('{"accuracy": 0.1}')
    assert read_checked(path, remedy="") == {"accuracy": 0.1}


@pytest.mark.parametrize(
    ("old", "new"),
    [("0.1", "0.2"), ('"a"', '"b"'), ("null", "0"), ('"checksum"', '"chacksum"'), ('"checksum": "', '"checksum": "0')],
)
def test_every_change_is_noticed(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=rf"^{path} was changed or damaged after it was written: .* Repair it\.$"):
        read_checked(path, remedy="Repair it.")


def test_other_spaces_change_nothing(path: Path) -> None:
    path.write_text(path.read_text().replace("\n", " \n"))
    assert read_checked(path, remedy="") == RECORD


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"^no file {tmp_path}/b\.json\. Repair it\.$"):
        read_checked(tmp_path / "b.json", remedy="Repair it.")
    with pytest.raises(InputError, match=rf"^no file {tmp_path}/b\.json\.$"):
        hash_file(tmp_path / "b.json")
