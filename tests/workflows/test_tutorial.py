"""The example of docs/tutorial.md with a network, data sets and a term as objects runs as it is written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import distill
from distill.errors import InputError

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"


def test_the_example_with_objects_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = next(text for text in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "Certainty" in text)
    code, quiet = re.subn(r"epochs=2", "epochs=2, trainer={'enable_progress_bar': False}", code)
    code, small = re.subn(r'"sanity": 8', '"sanity": 2, "perturbed": 2, "explained": 2, "resamples": 10', code)
    assert (quiet, small) == (1, 1)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    exec(code, names)
    run, done, network = names["run"], names["done"], names["network"]
    assert run.directory == Path("runs/objects")
    assert "train/certainty_weighted" in (run.directory / "metrics.csv").read_text().splitlines()[0]
    parts = done.record["sets"]["test"]["networks"]["objects"]["sanity"]
    assert [part["part"] for part in parts] == ["6", "2", "0"]
    again = distill.evaluate(
        "runs/objects", network=network, data=names["make_images"](64, seed=2), maps={"layer": "1"}, settings=FEW
    )
    figures = [one.record["sets"]["test"]["networks"]["objects"]["figures"] for one in (done, again)]
    values = [figure["accuracy"]["value"] for figure in figures if figure["accuracy"]]
    assert len(values) == 2
    assert values[0] == values[1]
    with pytest.raises(InputError, match="passed as a Python object"):
        distill.evaluate("runs/objects", data=names["make_images"](64, seed=2))


FEW = {"sanity": 0, "perturbed": 0, "explained": 0, "resamples": 0}
