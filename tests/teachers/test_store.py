"""Stores and journals return rows as they were written, by any process, also after the file was cut or damaged."""

from __future__ import annotations

import multiprocessing
import os
import tracemalloc
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
def test_added_rows_are_hits_and_all_others_are_misses(tmp_path: Path, on_disk: bool) -> None:
    store = made(tmp_path / "rows.bin" if on_disk else None)
    index, view = pairs(70)
    for i, v in zip(index[:50].split(7), view[:50].split(7), strict=True):
        store.add(i, v, rows(i, v))
    found = store.lookup(index, view)
    assert found.hits.tolist() == [True] * 50 + [False] * 20
    assert torch.equal(found.rows[:50], rows(index[:50], view[:50]))
    assert not found.rows[50:].any()
    assert len(store) == 50


@pytest.mark.parametrize("on_disk", [False, True])
def test_a_row_is_written_once(tmp_path: Path, on_disk: bool) -> None:
    store = made(tmp_path / "rows.bin" if on_disk else None)
    one = torch.tensor([4, 4]), torch.tensor([2, 2])
    store.add(*one, torch.tensor([[1.0, 2, 3], [7, 7, 7]]))
    store.add(*one, torch.full((2, 3), 9.0))
    assert store.lookup(*one).rows.tolist() == [[1, 2, 3], [1, 2, 3]]


def test_another_run_finds_all_rows(tmp_path: Path) -> None:
    index, view = pairs(30)
    made(tmp_path / "rows.bin").add(index, view, rows(index, view))
    again = made(tmp_path / "rows.bin")
    assert len(again) == 30
    assert torch.equal(again.lookup(index, view).rows, rows(index, view))


def test_a_file_that_was_deleted_and_filled_again_is_read_from_its_start(tmp_path: Path) -> None:
    path, (index, view) = tmp_path / "rows.bin", pairs(30)
    made(path).add(index[:20], view[:20], rows(index[:20], view[:20]))
    reader = made(path)
    path.unlink()
    made(path).add(index[15:], view[15:], rows(index[15:], view[15:]))
    found = reader.lookup(index, view)
    assert found.hits[15:].all()
    assert not found.hits[:15].any()
    assert torch.equal(found.rows[15:], rows(index[15:], view[15:]))
    path.unlink()
    assert reader.lookup(index[15:], view[15:]).hits.all()  # all are hits, so the deletion is not noticed yet
    assert not reader.lookup(index, view).hits.any()


def test_rows_that_another_process_adds_later_are_found(tmp_path: Path) -> None:
    reader, writer = made(tmp_path / "rows.bin"), made(tmp_path / "rows.bin")
    index, view = pairs(10)
    assert not reader.lookup(index, view).hits.any()
    writer.add(index, view, rows(index, view))
    assert torch.equal(reader.lookup(index, view).rows, rows(index, view))


def _fill(path: Path, seed: int) -> None:
    store = made(path)
    index, view = pairs(120, seed)
    for i, v in zip(index.split(5), view.split(5), strict=True):
        missing = ~store.lookup(i, v).hits
        store.add(i[missing], v[missing], rows(i[missing], v[missing]))


def test_the_first_row_of_several_processes_counts(tmp_path: Path) -> None:
    first, second = made(tmp_path / "rows.bin"), made(tmp_path / "rows.bin")
    view = torch.tensor([4]), torch.tensor([2])
    first.add(*view, torch.tensor([[1.0, 2, 3]]))
    second.add(*view, torch.tensor([[9.0, 9, 9]]))  # it has not read the file since
    for store in (first, second, made(tmp_path / "rows.bin")):
        assert store.lookup(*view).rows.tolist() == [[1, 2, 3]]


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
        found = made(path).lookup(index, view)
    assert found.hits.all()
    assert torch.equal(found.rows, rows(index, view))


@pytest.mark.parametrize("cut", [1, 13, 16, 17, 60])
def test_a_truncated_file_loses_its_last_chunk_and_can_be_appended_to(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "rows.bin"
    store = made(path)
    index, view = pairs(12)
    for i, v in zip(index.split(4), view.split(4), strict=True):
        store.add(i, v, rows(i, v))
    os.truncate(path, path.stat().st_size - cut)
    torn = made(path)
    assert torn.lookup(index, view).hits.tolist() == [True] * 8 + [False] * 4
    with pytest.warns(UserWarning, match=r"removed the last \d+ bytes of .*, which are not complete rows"):
        torn.add(index[8:], view[8:], rows(index[8:], view[8:]))
    assert torch.equal(made(path).lookup(index, view).rows, rows(index, view))


def _damage(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 0xFF]))


@pytest.mark.parametrize("part", ["row", "header"])
def test_a_damaged_chunk_is_detected_and_written_again(tmp_path: Path, part: str) -> None:
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
        hits = again.lookup(index, view).hits
        assert hits.tolist() == [True] * 4 + [False] * 4 + [part == "row"] * 4
        again.add(index[~hits], view[~hits], rows(index[~hits], view[~hits]))
        assert torch.equal(again.lookup(index, view).rows, rows(index, view))
        assert torch.equal(made(path).lookup(index, view).rows, rows(index, view))
        # A store that had read the file before the damage still has its rows.
        assert torch.equal(store.lookup(index[:4], view[:4]).rows, rows(index[:4], view[:4]))


def test_damage_gives_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "rows.bin"
    made(path).add(torch.tensor([1]), torch.tensor([1]), torch.ones(1, 3))
    _damage(path, 20)
    with pytest.warns(UserWarning, match="1 rows of .* are damaged; they will be computed again"):
        made(path)


def test_a_folder_of_another_key_is_refused(tmp_path: Path) -> None:
    journal = open_journal(tmp_path, {"teacher": "a"}, width=2)
    assert open_journal(tmp_path, {"teacher": "a"}, width=2).path == journal.path
    assert open_journal(tmp_path, {"teacher": "b"}, width=2).path != journal.path
    key = journal.path.with_name("key.json")
    key.write_text(key.read_text().replace('"a"', '"c"'))
    message = r"contains the outputs of another teacher or for other data \(teacher differ\)"
    with pytest.raises(InputError, match=message):
        open_journal(tmp_path, {"teacher": "a"}, width=2)
    key.write_text("{")
    with pytest.raises(InputError, match=r"cannot read or write .*key\.json"):
        open_journal(tmp_path, {"teacher": "a"}, width=2)


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_error_about_too_little_space_names_the_views_that_fit(
    tmp_path: Path, on_disk: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill.teachers.cache._free", lambda folder: 1_000_000)
    folder = tmp_path if on_disk else None
    each = 4 * 100 + 8
    fit = int(MAX_SHARE_OF_FREE * 1_000_000) // (500 * each)
    assert fit == 4
    assert estimate_size(2000, images=500, width=100, cached=0, folder=folder).bytes == 2000 * each
    with pytest.raises(InputError, match=rf"1.6 MB .*Set data.augment.views={fit} \(the most that fits\), another"):
        estimate_size(4000, images=500, width=100, cached=0, folder=folder)
    assert estimate_size(4000, images=500, width=100, cached=2000, folder=folder).cached == 2000
    with pytest.raises(InputError, match=r"Not even one view per image fits\. Set another teacher.cache_dir"):
        estimate_size(40_000, images=40_000, width=100, cached=0, folder=folder)


def test_keys_outside_the_set_are_ignored(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "rows.bin", WIDTH)
    journal.append(np.array([5, 10_000, -3]), np.ones((3, WIDTH), np.float32))
    assert len(made(tmp_path / "rows.bin")) == 1


@pytest.mark.parametrize("count", [0x7FFFFFFF, 0xFFFFFFFF])
def test_a_header_that_claims_huge_counts_takes_no_memory(tmp_path: Path, count: int) -> None:
    journal = open_journal(tmp_path, {"a": 1}, width=4)
    journal.append(np.array([0]), np.ones((1, 4), np.float32))
    with journal.path.open("ab") as file:
        file.write(b"VIEW" + count.to_bytes(4, "little") + (4).to_bytes(4, "little") + bytes(100))
    tracemalloc.start()
    chunks = list(open_journal(tmp_path, {"a": 1}, width=4).read_new())
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert [chunk.keys.tolist() for chunk in chunks] == [[0]]


@pytest.mark.parametrize("text", ["[]", "3", "[" * 100_000, "{"])
def test_a_damaged_key_is_one_error(tmp_path: Path, text: str) -> None:
    (folder,) = (open_journal(tmp_path, {"a": 1}, width=4).path.parent,)
    (folder / "key.json").write_text(text)
    with pytest.raises(InputError, match=rf"^teacher\.cache_dir: cannot read or write {folder}/key\.json"):
        open_journal(tmp_path, {"a": 1}, width=4)
