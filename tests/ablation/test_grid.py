"""Rows of an ablation file: their combinations, names and changes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from distill.ablation.file import AblationFile
from distill.ablation.grid import folder_names, grid_rows
from distill.config.dotted_keys import dotted, merge_values, nested

COMMON: dict[str, Any] = {"name": "a", "base": "b.yaml", "seeds": 2, "metrics": ["test/accuracy"]}
WEIGHT, LAYER = "objective.explanation.weight", "objective.explanation.layer"


def names(**keys: Any) -> list[str]:
    return [row.name for row in grid_rows(AblationFile(**COMMON, **keys))]


def test_rows_alone() -> None:
    rows = grid_rows(AblationFile(**COMMON, rows={"CE": {}, "KD": {"student": {"name": "x"}, "data.size": 16}}))
    assert [row.name for row in rows] == ["CE", "KD"]
    assert [row.settings for row in rows] == [{}, {"student.name": "x", "data.size": 16}]


def test_axes_form_a_grid() -> None:
    assert names(axes={WEIGHT: [1, 5], LAYER: ["final", "group2"]}) == [
        "weight=1, layer=final",
        "weight=1, layer=group2",
        "weight=5, layer=final",
        "weight=5, layer=group2",
    ]


def test_zipped_keys_change_together_and_combine_with_axes() -> None:
    rows = grid_rows(
        AblationFile(
            **COMMON, axes={"seed_of": [0, 1]}, zip=[{"data.count": [100, 200], "trainer.max_epochs": [20, 10]}]
        )
    )
    assert [row.settings for row in rows] == [
        {"seed_of": s, "data.count": c, "trainer.max_epochs": e} for s in (0, 1) for c, e in ((100, 20), (200, 10))
    ]


def test_names_contain_only_as_many_zipped_keys_as_needed() -> None:
    sizes = {"data.count": [100, 200], "trainer.max_epochs": [20, 10], "optimizer.lr": [1, 1]}
    assert names(zip=[sizes]) == ["count=100", "count=200"]
    assert names(zip=[dict(reversed(sizes.items()))]) == ["lr=1, max_epochs=20", "lr=1, max_epochs=10"]


def test_a_grid_combines_with_rows_and_overrides_them() -> None:
    rows = grid_rows(AblationFile(**COMMON, rows={"A": {}, "B": {WEIGHT: 9}}, axes={WEIGHT: [1, 5]}))
    assert [row.name for row in rows] == ["A, weight=1", "A, weight=5", "B, weight=1", "B, weight=5"]
    assert [row.settings for row in rows] == [{WEIGHT: 1}, {WEIGHT: 5}] * 2


def test_one_factor_at_a_time_changes_one_key() -> None:
    assert names(one_factor_at_a_time={WEIGHT: [1, 20], LAYER: ["group2"]}) == [
        "default",
        "weight=1",
        "weight=20",
        "layer=group2",
    ]
    assert names(rows={"KD": {}, "AT": {}}, one_factor_at_a_time={WEIGHT: [1]}) == [
        *("KD", "KD, weight=1"),
        *("AT", "AT, weight=1"),
    ]


def test_excluded_combinations_are_left_out() -> None:
    grid = {WEIGHT: [1, 5], LAYER: ["final", "group2"]}
    assert names(axes=grid, exclude=[{WEIGHT: 5, LAYER: "group2"}, {LAYER: "final", WEIGHT: 1}]) == [
        "weight=1, layer=group2",
        "weight=5, layer=final",
    ]
    assert names(rows={"A": {}, "B": {}}, axes={WEIGHT: [1, 5]}, exclude=[{"row": "A", WEIGHT: 5}]) == [
        "A, weight=1",
        "B, weight=1",
        "B, weight=5",
    ]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"zip": [{"a": [1, 2], "b": [1]}]}, "the same number of values"),
        ({"axes": {"a": [1]}, "one_factor_at_a_time": {"b": [1]}}, "cannot be combined with axes or zip"),
        ({"axes": {"a": [1]}, "zip": [{"a": [1], "b": [2]}]}, "have values for a more than once"),
        ({"axes": {"a": []}}, "at least 1 item"),
        ({"name": "results"}, "expected a folder name other than results, teachers and teacher_cache"),
        ({"name": "a/b"}, "expected a folder name other than results, teachers and teacher_cache"),
        ({"seeds": [1, 1]}, "a seed occurs more than once"),
        ({"seeds": 0}, "valid list"),
    ],
)
def test_invalid_files_are_rejected(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AblationFile(**{**COMMON, **keys})


def test_seeds_are_a_list_or_a_number() -> None:
    assert AblationFile(**COMMON).seeds == [0, 1]
    assert AblationFile(**{**COMMON, "seeds": [7]}).seeds == [7]


def test_module_paths_are_not_split() -> None:
    assert nested({"objective.explanation": {"layers": {"layer4.1": 1.0}}}) == {
        "objective": {"explanation": {"layers": {"layer4.1": 1.0}}}
    }


leaves = st.one_of(st.integers(0, 3), st.none(), st.lists(st.just(1), max_size=2))
keys = st.sampled_from(["a", "b", "ab", "c"])
trees = st.dictionaries(
    keys, st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, min_size=1), max_leaves=6)
)


@given(trees)
def test_nested_and_dotted_are_inverse(tree: dict[str, Any]) -> None:
    assert nested(dotted(tree)) == tree


@given(trees, trees)
def test_merging_keeps_the_second_and_the_unchanged_keys_of_the_first(one: dict[str, Any], two: dict[str, Any]) -> None:
    merged = dotted(merge_values(one, two))
    assert dotted(two).items() <= merged.items()
    changed = tuple(dotted(two))
    for key, value in dotted(one).items():
        if not any(key == t or key.startswith(f"{t}.") or t.startswith(f"{key}.") for t in changed):
            assert merged[key] == value


@given(
    st.lists(st.sampled_from(["CE", "ce", "C/E", "C E", "..", ".", "", "++", "a\0", "ü", "ce-2", "ce 2"]), unique=True)
)
def test_each_row_has_its_own_folder(rows: list[str]) -> None:
    folders = folder_names(rows)
    assert list(folders) == rows
    assert len(set(folders.values())) == len(rows)
    assert not any(set(folder) & set("/ \\\0") or folder in ("", ".", "..") for folder in folders.values())
