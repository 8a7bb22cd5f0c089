"""Choice of the class, the normalisation and the layer, and error messages for invalid choices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from distill.explain import Explainer, PairExplainer, grad_cam
from distill.maps import normalize_maps
from distill.models import StagedNetwork
from distill.types import StagedOutput
from tests.explain.networks import cut_module, own_gradients, same


def test_the_class_is_the_label_or_the_prediction(wrn: StagedNetwork, images: Tensor) -> None:
    predicted = wrn(images).argmax(1)
    other = (predicted + 1) % 3
    by_label = Explainer("grad_cam_pp", "group2")
    by_prediction = Explainer("grad_cam_pp", "group2", target="predicted")
    found = by_prediction(wrn, images, other)
    assert found.target.tolist() == predicted.tolist()
    same(found.maps, by_prediction(wrn, images).maps)
    same(found.maps, by_label(wrn, images, predicted).maps)
    assert not torch.allclose(found.maps, by_label(wrn, images, other).maps)
    with pytest.raises(ValueError, match="labels"):
        by_label(wrn, images)


@pytest.mark.parametrize("policy", ["label", "teacher", "student"])
def test_student_and_teacher_are_asked_about_the_same_class(
    wrn: StagedNetwork, resnet: StagedNetwork, images: Tensor, policy: str
) -> None:
    student, teacher = wrn.run(images, ["group2"]), resnet.run(images, ["final"])
    choices = {"teacher": torch.tensor([0, 1, 2, 0]), "student": torch.tensor([1, 2, 0, 0])}
    choices["label"] = torch.tensor([2, 0, 1, 1])
    student, teacher = (
        StagedOutput(torch.nn.functional.one_hot(choices[who], 3).double(), output.activations, output.heads)
        for who, output in (("student", student), ("teacher", teacher))
    )
    mine, theirs = Explainer("grad_cam_pp", "group2"), Explainer("grad_cam", "final")
    pair = PairExplainer(mine, theirs, policy)  # type: ignore[arg-type]
    found = pair.from_outputs(student, teacher, choices["label"], create_graph=True)
    same(found.student.detach(), mine.from_output(student, choices[policy]))
    same(found.teacher, theirs.from_output(teacher, choices[policy]))
    assert found.student.requires_grad
    assert not found.teacher.requires_grad
    unlike = mine.from_output(student, choices["label" if policy != "label" else "teacher"])
    assert not torch.allclose(found.student.detach(), unlike)


@pytest.mark.parametrize("how", ["l2", "max", "sum", "min_max", "none"])
def test_maps_are_normalised_on_demand(wrn: StagedNetwork, images: Tensor, labels: Tensor, how: str) -> None:
    raw = Explainer("grad_cam_pp", "group2")(wrn, images, labels).maps
    found = Explainer("grad_cam_pp", "group2", normalize=how)(wrn, images, labels).maps  # type: ignore[arg-type]
    same(found, normalize_maps(raw, how))  # type: ignore[arg-type]
    assert torch.allclose(found, raw) == (how == "none")


def test_the_maps_are_of_the_activations_of_the_layer(wrn: StagedNetwork, images: Tensor, labels: Tensor) -> None:
    seen: list[Tensor] = []
    handle = cut_module(wrn, "group1").register_forward_hook(lambda _m, _i, out: seen.append(out.detach().clone()))
    wrn(images)
    handle.remove()
    output = wrn.run(images, ["group1"])
    same(output.activations["group1"], seen[0])
    assert float(seen[0].amin()) == 0.0
    expected = grad_cam(seen[0], own_gradients(output, "group1", labels))
    torch.testing.assert_close(Explainer("grad_cam", "group1")(wrn, images, labels).maps, expected)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("wrong", "known"),
    [
        ({"method": "grad_kam"}, ["cam", "grad_cam", "positive_grad_cam", "grad_cam_pp"]),
        ({"target": "labels"}, ["label", "predicted"]),
        ({"normalize": "l3"}, ["l2", "max", "sum", "min_max", "none"]),
        ({"gradients": "numeric"}, ["auto", "closed_form", "autograd"]),
        ({"statistics": "none"}, ["batch", "running"]),
    ],
)
def test_an_unknown_option_names_the_known_ones(wrong: dict[str, str], known: list[str]) -> None:
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=name) as caught:
        Explainer(**wrong)  # type: ignore[arg-type]
    assert value in str(caught.value)
    assert all(option in str(caught.value) for option in known)


def test_an_unknown_policy_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="label, teacher, student"):
        PairExplainer(Explainer(), Explainer(), "both")  # type: ignore[arg-type]


def test_a_layer_that_is_no_cut_is_refused(wrn: StagedNetwork, images: Tensor, labels: Tensor) -> None:
    with pytest.raises(ValueError, match=r"group1.*group2.*final.*'group9'"):
        Explainer("grad_cam", "group9")(wrn, images, labels)
    with pytest.raises(ValueError, match="group2_sum"):
        Explainer("grad_cam", "group2_sum")(wrn, images, labels)
    with pytest.raises(ValueError, match="group1"):
        Explainer("grad_cam", "group1").from_output(wrn.run(images, ["group2"]), labels)
