"""The shipped recipes load and make a tiny run; accumulation and clipping keep the schedule and the number of steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from distill.build import load_config
from distill.training import RunDirectory
from tests.training.helpers import checkpoint, rows, save_teacher, small, train

RECIPES = sorted((Path(__file__).parents[2] / "configs" / "recipes").glob("*.yaml"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher"), num_classes=2)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    torch.manual_seed(3)
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for number in range(12):
            pixels = torch.randint(256, (24, 20, 3), dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_makes_a_tiny_run(path: Path, tmp_path: Path, teacher: Path, photos: Path) -> None:
    pairs = [
        f"data={{name: image_folder, root: {photos}, size: 32, batch_size: 4, workers: 0}}",
        f"teacher.checkpoint={teacher}",
        f"output_dir={tmp_path}",
        "trainer={max_epochs: 2, accelerator: cpu, precision: 32-true, enable_progress_bar: false}",
        "loggers.tensorboard=false",
    ]
    if load_config([path]).student.name == "resnet50":
        pairs.append("student.name=resnet18")  # in a quarter of the time
    if load_config([path]).schedule.name == "multi_step":
        pairs.append("schedule.milestones=[1]")
    config = load_config([path], pairs)
    run = train(config)
    assert (run.data.mixing is not None) is (path.stem == "patient_teacher")
    assert RunDirectory(config.directory).state(run.identity) == "done"


@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_accumulation_and_clipping(tmp_path: Path, accumulate: int) -> None:
    config = small(
        tmp_path,
        f"trainer.accumulate_grad_batches={accumulate}",
        "trainer.gradient_clip_val=0.001",
        "optimizer={lr: 1.0, momentum: 0, weight_decay: 0}",
        "schedule={name: ExponentialLR, gamma: 0.5}",
    )
    start = train(small(tmp_path, "name=zero", "trainer.max_epochs=1", "optimizer.lr=1e-12")).module.state_dict()
    train(config)
    steps = -(-4 // accumulate) * 3
    last = checkpoint(config.directory / "checkpoints" / "last.ckpt")
    assert last["global_step"] == steps
    rates = [float(row["train/learning_rate"]) for row in rows(config) if row["train/learning_rate"]]
    assert rates == [1.0, 0.5, 0.25]
    norms = [float(row["train/gradient_norm"]) for row in rows(config) if row["train/gradient_norm"]]
    assert min(norms) > 0.001  # before clipping
    names = [name for name in last["state_dict"] if name.endswith((".weight", ".bias"))]
    moved = torch.stack([(last["state_dict"][n] - start[n]).square().sum() for n in names]).sum().sqrt()
    assert moved <= 0.001 * sum(rates) * steps / 3 * 1.01  # every step is at most the clipped norm times the rate
