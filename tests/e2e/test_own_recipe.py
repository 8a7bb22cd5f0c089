"""Optimisers and callbacks that lie in the working directory, from the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.e2e.helpers import QUIET, SMALL, TINY, Command

MODULE = """
from pathlib import Path
from pytorch_lightning.callbacks import Callback
from torch.optim import SGD

class Steps(SGD):
    pass

class Seen(Callback):
    def on_train_end(self, trainer, pl_module):
        Path("seen").write_text(type(trainer.optimizers[0]).__name__)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module that no process has imported."""
    (tmp_path / "my_recipe.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "my_recipe", raising=False)
    return tmp_path


def test_they_are_found(distill: Command, folder: Path) -> None:
    pairs = ("optimizer={name: 'my_recipe:Steps', lr: 0.1}", "callbacks=['my_recipe:Seen']")
    result = distill("train", TINY, *SMALL, *QUIET, "trainer.accelerator=cpu", *pairs, "output_dir=runs")
    assert result.code == 0, result.err
    assert (folder / "seen").read_text() == "Steps"


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (
            "optimizer.name=my_recipe:Step",
            "optimizer.name: module my_recipe: unknown class 'Step'; did you mean 'Steps'?",
        ),
        (
            "optimizer.name=my_recipes:Steps",
            "optimizer.name: module my_recipes cannot be imported: ModuleNotFoundError",
        ),
        ("callbacks=['my_recipe:Sean']", "callbacks[0]: module my_recipe: unknown class 'Sean'; did you mean 'Seen'?"),
    ],
)
def test_names_that_do_not_exist(distill: Command, folder: Path, pair: str, message: str) -> None:
    result = distill("train", TINY, *SMALL, *QUIET, pair, "output_dir=runs")
    assert result.code == 2
    assert message in result.message
    assert not (folder / "runs").exists()
