"""`explain_images` compared with direct calls of the networks."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from distill.build import load_config
from distill.build.finished_run import image_size
from distill.config import DataSection
from distill.data import FashionScenes
from distill.errors import InputError
from distill.models import load_model
from distill.models.class_names import find_class
from distill.report.explained import ImageExplanation
from distill.workflows.explain import _teacher_layer, explain_images
from tests.export.helpers import CLASSES, expected_maps, finished_run, network


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("runs") / "student")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("runs") / "teacher", name="wrn_16_1")


def scenes(n: int = 4) -> Tensor:
    return FashionScenes("test", size=16, count=n).images


def test_maps_and_probabilities_match_the_network(run: Path) -> None:
    found = explain_images(run, scenes(), layer="group2")
    unit = scenes().float() / 255
    maps = torch.from_numpy(expected_maps(network(), "group2", unit)).float()
    resized = torch.nn.functional.interpolate(maps[:, None], (16, 16), mode="bilinear")[:, 0]
    with torch.no_grad():
        probabilities = load_model(run)(unit).softmax(1)
    for i, one in enumerate(found):
        assert (one.name, one.teacher, one.asked, one.classes) == (f"image {i}", None, False, CLASSES)
        assert one.explained == one.student.predicted == int(probabilities[i].argmax())
        np.testing.assert_allclose(one.student.probabilities, probabilities[i], atol=1e-5)
        ours = one.maps["student"]
        assert ours.shape == (16, 16)
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours / ours.max(), resized[i] / resized[i].max(), atol=2e-3)
        np.testing.assert_allclose(one.student.heat.max(), 1.0)
        best = one.top(3)
        assert [name for name, _ in best] == [CLASSES[c] for c in probabilities[i].topk(3).indices.tolist()]
        assert best[0][1] == pytest.approx(float(probabilities[i].max()), abs=1e-5)
        assert len(one.top(99)) == 10
    assert len({one.explained for one in found}) > 1


def test_single_images_of_all_input_types(run: Path, tmp_path: Path) -> None:
    image = scenes(1)[0]
    path = tmp_path / "scene.png"
    pixels = image.permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path)
    together = explain_images(run, scenes(4))[0]
    for source in (image, pixels, Image.fromarray(pixels), path, str(path), [path], image[None]):
        (one,) = explain_images(run, source)
        np.testing.assert_allclose(one.student.map, together.student.map, rtol=1e-3, atol=1e-5)
        assert (one.pixels == pixels).all()


def test_more_images_than_a_batch_keep_their_order(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = [one.student.probabilities for one in explain_images(run, scenes(5))]
    monkeypatch.setattr("distill.workflows.explain.BATCH", 2)
    found = explain_images(run, scenes(5))
    assert [one.name for one in found] == [f"image {i}" for i in range(5)]
    np.testing.assert_allclose([one.student.probabilities for one in found], straight, atol=1e-5)


def test_teacher_and_student_explain_the_same_class(run: Path, teacher: Path) -> None:
    found = explain_images(run, scenes(), reference=teacher, layer="group2")
    own = load_model(teacher)
    for one, image in zip(found, scenes(), strict=True):
        assert one.teacher is not None
        assert list(one.maps) == ["teacher", "student"]
        assert one.explained == one.student.predicted
        with torch.no_grad():
            expected = own(image[None] / 255).softmax(1)[0]
        np.testing.assert_allclose(one.teacher.probabilities, expected, atol=1e-5)
    assert any(one.teacher is not None and one.teacher.predicted != one.explained for one in found)
    (asked,) = explain_images(run, scenes(1), reference=teacher, layer="group2", target="bag")
    (alone,) = explain_images(teacher, scenes(1), reference=False, layer="group2", target=CLASSES.index("bag"))
    assert (asked.asked, asked.caption) == (True, "Maps explain 'bag', which was asked for.")
    assert asked.explained == alone.explained == CLASSES.index("bag")
    np.testing.assert_allclose(asked.maps["teacher"], alone.maps["student"], rtol=1e-5)
    assert not np.allclose(asked.maps["student"], found[0].maps["student"])


def test_teacher_and_layer_of_the_run(teacher: Path, tmp_path: Path) -> None:
    term = "objective.explanation={layer: group2, teacher_layer: group1}"
    run = finished_run(tmp_path / "student", f"teacher.checkpoint={teacher}", term)
    (one,) = explain_images(run, scenes(1), layer="group2")
    assert one.teacher is not None
    assert (one.teacher.layer, one.teacher.architecture, one.student.layer) == ("group1", "wrn_16_1", "group2")
    (other,) = explain_images(run, scenes(1))
    assert other.teacher is not None
    assert other.teacher.layer == "final"
    (alone,) = explain_images(run, scenes(1), reference=False)
    assert alone.teacher is None
    np.testing.assert_array_equal(alone.student.map, other.student.map)


def test_a_plain_state_dict_is_read_with_the_configuration_of_the_run(teacher: Path, tmp_path: Path) -> None:
    net = load_model(teacher)
    weights = tmp_path / "teacher.pth"
    torch.save(net.network.state_dict(), weights)
    named = (
        f"teacher={{checkpoint: {weights}, name: wrn_16_1, normalisation: {{mean: [.4, .5, .6], std: [.2, .25, .3]}}}}"
    )
    run = finished_run(tmp_path / "student", named)
    (one,) = explain_images(run, scenes(1))
    (given,) = explain_images(run, scenes(1), reference=weights)
    (expected,) = explain_images(run, scenes(1), reference=teacher)
    for found in (one, given):
        assert found.teacher is not None
        np.testing.assert_allclose(found.maps["teacher"], expected.maps["teacher"], rtol=1e-5, atol=1e-7)


def test_a_missing_teacher_of_the_run_is_left_out_with_a_message(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "student", f"teacher.checkpoint={tmp_path / 'gone'}")
    messages: list[str] = []
    (one,) = explain_images(run, scenes(1), notify=messages.append)
    assert one.teacher is None
    assert messages == [
        f"the student is shown without its teacher: no checkpoint at {tmp_path / 'gone'}; give a run directory, a "
        ".ckpt, a .safetensors or a .pth."
    ]
    with pytest.warns(UserWarning, match="the student is shown without its teacher"):
        explain_images(run, scenes(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": CLASSES[:7]}, "has a different number of classes than the student: 7; the student has 10."),
        (
            {"classes": (*CLASSES[:9], "shoe")},
            "has different classes than the student: class 9 is 'shoe' and 'boot'",
        ),
        (
            {"in_channels": 1, "mean": [0.5], "std": [0.2]},
            "has a different number of channels than the student: 1; the student has 3",
        ),
    ],
)
def test_a_teacher_that_does_not_fit(run: Path, tmp_path: Path, options: dict[str, object], message: str) -> None:
    other = finished_run(tmp_path / "other", **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        explain_images(run, scenes(1), reference=other)


def test_grey_networks_take_grey_images(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "grey", "data={name: fashion_mnist}", in_channels=1, mean=[0.3], std=[0.2])
    colour = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    grey = Image.fromarray(colour).convert("L")
    (one,) = explain_images(run, colour)
    (other,) = explain_images(run, grey)
    np.testing.assert_array_equal(one.student.map, other.student.map)
    assert one.pixels.shape == (*one.student.map.shape, 3) == (40, 30, 3)
    assert (one.pixels == np.array(grey)[..., None]).all()


@pytest.mark.parametrize(
    ("section", "size"),
    [
        ({}, 32),
        ({"size": 48}, 48),
        ({"name": "fashion_mnist"}, 28),
        ({"name": "cifar100", "root": "x"}, 32),
        ({"name": "image_folder", "root": "x", "size": 96}, 96),
        ({"name": "image_folder", "root": "x"}, None),
        ({"name": "of_nobody"}, None),
    ],
)
def test_the_size_of_training_is_read_from_the_configuration(section: dict[str, object], size: int | None) -> None:
    assert image_size(DataSection.model_validate(section)) == size


def test_another_input_size_gives_another_map(run: Path) -> None:
    large = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    small, own = explain_images(run, large)[0], explain_images(run, large, size=32)[0]
    assert small.student.map.shape == own.student.map.shape == (64, 48)
    assert not np.allclose(small.student.map, own.student.map)
    with pytest.raises(InputError, match="`size` must be 1 pixel or more, got 0"):
        explain_images(run, large, size=0)


def shown(one: ImageExplanation) -> Image.Image:
    return Image.open(io.BytesIO(one._repr_png_()))


def test_notebook_pictures_have_at_most_1600_pixels(run: Path, teacher: Path) -> None:
    wide = np.zeros((100, 3000, 3), np.uint8)
    for images, reference in [
        (scenes(1), None),
        (scenes(1), teacher),
        (wide, teacher),
        (wide.transpose(1, 0, 2), None),
    ]:
        (one,) = explain_images(run, images, reference=reference)  # type: ignore[arg-type]
        picture = shown(one)
        assert picture.format == "PNG"
        assert max(picture.size) <= 1600
        assert picture.info["Software"] == "distill-explain"
    alone, both = (shown(explain_images(run, scenes(1), reference=r)[0]) for r in (None, teacher))
    assert both.width > alone.width


def test_a_picture_has_the_colours_of_the_map_where_the_map_is(run: Path) -> None:
    (one,) = explain_images(run, np.zeros((16, 16, 3), np.uint8))
    half = np.zeros((16, 16), np.float32)
    half[:, 8:] = 5.0
    object.__setattr__(one.student, "map", half)
    pixels = np.asarray(shown(one).convert("RGB")).astype(int)
    # Viridis at 0 and at 1, at 60 % over black: on the left and on the right of the student's panel.
    for colour, right in (((68, 1, 84), False), ((253, 231, 37), True)):
        near = (np.abs(pixels - 0.6 * np.array(colour)) <= 2).all(2)
        columns = np.nonzero(near.sum(0) > 100)[0]
        assert columns.size > 50
        middle = np.nonzero((np.abs(pixels - [152, 139, 22]) <= 2).all(2))[1].min()
        assert bool((columns >= middle - 1).all()) is right


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("{term: 'mine:Maps', layers: {group2: 1.0}, teacher_layer: group1}", "group1"),
        ("{term: 'mine:Maps', layers: {group2: 1.0}, teacher_layer: {group2: group3}}", "group3"),
        ("{term: 'mine:Maps', layers: {group1: 1.0}, teacher_layer: group3}", "group2"),
        ("{term: attention_transfer, layer: group2, teacher_layer: group1}", "group1"),
        ("{term: explanation, layer: group2, teacher_layer: group1}", "group1"),
    ],
)
def test_the_layer_of_the_teacher_is_that_of_any_term(keys: str, expected: str, tmp_path: Path) -> None:
    config = load_config([], [f"objective.x={keys}", "teacher.checkpoint=t", "student.name=wrn_10_1", "data.size=16"])
    assert _teacher_layer(config, "group2") == (expected, "auto")


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("Bogus", "the classes are top, trouser"),
        ("Sneeker", "did you mean 'sneaker'?"),
        ("SHIRT", "did you mean 'shirt'?"),
    ],
)
def test_only_a_similar_class_is_suggested(asked: str, hint: str) -> None:
    with pytest.raises(InputError) as error:
        find_class(asked, CLASSES)
    assert f"unknown class {asked!r}; {hint}" in str(error.value)


def test_an_explanation_is_shown_as_one_line(run: Path) -> None:
    (one,) = explain_images(run, scenes(1), target="bag")
    shown = "16 x 16 pixels, explained='bag', method='grad_cam_pp', maps of student"
    assert repr(one) == f"ImageExplanation('image 0', {shown})"
    assert repr(one.student) == "NetworkView(student: wrn_10_1 at 'final', map (16, 16))"
