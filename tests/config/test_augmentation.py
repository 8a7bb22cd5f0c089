"""`data.augment` is a mapping of counted views or a list of transforms, and files with either can be merged."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.config import AugmentSection, TransformsSection, load, load_recorded, to_yaml
from distill.errors import InputError
from distill.workflows.train import make_config

ALL_KEYS = Path(__file__).parents[2] / "configs" / "train.yaml"


def test_a_list_can_follow_a_file_with_all_keys(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("data:\n  augment:\n  - RandomCrop: {size: '${data.size}'}\n  - RandAugment\n")
    for pairs, views in (([], None), (["data.augment.views=8"], 8)):
        augment = load([ALL_KEYS, mine], ["data.size=24", *pairs]).data.augment
        assert isinstance(augment, TransformsSection)
        assert augment.transforms == [{"RandomCrop": {"size": 24}}, {"RandAugment": {}}]
        assert (augment.views, augment.objects) == (views, "carry")


def test_the_last_file_with_transforms_or_with_crops_decides(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("data: {augment: {transforms: [RandAugment], views: 3, objects: drop}}\n")
    assert isinstance(load([ALL_KEYS, mine]).data.augment, TransformsSection)
    assert load([mine, ALL_KEYS]).data.augment == AugmentSection()
    back = load([ALL_KEYS, mine], ["data.augment.flip=false"]).data.augment
    assert back == AugmentSection(flip=False, views=3)
    forth = load([mine], ["data.augment.pad=2", "data.augment=[Identity]"]).data.augment
    assert forth == TransformsSection.model_validate({"transforms": ["Identity"], "views": 3})


def test_what_is_recorded_is_read_back(tmp_path: Path) -> None:
    config = load([], ["data.augment={transforms: [RandAugment], objects: drop}", "data.mixup.alpha=0.2"])
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert load_recorded(tmp_path / "config.yaml") == config


def test_in_python_it_is_the_same() -> None:
    config = make_config([ALL_KEYS, {"data": {"augment": ["RandAugment"]}}], {}, {"data.augment.views": 2})
    assert config.data.augment == TransformsSection.model_validate({"transforms": ["RandAugment"], "views": 2})
    config = make_config([{"data.augment": ["RandAugment"]}], {"data": {"augment": {"pad": 2}}}, ())
    assert config.data.augment == AugmentSection(pad=2)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (
            "data.augment=RandAugment",
            "data.augment: expected keys such as pad, or a list of transforms, got 'RandAugment'",
        ),
        (
            "data.augment={transforms: RandAugment}",
            r"data.augment.transforms: expected a list of transforms, such as \[",
        ),
        ("data.augment=[3]", "data.augment.transforms: expected a name, or one name with arguments as in"),
        ("data.augment=[{A: {}, B: {}}]", "data.augment.transforms: expected a name, or one name with arguments as in"),
        (
            "data.augment={transforms: [A], pad: 2}",
            "data.augment: pad belongs to crops and flips, which `transforms`",
        ),
        ("data.augment={transforms: [A], vews: 2}", "data.augment.vews: unknown key; did you mean 'views'"),
        ("data.augment={transforms: [A], objects: drp}", "did you mean 'drop'"),
        ("data.mixup={probability: 0.5}", "data.mixup.alpha: field required"),
        ("data.mixup={alpha: 0}", "data.mixup.alpha: input should be greater than 0, got 0"),
        ("data.cutmix={alpha: 1, probability: 2}", "data.cutmix.probability: input should be less than or equal to 1"),
        ("data={mixup: {alpha: 1}, cutmix: {alpha: 1}}", "the probabilities of mixup and cutmix must sum to at most 1"),
        ("objective.explanation.mixed=bth", "objective.explanation.mixed: .*did you mean 'both'"),
    ],
)
def test_a_mistake_is_named(pair: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load([], ["teacher.checkpoint=t", pair])
