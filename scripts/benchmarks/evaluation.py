"""Cost of an evaluation compared with the forward passes that it needs."""

from __future__ import annotations

from functools import partial

import torch

from distill.data import ImageSet
from distill.data.augment import to_unit
from distill.evaluation import ONE_PASS, evaluate
from distill.evaluation.settings import choose_batch_size
from distill.models import StagedNetwork, create_model

from .pairs import alternate, pair_ratios, spread
from .setting import Row, Setting

IMAGES, QUICK_IMAGES, SIDE, CLASSES = 10_000, 1_000, 32, 10
#: Images of the warm-up; without it, only the first forward pass would include one-time costs.
WARM = 512
#: The network with the cheapest forward pass, where everything else has the largest share.
SMALLEST = "wrn_10_1"


def measure_evaluation(setting: Setting) -> list[Row]:
    """Compare forward passes over a test set with the whole evaluation of maps at final, in float32."""
    data = make_images(QUICK_IMAGES if setting.quick else IMAGES)
    groups = {
        f"{SMALLEST} beside {SMALLEST}": {"teacher": SMALLEST, "student": SMALLEST},
        f"{setting.student} beside {setting.teacher}": {"teacher": setting.teacher, "student": setting.student},
    }
    rows: list[Row] = []
    for name, members in groups.items():
        networks = {role: make_network(model) for role, model in members.items()}
        for warm_up in (forward, assess):
            warm_up(networks, data.subset(list(range(WARM))))
        runs = {"forward": partial(forward, networks, data), "evaluation": partial(assess, networks, data)}
        seconds = alternate(runs, rounds=setting.rounds_or(3), warm_up=0)
        rows.append(
            {
                "networks": name,
                "images": len(data),
                "precision": "float32",
                "batch": choose_batch_size(SIDE, SIDE),
                "forward_seconds": spread(seconds["forward"])["median"],
                "seconds": spread(seconds["evaluation"])["median"],
                "images_per_second": len(data) * len(networks) / spread(seconds["evaluation"])["median"],
                "ratio": pair_ratios(seconds["evaluation"], seconds["forward"]),
            }
        )
    return rows


def make_images(count: int) -> ImageSet:
    """Make random images and labels, and masks."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, SIDE, SIDE), dtype=torch.uint8, generator=draw)
    labels = torch.randint(CLASSES, (count,), generator=draw)
    masks = torch.zeros(count, SIDE, SIDE, dtype=torch.uint8)
    masks[:, 8:24, 4:20] = 1
    return ImageSet(images, labels, tuple(str(i) for i in range(CLASSES)), masks=masks)


def make_network(name: str) -> StagedNetwork:
    """Return a network with random weights, in evaluation mode."""
    torch.manual_seed(0)
    return create_model(name, num_classes=CLASSES).eval()


def forward(networks: dict[str, StagedNetwork], data: ImageSet) -> None:
    """Run every network once over all images."""
    size = choose_batch_size(SIDE, SIDE)
    with torch.no_grad():
        for start in range(0, len(data), size):
            images = to_unit(data.images[start : start + size])
            for net in networks.values():
                net(images)


def assess(networks: dict[str, StagedNetwork], data: ImageSet) -> None:
    """Evaluate maps and predictions, and compare them with the teacher's."""
    evaluate(networks, reference="teacher", sets={"test": data}, settings=ONE_PASS)
