"""The data path alone: views of a whole batch compared with PIL image by image, and its share of a step."""

from __future__ import annotations

from functools import partial

import torch
from torchvision.transforms import v2

from distill.data import BatchLoader, ImageSet, Views

from .pairs import alternate, pair_ratios, spread
from .setting import TERM_AT_FINAL, WITHOUT_TEACHER, Row, Setting
from .steps import Step, make_step

BATCHED, PIL = "views of a batch", "PIL, image by image"
PAD, SIDE = 4, 32


def measure_loader(setting: Setting) -> list[Row]:
    """Time an epoch of both paths over the same images, and one step of two variants."""
    batch, batches = setting.batch, setting.steps
    images = torch.randint(256, (batches * batch, 3, SIDE, SIDE), dtype=torch.uint8)
    data = ImageSet(images, torch.zeros(len(images), dtype=torch.int64), ("only",))
    loader = BatchLoader(data, batch_size=batch, views=Views(pad=PAD), shuffle=True, drop_last=True)
    pictures = [v2.functional.to_pil_image(image) for image in images]
    steps = {
        name: make_step(name, setting.precision, batch=batch, teacher=setting.teacher, student=setting.student)
        for name in (WITHOUT_TEACHER, TERM_AT_FINAL)
    }
    runs: dict[str, Step] = {BATCHED: partial(batched, loader), PIL: partial(one_by_one, pictures, batch), **steps}
    seconds = alternate(runs, rounds=setting.rounds_or(7), warm_up=1)
    rows: list[Row] = []
    for name in (BATCHED, PIL):
        each = [took / batches for took in seconds[name]]
        rows.append(
            {
                "path": name,
                "batch": batch,
                "threads": setting.threads,
                "precision": setting.precision,
                "seconds": spread(each)["median"],
                "microseconds_per_image": 1e6 * spread(each)["median"] / batch,
                "ratio": pair_ratios(seconds[name], seconds[BATCHED]),
                "of_ce_step": pair_ratios(each, seconds[WITHOUT_TEACHER]),
                "of_term_step": pair_ratios(each, seconds[TERM_AT_FINAL]),
            }
        )
    return rows


def batched(loader: BatchLoader) -> None:
    """Load every batch and make its views, as training does."""
    views = loader.views
    assert isinstance(views, Views)
    for one in loader:
        views.apply(one.images, one.view)


def one_by_one(pictures: list[object], batch: int) -> None:
    """Crop, mirror and scale each decoded picture separately, and stack them."""
    transform = v2.Compose(
        [
            v2.RandomCrop(SIDE, padding=PAD),
            v2.RandomHorizontalFlip(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    for start in range(0, len(pictures), batch):
        torch.stack([transform(picture) for picture in pictures[start : start + batch]])
