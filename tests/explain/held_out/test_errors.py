"""Error messages of the held-out methods."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from distill.cli.listing import run
from distill.config import ExplanationTerm
from distill.explain import ATTRIBUTIONS, METHODS, Explainer
from distill.models import StagedNetwork
from tests.explain.held_out.networks import QUICK, functional
from tests.models.own_networks import Branching, made

RULED = [method for method, about in ATTRIBUTIONS.items() if about.relus]


@pytest.mark.parametrize("method", ATTRIBUTIONS)
def test_nothing_is_trained_through_them(wrn: StagedNetwork, images: Tensor, labels: Tensor, method: str) -> None:
    with pytest.raises(ValueError, match=f"{method}.*cannot be trained through"):
        Explainer(method)(wrn, images, labels, create_graph=True)
    with pytest.raises(ValueError, match=f"{method}.*cannot be trained through"):
        Explainer(method).from_output(wrn.run(images, ["final"]), labels)


def test_no_configuration_trains_on_them() -> None:
    with pytest.raises(ValueError, match="method"):
        ExplanationTerm(term="explanation", method="saliency")  # type: ignore[arg-type]


def test_the_list_says_that_they_are_for_evaluation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    run("methods")
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.split()}
    assert all("evaluation only" in rows[method] for method in ATTRIBUTIONS)
    assert not any("evaluation only" in rows[method] for method in METHODS)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("rise", {"mask": 10}, "did you mean 'masks'"),
        ("saliency", {"baseline": "black"}, "unknown option 'baseline'.*images_at_a_time"),
        ("grad_cam", {"seed": 1}, "unknown option 'seed'"),
        ("saliency", {"images_at_a_time": 0}, "images_at_a_time.*at least 1, got 0"),
    ],
)
def test_an_unknown_option_names_the_known_ones(method: str, options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Explainer(method, options=options)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("integrated_gradients", {"steps": 0}, "`steps` must be at least 1, got 0"),
        ("deep_lift", {"baseline": "grey"}, "`baseline` must be one of black, mean, got 'grey'"),
        ("occlusion", {"window": 9}, "`window`.*from 1 to.*8; got 9"),
        ("occlusion", {"window": 2, "stride": 3}, "`stride`.*from 1 to.*2; got 3"),
        ("rise", {"keep": 0.0}, "`keep`.*got 0.0"),
        ("rise", {"masks": 0}, "`masks` must be at least 1, got 0"),
        ("lime", {"patches": 0}, "`patches` must be at least 1, got 0"),
    ],
)
def test_a_setting_out_of_its_range_is_named(
    wrn: StagedNetwork, images: Tensor, labels: Tensor, method: str, options: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Explainer(method, options=options)(wrn, images, labels)


@pytest.mark.usefixtures("unchecked")
def test_other_scores_and_inputs_are_refused(wrn: StagedNetwork, images: Tensor, labels: Tensor) -> None:
    with pytest.raises(ValueError, match=r"one class per sample; pass classes \(N,\)"):
        Explainer("saliency", target=[0, 1])(wrn, images)
    with pytest.raises(ValueError, match="labels"):
        Explainer("saliency")(wrn, images)
    with pytest.raises(ValueError, match="one tensor of images, got tuple"):
        Explainer("saliency")(wrn, (images,), labels)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="group9"):
        Explainer("guided_grad_cam", "group9")(wrn, images, labels)
    with pytest.raises(ValueError, match="is not a cut"):
        Explainer("guided_grad_cam", "group2_sum")(wrn, images, labels)


@pytest.mark.parametrize("method", RULED)
def test_relus_that_cannot_be_reached_are_refused(images: Tensor, labels: Tensor, method: str) -> None:
    network = nn.Sequential(functional(branching=True), nn.Identity())
    with pytest.raises(ValueError, match=re.escape(f"{method!r}") + ".*3 of those .*nn.ReLU modules"):
        Explainer(method, "0.second")(network, images, labels)
    assert float(Explainer("integrated_gradients")(network, images, labels).maps.amax()) > 0


def test_captums_words_are_told_with_what_could_not_be_traced(images: Tensor, labels: Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"cannot trace Branching: .*used more than once.*Use a separate nn.ReLU module"
    ):
        Explainer("deep_lift")(made(Branching), images, labels)


@pytest.mark.parametrize("method", ATTRIBUTIONS)
def test_a_network_that_normalises_by_the_batch_is_refused(method: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten())
    with pytest.raises(ValueError, match=r"'1'.*track_running_stats"):
        Explainer(method, "0", options=QUICK.get(method, {}))(network, torch.rand(2, 3, 3, 3), torch.tensor([0, 1]))
