"""Rows by image and view: found as they were written, whoever wrote them and whatever happened to the file."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from distill.errors import InputError
from distill.teachers import (
    Journal,
    ViewStore,
    estimate_size,
    open_journal,
)
from distill.teachers.cache import MAX_SHARE_OF_FREE

WIDTH = 3


def row(index: int, view: int) -> list[float]:
    return [index + 0.5, view + 0.25, index * 100.0 + view]


def rows(index: Tensor, view: Tensor) -> Tensor:
    return torch.tensor([row(i, v) for i, v in zip(index.tolist(), view.tolist(), strict=True)])


def made(path: Path | None, images: int = 20, views: int = 6) -> ViewStore:
    return ViewStore(images=images, views=views, width=WIDTH, journal=Journal(path, WIDTH) if path else None)


def pairs(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randperm(120, generator=generator)[:n]
    return keys // 6, keys % 6


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_was_added_is_found_and_nothing_else(tmp_path: Path, on_disk: bool) -> None:
    store = made(tmp_path / "rows.bin" if on_disk else None)
    index, view = pairs(70)
    for i, v in zip(index[:50].split(7), view[:50].split(7), strict=True):
        store.add(i, v, rows(i, v))
    found = store.find(index, view)
    assert found.known.tolist() == [True] * 50 + [False] * 20
    assert torch.equal(found.rows[:50], rows(index[:50], view[:50]))
    assert not found.rows[50:].any()
    assert len(store) == 50


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_row_is_written_once(tmp_path: Path, on_disk: bool) -> None:
    store = made(tmp_path / "rows.bin" if on_disk else None)
    one = torch.tensor([4, 4]), torch.tensor([2, 2])
    store.add(*one, torch.tensor([[1.0, 2, 3], [7, 7, 7]]))
    store.add(*one, torch.full((2, 3), 9.0))
    assert store.find(*one).rows.tolist() == [[1, 2, 3], [1, 2, 3]]


def test_another_run_finds_all_of_it(tmp_path: Path) -> None:
    index, view = pairs(30)
    made(tmp_path / "rows.bin").add(index, view, rows(index, view))
    again = made(tmp_path / "rows.bin")
    assert len(again) == 30
    assert torch.equal(again.find(index, view).rows, rows(index, view))


def test_a_file_that_was_deleted_and_filled_again_is_read_anew(tmp_path: Path) -> None:
    path, (index, view) = tmp_path / "rows.bin", pairs(30)
    made(path).add(index[:20], view[:20], rows(index[:20], view[:20]))
    reader = made(path)
    path.unlink()
    made(path).add(index[15:], view[15:], rows(index[15:], view[15:]))
    found = reader.find(index, view)
    assert found.known[15:].all()
    assert not found.known[:15].any()
    assert torch.equal(found.rows[15:], rows(index[15:], view[15:]))
    path.unlink()
    assert reader.find(index[15:], view[15:]).known.all()  # who holds the old file has it as long as it lasts
    assert not reader.find(index, view).known.any()


def test_what_another_process_adds_later_is_found(tmp_path: Path) -> None:
    reader, writer = made(tmp_path / "rows.bin"), made(tmp_path / "rows.bin")
    index, view = pairs(10)
    assert not reader.find(index, view).known.any()
    writer.add(index, view, rows(index, view))
    assert torch.equal(reader.find(index, view).rows, rows(index, view))


def _fill(path: Path, seed: int) -> None:
    store = made(path)
    index, view = pairs(120, seed)
    for i, v in zip(index.split(5), view.split(5), strict=True):
        missing = ~store.find(i, v).known
        store.add(i[missing], v[missing], rows(i[missing], v[missing]))


def test_two_processes_that_fill_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.bin"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fill, args=(path, seed)) for seed in (1, 2, 3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    index, view = pairs(120)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = made(path).find(index, view)
    assert found.known.all()
    assert torch.equal(found.rows, rows(index, view))


@pytest.mark.parametrize("cut", [1, 13, 16, 17, 60])
def test_a_file_cut_short_loses_its_last_chunk_and_grows_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "rows.bin"
    store = made(path)
    index, view = pairs(12)
    for i, v in zip(index.split(4), view.split(4), strict=True):
        store.add(i, v, rows(i, v))
    os.truncate(path, path.stat().st_size - cut)
    torn = made(path)
    assert torn.find(index, view).known.tolist() == [True] * 8 + [False] * 4
    with pytest.warns(UserWarning, match="are no whole rows and were dropped"):
        torn.add(index[8:], view[8:], rows(index[8:], view[8:]))
    assert torch.equal(made(path).find(index, view).rows, rows(index, view))


def _damage(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0xFF]))


@pytest.mark.parametrize("part", ["row", "header"])
def test_a_damaged_chunk_is_noticed_and_made_again(tmp_path: Path, part: str) -> None:
    path = tmp_path / "rows.bin"
    store = made(path)
    index, view = pairs(12)
    for i, v in zip(index.split(4), view.split(4), strict=True):
        store.add(i, v, rows(i, v))
    size = path.stat().st_size // 3
    _damage(path, size + (40 if part == "row" else 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = made(path)
        known = again.find(index, view).known
        assert known.tolist() == [True] * 4 + [False] * 4 + [part == "row"] * 4
        again.add(index[~known], view[~known], rows(index[~known], view[~known]))
        assert torch.equal(again.find(index, view).rows, rows(index, view))
        assert torch.equal(made(path).find(index, view).rows, rows(index, view))
        # Who had read the file before it was damaged still has what it had, and goes on.
        assert torch.equal(store.find(index[:4], view[:4]).rows, rows(index[:4], view[:4]))


def test_damage_is_said(tmp_path: Path) -> None:
    path = tmp_path / "rows.bin"
    made(path).add(torch.tensor([1]), torch.tensor([1]), torch.ones(1, 3))
    _damage(path, 20)
    with pytest.warns(UserWarning, match="1 rows of .* are damaged; they are computed again"):
        made(path)


def test_the_rows_of_another_key_are_refused(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, {"teacher": "a"}, width=2)
    assert open_journal(tmp_path, {"teacher": "a"}, width=2).path == journal.path
    assert open_journal(tmp_path, {"teacher": "b"}, width=2).path != journal.path
    key = journal.path.with_name("key.json")
    key.write_text(key.read_text().replace('"a"', '"c"'))
    with pytest.raises(InputError, match=r"holds what another teacher or other data gave \(teacher differ\)"):
        open_journal(tmp_path, {"teacher": "a"}, width=2)
    key.write_text("{")
    with pytest.raises(InputError, match="cannot be used"):
        open_journal(tmp_path, {"teacher": "a"}, width=2)


@pytest.mark.parametrize("on_disk", [False, True])
def test_too_little_room_is_said_with_the_views_that_would_fit(
    tmp_path: Path, on_disk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.teachers.cache._free", lambda folder: 1_000_000)
    folder = tmp_path if on_disk else None
    each = 4 * 100 + 8
    fit = int(MAX_SHARE_OF_FREE * 1_000_000) // (500 * each)
    assert fit == 4
    assert estimate_size(2000, images=500, width=100, there=0, folder=folder).bytes == 2000 * each
    with pytest.raises(InputError, match=rf"816.0 kB|1.6 MB.*data.augment.views={fit} would fit"):
        estimate_size(4000, images=500, width=100, there=0, folder=folder)
    assert estimate_size(4000, images=500, width=100, there=2000, folder=folder).known == 2000
    with pytest.raises(InputError, match="not even one view"):
        estimate_size(40_000, images=40_000, width=100, there=0, folder=folder)


def test_keys_outside_the_set_are_left_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "rows.bin", WIDTH)
    journal.append(np.array([5, 10_000, -3]), np.ones((3, WIDTH), np.float32))
    assert len(made(tmp_path / "rows.bin")) == 1
