"""Tables of images: CSV and Parquet, columns by name or position, splits, boxes and mistakes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

import distill
from distill.config import identity, load
from distill.data import ImageSet, fingerprint, load_split
from distill.errors import InputError, InputWarning
from tests.e2e.helpers import QUIET

SHADES = {"ant": 30, "bee": 120, "cow": 210}


def make(folder: Path, n: int = 30, **columns: list[Any]) -> list[dict[str, Any]]:
    """Write ``n`` images whose grey value tells the class and the number, and return the rows of a table of them."""
    rows = []
    for i in range(n):
        label = list(SHADES)[i % 3]
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        pixels = np.full((10, 20, 3), SHADES[label] + i // 3, np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{i}.png")
        rows.append({"path": f"pictures/{i}.png", "label": label, **{k: v[i % len(v)] for k, v in columns.items()}})
    return rows


def write(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> Path:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
        return path
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(path: Path, split: str = "train", **options: Any) -> ImageSet:
    return load_split("table", split, **{"root": path, "size": 4, "test": 0.0, "validation": 0.0, **options})


def check(data: ImageSet) -> None:
    """Check that every image has the shade of its class."""
    for image, label in zip(data.images[:], data.labels.tolist(), strict=True):
        shade = SHADES[data.classes[label]]
        assert shade <= int(image.min()) == int(image.max()) < shade + 30


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.parquet", "")])
def test_all_kinds_of_tables_give_the_same_images(tmp_path: Path, name: str, delimiter: str, in_memory: bool) -> None:
    data = read(write(tmp_path / name, make(tmp_path), delimiter), in_memory=in_memory)
    assert data.classes == ("ant", "bee", "cow")
    assert data.labels.tolist() == [0, 1, 2] * 10
    check(data)
    assert data.boxes is None


def test_columns_are_named_or_numbered_and_paths_begin_in_a_folder(tmp_path: Path) -> None:
    rows = [{"id": i, "class": row["label"], "file": row["path"]} for i, row in enumerate(make(tmp_path / "photos"))]
    path = write(tmp_path / "table.csv", rows)
    named = read(path, images=tmp_path / "photos", path_column="file", label_column="class")
    numbered = read(path, images=str(tmp_path / "photos"), path_column=2, label_column=1)
    check(named)
    assert torch.equal(named.images, numbered.images)
    assert torch.equal(named.labels, numbered.labels)
    absolute = [{**row, "file": str(tmp_path / "photos" / row["file"])} for row in rows]
    again = read(write(tmp_path / "absolute.csv", absolute), path_column="file", label_column="class")
    assert torch.equal(named.images, again.images)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_numbers_are_positions_in_classes_or_values(tmp_path: Path, ending: str) -> None:
    rows = make(tmp_path)
    numbered = [{**row, "label": list(SHADES).index(row["label"])} for row in rows]
    data = read(write(tmp_path / f"a.{ending}", numbered), classes=["ant", "bee", "cow"])
    assert data.classes == ("ant", "bee", "cow")
    check(data)
    sparse = [{**row, "label": (7, 100, 20)[i % 3]} for i, row in enumerate(rows)]
    data = read(write(tmp_path / f"b.{ending}", sparse))
    assert data.classes == ("7", "20", "100")
    assert data.labels.tolist() == [0, 2, 1] * 10
    data = read(write(tmp_path / "c.csv", rows), classes=["cow", "ant", "bee", "dog"])
    assert data.labels.tolist() == [1, 2, 0] * 10


def test_a_split_column_decides_and_other_splits_are_fractions(tmp_path: Path) -> None:
    rows = make(tmp_path, split=["train", "Train", "train", "val", "training", "TEST"])
    path = write(tmp_path / "a.csv", rows)
    numbers = {}
    for split, names in (("train", ("train", "training")), ("validation", ("val",)), ("test", ("test",))):
        expected = [row for row in rows if row["split"].lower() in names]
        data = read(path, split)
        assert len(data) == len(expected)
        numbers[split] = len(data)
        check(data)
    assert sum(numbers.values()) == 30
    no_test = write(tmp_path / "b.csv", make(tmp_path, split=["train", "train", "train", "train", "valid"]))
    assert len(read(no_test, "validation")) == 6
    with pytest.raises(InputError, match="has no test split"):
        load_split("table", "test", root=no_test, size=4)
    assert len(load_split("table", "test", root=no_test, size=4, test=0.25)) == 6
    assert len(load_split("table", "train", root=no_test, size=4, test=0.25)) == 18
    other = write(tmp_path / "c.csv", [{**row, "fold": "dev" if i < 3 else "train"} for i, row in enumerate(rows)])
    assert len(read(other, "validation", split_column="fold")) == 3


def test_a_table_without_splits_is_divided_as_a_folder_is(tmp_path: Path) -> None:
    rows = make(tmp_path)
    path = write(tmp_path / "a.csv", rows)
    for row in rows:
        target = tmp_path / "folder" / row["label"] / Path(row["path"]).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((tmp_path / row["path"]).read_bytes())
    for split in ("train", "validation", "test"):
        options: dict[str, Any] = {"size": 4, "validation": 0.2, "test": 0.1, "seed": 3}
        mine = load_split("table", split, root=path, **options)
        other = load_split("image_folder", split, root=tmp_path / "folder", **options)
        assert torch.equal(torch.bincount(mine.labels), torch.bincount(other.labels))
        check(mine)


def test_boxes_are_resized_with_the_images(tmp_path: Path) -> None:
    rows = make(tmp_path, x0=[4], y0=[0], x1=[16], y1=[5])
    rows[1] |= {"x0": "", "y0": "", "x1": "", "y1": ""}
    columns = ["x0", "y0", "x1", "y1"]
    path = write(tmp_path / "a.csv", rows)
    boxes = {
        resize: read(path, box_columns=columns, size=10, resize=resize).boxes for resize in ("squeeze", "crop", "pad")
    }
    expected = {"squeeze": [2, 0, 8, 5], "crop": [0, 0, 10, 5], "pad": [2, 2, 8, 5]}  # 20 x 10, padded to rows 2 to 6
    for resize, found in boxes.items():
        assert found is not None
        assert found.shape == (30, 1, 4)
        assert found[0, 0].tolist() == expected[resize]
        assert found[1, 0].tolist() == [0, 0, 0, 0]


def test_boxes_are_those_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(2):
        Image.new("RGB", (20, 10)).save(tmp_path / f"{i}.jpg", exif=exif)  # upright: 10 x 20
    rows = [{"path": f"{i}.jpg", "label": i, "a": 0, "b": 12, "c": 10, "d": 20} for i in range(2)]
    found = read(write(tmp_path / "a.csv", rows), box_columns=["a", "b", "c", "d"], size=20, resize="squeeze").boxes
    assert found is not None
    assert found[0, 0].tolist() == [0, 12, 20, 20]


def change(rows: list[dict[str, Any]], **cells: Any) -> list[dict[str, Any]]:
    rows[4] |= cells
    return rows


BOX = {"x0": [1], "y0": [1], "x1": [5], "y1": [5]}
BOXES: dict[str, Any] = {"box_columns": ["x0", "y0", "x1", "y1"]}


@pytest.mark.parametrize(
    ("columns", "cells", "options", "message"),
    [
        ({}, {}, {"label_column": "lable"}, "`label_column`: {0}: unknown column 'lable'; did you mean 'label'?"),
        ({}, {}, {"path_column": 9}, "`path_column`: {0} has 2 columns, counted from 0; got 9"),
        ({}, {"label": ""}, {}, "1 of 30 rows have an empty cell in the column of `label_column`: row 5; fill it in"),
        ({}, {"label": "ant "}, {"classes": ["ants", "bee", "cow"]}, "unknown label 'ant'; did you mean 'ants'?"),
        ({"label": [0, 1, 2]}, {"label": 3}, {"classes": list("abc")}, "a label outside of 0 to 2, .*: row 5 .3.;"),
        ({"split": ["train"]}, {"split": "trian"}, {}, "unknown splits: 'trian' .1 rows.. Expected one of train, "),
        ({"split": ["val"]}, {}, {}, "has no row of the split train; it has only validation"),
        ({}, {"path": "gone.png"}, {}, "1 of 30 image files do not exist: .*gone.png. Relative paths begin in"),
        ({}, {}, {"images": "elsewhere"}, "30 of 30 image files do not exist: .*9.png and 20 more"),
        (BOX, {"x1": ""}, BOXES, "1 of 30 rows have a box with an empty cell: row 5"),
        (BOX, {"x1": 1}, BOXES, "1 of 30 rows have a box with x0 >= x1 or y0 >= y1: row 5"),
        (BOX, {"x1": "wide"}, BOXES, "no number in the column 'x1' of a box: row 5 .wide."),
        (BOX, {"x0": 30, "x1": 40}, BOXES, "1 boxes lie outside their images, such as .* with 20 x 10 pixels"),
        ({**BOX, "x0": [0], "y0": [0], "x1": [1], "y1": [1]}, {}, BOXES, "are between 0 and 1; expected pixels"),
        (BOX, {}, {"box_columns": ["x0", "y0"]}, "expected four columns, those of x0, y0, x1 and y1"),
    ],
)
def test_a_mistake_is_one_message(
    tmp_path: Path, columns: dict[str, Any], cells: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "a.csv", change(make(tmp_path, **columns), **cells))
    with pytest.raises(InputError, match=message.replace("{0}", str(path))):
        read(path, **options)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"path,label\n", "has no rows below its header"),
        ("a.csv", b"", "has no rows below its header"),
        ("a.csv", b"path,label,label\na,b,c\n", "more than one column 'label'"),
        (
            "a.csv",
            b"path,label\na.png,b\nc.png\n",
            "1 of 2 rows have another number of cells than the header, 2: row 2",
        ),
        ("a.csv", b"path,label\n\xff\xfe,b\n", "not UTF-8"),
        ("a.parquet", b"PAR1 but not really", "is not a valid Parquet file"),
        ("a.xlsx", b"PK", r"expected a table \(.csv, .tsv, .txt, .parquet, .pq\)"),
    ],
)
def test_a_file_that_is_no_table(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)
    with pytest.raises(InputError, match=r"no file|no such"):
        read(tmp_path / "none.csv")


def test_missing_and_damaged_files_are_skipped_with_their_boxes(tmp_path: Path) -> None:
    rows = [
        {**row, **{key: i % 3 + int(key[1]) * 5 for key in ("x0", "y0", "x1", "y1")}}
        for i, row in enumerate(make(tmp_path))
    ]
    rows[1]["path"] = "gone.png"
    (tmp_path / rows[5]["path"]).write_bytes(b"torn")
    path = write(tmp_path / "a.csv", rows)
    with pytest.warns(InputWarning, match="2 of 30 images cannot be decoded and are skipped: .*gone.png, .*5.png"):
        data = read(path, on_error="skip", **BOXES, size=10, resize="squeeze")
    check(data)
    assert len(data) == 28
    kept = [row for i, row in enumerate(rows) if i not in (1, 5)]
    assert data.boxes is not None
    assert data.boxes[:, 0, 1].tolist() == [row["y0"] for row in kept]


def test_a_file_in_two_splits_is_reported(tmp_path: Path) -> None:
    rows = make(tmp_path, split=["train"])
    rows.append({**rows[0], "split": "test"})
    with pytest.warns(InputWarning, match="1 image files are in more than one split: .*0.png"):
        read(write(tmp_path / "a.csv", rows))


def test_the_identity_depends_on_the_content_and_not_on_the_place(tmp_path: Path) -> None:
    hashes = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        path = write_in(folder)
        hashes.append(fingerprint("table", {"root": str(path), "size": 4}))
        config = load([], ["data.name=table", f"data.root={path}", "data.size=4"])
        hashes.append(identity(config, data_hash=hashes[-1]))
    assert hashes[:2] == hashes[2:]
    (tmp_path / "one" / "pictures" / "0.png").write_bytes(b"other")
    assert fingerprint("table", {"root": str(tmp_path / "one" / "a.csv")}) != hashes[0]
    with (tmp_path / "two" / "a.csv").open("a") as file:
        file.write("pictures/0.png,bee\n")
    assert fingerprint("table", {"root": str(tmp_path / "two" / "a.csv")}) != hashes[0]


def write_in(folder: Path) -> Path:
    rows = make(folder)
    return write(folder / "a.csv", rows)


def test_a_run_trains_and_is_evaluated_on_a_table_with_boxes(tmp_path: Path) -> None:
    split = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
    rows = make(tmp_path, 36, split=split, x0=[2], y0=[2], x1=[12], y1=[8])
    path = write(tmp_path / "a.csv", rows)
    run = distill.train(
        data={"name": "table", "root": str(path), "size": 16, "batch_size": 6, "box_columns": ["x0", "y0", "x1", "y1"]},
        student="wrn_10_1",
        epochs=1,
        output_dir=str(tmp_path / "runs"),
        overrides=[*QUIET, "trainer.accelerator=cpu"],
    )
    done = distill.evaluate(run, limit=6, gallery=0, device="cpu")
    assert done.record["sets"]["test"]["localisation"] == "boxes"
    assert json.loads((run.directory / "environment.json").read_text())["identity"]
