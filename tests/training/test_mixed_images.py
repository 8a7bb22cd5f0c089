"""Training on mixed images: the maps of both classes, what is refused, and runs that resume exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill.build import BuiltRun, build
from distill.build.trial_step import check_step
from distill.config import Config
from distill.errors import InputError
from distill.explain import Explainer
from distill.training import DistillationModule, RunDirectory
from distill.training.module import make_maps
from distill.types import Batch
from tests.training.helpers import KD, CrashError, crash_at, rows, save_teacher, small, train

MIXUP, CUTMIX = "data.mixup={alpha: 0.8, probability: 0.5}", "data.cutmix={alpha: 1.0, probability: 0.5}"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("teacher"))


def of(folder: Path, teacher: Path, *pairs: str) -> Config:
    return small(folder, *KD, f"teacher.checkpoint={teacher}", *pairs)


def first_batch(run: BuiltRun) -> Batch:
    batch = run.data.on_after_batch_transfer(next(iter(run.data.train_dataloader())), 0)
    assert batch.mix is not None
    return batch


@pytest.mark.parametrize("method", ["grad_cam", "grad_cam_pp", "cam"])
def test_maps_explain_both_classes_by_their_shares(tmp_path: Path, teacher: Path, method: str) -> None:
    layer = "layer: final" if method == "cam" else "layer: group2"
    run = build(of(tmp_path, teacher, "data.mixup.alpha=1", f"objective.explanation={{method: {method}, {layer}}}"))
    batch, module = first_batch(run), run.module.eval()
    names = module.objective.names
    student = module.run_student(batch.images, module.explainers, names)
    output = module.run_teacher(batch, module.explainers, names).output
    with torch.no_grad():
        ((layer_name, maps),) = make_maps(module.explainers, student, output, batch)["explanation"].items()
    assert batch.mix is not None
    share, others = batch.mix.share, batch.mix.others

    def score(logits: torch.Tensor) -> torch.Tensor:
        rows = torch.arange(len(logits))
        return share * logits[rows, batch.labels] + (1 - share) * logits[rows, others]

    assert module.teacher is not None
    assert output is not None
    networks = (module.student, student, maps.student), (module.teacher.network, output, maps.teacher)
    for network, passed, found in networks:
        if method == "cam":
            weight = network.state_dict()["network.fc.weight"]
            mixed = share * weight[batch.labels] + (1 - share) * weight[others]
            expected = torch.einsum("nk,nkij->nij", mixed, passed.activations[layer_name].detach()).relu()
        else:
            expected = Explainer(method, layer_name, target=score, gradients="autograd")(network, batch.images).maps
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        alone = Explainer(method, layer_name)(network, batch.images, batch.labels).maps
        assert not torch.allclose(found, alone, rtol=1e-2)


def test_a_term_can_skip_mixed_batches(tmp_path: Path, teacher: Path) -> None:
    config = of(tmp_path, teacher, "data.mixup={alpha: 1, probability: 0.5}", "objective.explanation.mixed=skip")
    run = train(config)
    loader, module = run.data.train_dataloader(), run.module.train()
    mixed = {False: 0, True: 0}
    for number, batch in enumerate(loader):
        module.train_means.pop()
        module.training_step(run.data.on_after_batch_transfer(batch, 0), number)
        means = module.train_means.pop()
        assert ("explanation" in means) is (batch.mix is None)
        assert "soft_targets" in means
        mixed[batch.mix is not None] += 1
    assert min(mixed.values()) > 0


def test_two_runs_are_equal_and_one_goes_on_in_the_middle_of_an_epoch(tmp_path: Path, teacher: Path) -> None:
    augment = "data.augment={transforms: [{RandomResizedCrop: {size: 12}}, RandAugment], objects: drop}"
    pairs = (augment, MIXUP, CUTMIX, "checkpoint.every_n_steps=1", "data.workers=0")
    straight = of(tmp_path, teacher, "name=straight", *pairs)
    train(straight)
    resumed = of(tmp_path, teacher, "name=resumed", *pairs)
    with pytest.raises(CrashError):
        train(resumed, before_step=crash_at(6))
    train(resumed)
    workers = of(tmp_path, teacher, "name=workers", *pairs[:-1], "data.workers=2")
    train(workers)
    for config in (resumed, workers):
        paths = [RunDirectory(one.directory).path / "student.safetensors" for one in (config, straight)]
        assert paths[0].read_bytes() == paths[1].read_bytes()
        assert rows(config) == rows(straight)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["teacher.cache=disk"], "teacher.cache: data.mixup make new images of two in every step"),
        (["objective.explanation.frozen=true"], r"objective.explanation.frozen: maps of whole images are not those of"),
        (
            ["objective.explanation.mixed=skip"],
            "explanation.mixed is skip, but every batch is mixed, so the term would",
        ),
        (
            ["objective.explanation.method=grad_cam_pp_softmax"],
            "the maps of grad_cam_pp_softmax are of one class, but a",
        ),
    ],
)
def test_what_mixing_cannot_be_combined_with(tmp_path: Path, teacher: Path, pairs: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(of(tmp_path, teacher, "data.mixup.alpha=1", *pairs))
    assert not list(tmp_path.iterdir())


def test_softmax_maps_can_skip_or_follow_the_teacher(tmp_path: Path, teacher: Path) -> None:
    softmax = "objective.explanation.method=grad_cam_pp_softmax"
    build(of(tmp_path, teacher, MIXUP, softmax, "objective.explanation.mixed=skip"))
    build(of(tmp_path, teacher, "data.mixup.alpha=1", softmax, "objective.explanation.target=teacher"))


def test_a_size_that_only_validation_has_is_tried_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[int, ...]] = []

    def watched(module: DistillationModule, batch: Batch, classes: int) -> None:
        tried.append(tuple(batch.images.shape))
        check_step(module, batch, classes)

    monkeypatch.setattr("distill.build.training_run.check_step", watched)
    build(small(tmp_path, "data.augment=[{RandomResizedCrop: {size: 12}}]"))
    assert tried == [(2, 3, 12, 12), (2, 3, 16, 16)]
