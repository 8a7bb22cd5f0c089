"""Views that torchvision's transforms make: a function of seed, image and view, wherever and in any order."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from distill.data import BatchLoader, DistillDataModule, FashionScenes, ImageSet, TransformedViews, load_split
from distill.data.counted import Purpose, random_stream
from distill.data.fashion_scenes import tight_boxes
from distill.data.named_transforms import Entries
from distill.errors import InputError
from distill.types import Batch

ENTRIES: Entries = [
    {"RandomResizedCrop": {"size": 12, "interpolation": "bicubic"}},
    {"RandomApply": {"transforms": ["TrivialAugmentWide", {"RandomErasing": {"p": 0.5}}], "p": 0.7}},
    {"ColorJitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}},
    {"GaussianNoise": {"sigma": 0.05}},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    numbers = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (root / name).mkdir()
        for i in range(12):
            pixels = numbers.integers(256, size=(20 + i, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:02}.png")
    return root


def noise(n: int = 8, size: int = 16) -> ImageSet:
    images = torch.randint(256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    return ImageSet(images, torch.arange(n) % 2, ("a", "b"))


def views_of(data: ImageSet, views: TransformedViews, index: list[int], view: list[int], *, seed: int = 3) -> Batch:
    return views.transform(data.take(torch.tensor(index), torch.tensor(view)), seed=seed)


def epoch(loader: BatchLoader, number: int = 2) -> list[Batch]:
    loader.sampler.set_epoch(number)
    batches = list(loader)
    loader.close()
    return batches


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine[:4], other[:4], strict=True))


def test_a_view_equals_torchvision_under_the_same_seed() -> None:
    data = noise()
    entries: Entries = [
        {"RandomResizedCrop": {"size": 12}},
        {"RandAugment": {"num_ops": 3}},
        {"RandomChoice": {"transforms": [{"RandomSolarize": {"threshold": 99}}, "RandomEqualize"]}},
        {"ElasticTransform": {"sigma": 1.0}},
    ]
    found = views_of(data, TransformedViews(entries), [4, 1, 6], [1, 2, 77])
    choice = v2.RandomChoice([v2.RandomSolarize(99), v2.RandomEqualize()])
    theirs = v2.Compose([v2.RandomResizedCrop(12), v2.RandAugment(num_ops=3), choice, v2.ElasticTransform(sigma=1.0)])
    for row, (index, view) in enumerate(((4, 1), (1, 2), (6, 77))):
        words = random_stream(Purpose.TRANSFORM, seed=3, part=view).random_raw(4 * index + 2)[-2:].tolist()
        torch.manual_seed(words[0])
        random.seed(words[1])
        assert torch.equal(found.images[row], theirs(tv_tensors.Image(data.images[index])))


def test_erasing_and_noise_are_in_units_of_images_from_0_to_1() -> None:
    data = noise()
    erased = views_of(data, TransformedViews([{"RandomErasing": {"p": 1.0, "value": 0.5}}]), [0], [1])
    changed = (erased.images != data.images[:1]).any(1)
    assert 0 < int(changed.sum()) < changed.numel()
    assert erased.images.permute(0, 2, 3, 1)[changed].unique().tolist() == [128]
    noisy = views_of(data, TransformedViews([{"GaussianNoise": {"sigma": 0.02}}]), [0], [1])
    difference = (noisy.images.int() - data.images[:1].int()).float()
    assert 3 < float(difference.std()) < 7  # 0.02 * 255
    still = views_of(
        data, TransformedViews([{"RandomErasing": {"p": 0.0}}, {"GaussianNoise": {"sigma": 0.0}}]), [0], [1]
    )
    assert torch.equal(still.images, data.images[:1])


def test_a_view_depends_on_seed_image_and_number_alone() -> None:
    data, views = noise(), TransformedViews(ENTRIES)
    together = views_of(data, views, [5, 2, 0], [4, 4, 9]).images
    torch.manual_seed(9)
    random.seed(9)
    assert torch.equal(views_of(data, views, [2], [4]).images[0], together[1])
    others = [views_of(data, views, [2], [5]).images[0], views_of(data, views, [2], [4], seed=4).images[0]]
    assert not any(torch.equal(one, together[1]) for one in others)
    same = ImageSet(data.images[[2, 2]], data.labels[:2], ("a", "b"))
    first, second = views_of(same, views, [0, 1], [4, 4]).images
    assert not torch.equal(first, second)


class Drawing(nn.Module):
    """Draws from every generator that a transform may use, and may fail after it."""

    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.fails = fails

    def forward(self, *sample: Tensor) -> Any:
        torch.rand(1000)
        random.random()
        torch.set_num_threads(1)
        if self.fails:
            raise ValueError("as asked")
        return sample if len(sample) > 1 else sample[0]


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_outside_is_drawn_or_changed(fails: bool) -> None:
    views, threads = TransformedViews(ENTRIES), torch.get_num_threads()
    views.transforms.append(Drawing(fails=fails))
    torch.set_num_threads(2)
    state = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    try:
        if fails:
            with pytest.raises(InputError, match="image 0 in view 1: ValueError: as asked"):
                views_of(noise(), views, [0, 1], [1, 1])
        else:
            views_of(noise(), views, [0, 1], [1, 1])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1:] == (random.getstate(), str(np.random.get_state()))
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_streaming_change_nothing(folder: Path, workers: int, in_memory: bool) -> None:
    def batches(workers: int, in_memory: bool) -> list[Batch]:
        data = load_split("image_folder", "train", root=folder, size=16, in_memory=in_memory)
        options: dict[str, Any] = {"batch_size": 5, "shuffle": True, "drop_last": True, "seed": 3, "data_seed": 8}
        return epoch(BatchLoader(data, views=TransformedViews(ENTRIES), workers=workers, **options))

    state = torch.get_rng_state()
    assert_same(batches(workers, in_memory), batches(0, True))
    assert torch.equal(state, torch.get_rng_state())


def test_it_goes_on_in_the_middle_of_an_epoch() -> None:
    def loader() -> BatchLoader:
        options: dict[str, Any] = {"batch_size": 5, "shuffle": True, "balanced": True, "seed": 3, "data_seed": 8}
        return BatchLoader(noise(20), views=TransformedViews(ENTRIES, limit=4), **options)

    first = loader()
    iterator = iter(first)
    next(iterator), next(iterator)
    again = loader()
    again.load_state_dict(first.state_dict())
    assert_same(list(again), epoch(loader(), 0)[2:])


def test_views_are_limited_or_new_in_every_epoch() -> None:
    few, all_ = TransformedViews(ENTRIES, limit=3), TransformedViews(ENTRIES)
    drawn = torch.stack([few.draw(50, seed=7, epoch=number) for number in range(40)])
    assert drawn.unique().tolist() == [1, 2, 3]
    assert torch.equal(drawn[:, :20], torch.stack([few.draw(20, seed=7, epoch=number) for number in range(40)]))
    assert [all_.draw(2, seed=7, epoch=number).tolist() for number in (0, 5)] == [[1, 1], [6, 6]]
    with pytest.raises(InputError, match="`views` must be 1 or more, got 0"):
        TransformedViews(ENTRIES, limit=0)


@pytest.mark.parametrize("limit", [None, 500])
def test_an_image_that_is_repeated_in_an_epoch_gets_other_views(limit: int | None) -> None:
    data = ImageSet(noise(20).images, torch.tensor([0, 0] + [1] * 18), ("a", "b"))
    loader = BatchLoader(data, batch_size=20, views=TransformedViews(ENTRIES, limit=limit), shuffle=True, balanced=True)
    (batch,) = epoch(loader)
    repeated = batch.images[batch.index == 0]
    assert len(repeated) == 5
    assert len({image.numpy().tobytes() for image in repeated}) == 5


def test_only_training_images_are_transformed() -> None:
    module = DistillDataModule(noise(), noise(), batch_size=4, views=TransformedViews(ENTRIES), workers=0)
    assert next(iter(module.train_dataloader())).images.shape == (4, 3, 12, 12)
    (loader,) = [module.val_dataloader()]
    assert isinstance(loader, BatchLoader)
    assert torch.equal(next(iter(loader)).images, noise().images[:4])
    moved = module.on_after_batch_transfer(next(iter(module.train_dataloader())), 0)
    assert moved.images.dtype == torch.float32
    assert (module.workers_for("train"), module.workers_for("validation")) == (0, 0)
    module.workers = 2
    assert (module.workers_for("train"), module.workers_for("validation")) == (2, 0)


def test_flips_and_crops_move_boxes_and_masks_with_the_image() -> None:
    scenes = FashionScenes("test", count=24, size=32, objects=2)
    assert scenes.masks is not None
    images = (scenes.masks * 80)[:, None].expand(-1, 3, -1, -1)  # so that image and mask must move in the same way
    painted = ImageSet(images, scenes.labels, scenes.classes, scenes.boxes, scenes.masks)
    entries: Entries = [
        {"RandomHorizontalFlip": {}},
        {"RandomVerticalFlip": {}},
        {"RandomCrop": {"size": 20, "padding": 2}},
    ]
    batch = views_of(painted, TransformedViews(entries), list(range(24)), [1] * 24)
    assert batch.boxes is not None
    assert batch.masks is not None
    assert torch.equal(batch.images[:, 0], batch.masks * 80)
    for number in (1, 2):
        tight = tight_boxes((batch.masks == number).numpy())
        boxes = batch.boxes[:, number - 1].numpy()
        seen = tight.any(1)
        assert seen.sum() > 5
        assert (boxes[seen, :2] <= tight[seen, :2]).all()
        assert (boxes[seen, 2:] >= tight[seen, 2:]).all()
        whole = seen & (boxes[:, 0] > 0) & (boxes[:, 1] > 0) & (boxes[:, 2] < 20) & (boxes[:, 3] < 20)
        assert whole.any()
        assert (boxes[whole] == tight[whole]).all()
    gone = (batch.boxes == 0).all(2)
    assert gone.any()
    assert ((batch.boxes[..., 2:] > batch.boxes[..., :2]).all(2) | gone).all()


def test_boxes_are_those_of_the_formula() -> None:
    boxes = torch.tensor([[[1, 2, 5, 6], [0, 0, 0, 0], [9, 9, 12, 12]]])
    data = ImageSet(torch.zeros(1, 3, 12, 16, dtype=torch.uint8), torch.tensor([0]), ("a",), boxes)
    flipped = views_of(data, TransformedViews([{"RandomHorizontalFlip": {"p": 1.0}}]), [0], [1]).boxes
    assert flipped is not None
    assert flipped.tolist() == [[[11, 2, 15, 6], [0, 0, 0, 0], [4, 9, 7, 12]]]
    cropped = views_of(data, TransformedViews([{"CenterCrop": {"size": [6, 8]}}]), [0], [1]).boxes
    assert cropped is not None
    assert cropped.tolist() == [[[0, 0, 1, 3], [0, 0, 0, 0], [0, 0, 0, 0]]]
    small = views_of(data, TransformedViews([{"Resize": {"size": [6, 8]}}]), [0], [1]).boxes
    assert small is not None
    assert small.tolist() == [[[0, 1, 3, 3], [0, 0, 0, 0], [4, 4, 6, 6]]]  # outwards
    turned = views_of(data, TransformedViews([{"RandomRotation": {"degrees": [7, 7]}}]), [0], [1]).boxes
    assert turned is not None
    assert turned[0, 1].tolist() == [0, 0, 0, 0]


def test_objects_can_be_left_out() -> None:
    scenes = FashionScenes("test", count=4, size=16)
    batch = views_of(scenes, TransformedViews([{"RandAugment": {}}], objects="drop"), [0, 1], [1, 1])
    assert (batch.boxes, batch.masks) == (None, None)
    with pytest.raises(InputError, match="unknown objects 'drp'; did you mean 'drop'"):
        TransformedViews([], objects="drp")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["AutoAugment", "RandAugment", "TrivialAugmentWide", "AugMix"])
def test_a_transform_that_cannot_take_boxes_is_named(name: str) -> None:
    scenes = FashionScenes("test", count=4, size=16)
    entries: Entries = [{"RandomHorizontalFlip": {}}, {name: {}}]
    with pytest.raises(InputError, match=rf"transforms\[1\]: {name} cannot take the boxes and masks .*objects=drop"):
        TransformedViews(entries).check(scenes, seed=0)
    TransformedViews(entries, objects="drop").check(scenes, seed=0)
    TransformedViews(entries).check(noise(), seed=0)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (
            [{"RandomRotation": {"degrees": 40, "expand": True}}],
            r"\[0\]: RandomRotation gives images of different sizes",
        ),
        (
            [{"Identity": {}}, {"RandomResize": {"min_size": 8, "max_size": 12}}, {"Identity": {}}],
            r"\[1\]: RandomResize",
        ),
        ([{"Grayscale": {}}], "make images of 1 channels, expected 3"),
        ([{"RandomIoUCrop": {}}], r"\[0\]: RandomIoUCrop fails on an image of shape \(3, 16, 16\): RandomIoUCrop"),
        ([{"RandomCrop": {"size": 40}}], r"\[0\]: RandomCrop fails on an image of shape \(3, 16, 16\)"),
    ],
)
def test_what_gives_no_batch_is_refused(entries: Entries, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TransformedViews(entries).check(noise(), seed=0)


def test_a_fixed_size_may_follow_a_random_one() -> None:
    entries = [{"RandomResize": {"min_size": 8, "max_size": 12}}, {"CenterCrop": {"size": 8}}]
    TransformedViews(entries).check(noise(), seed=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_different_sizes_within_a_batch_are_an_error_without_a_traceback(workers: int) -> None:
    views = TransformedViews([{"RandomResize": {"min_size": 8, "max_size": 12}}])
    loader = BatchLoader(noise(), batch_size=8, views=views, workers=workers)
    with pytest.raises(InputError, match=r"the transforms gives? images of different sizes \(8 x 8, 9 x 9, 10 x 10, "):
        epoch(loader)
