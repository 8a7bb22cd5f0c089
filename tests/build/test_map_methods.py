"""`method: auto` of an explanation term: resolved by the sign of the activations before a run has an identity."""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

import distill
from distill.ablation.plan import plan_ablation
from distill.build import Objects, build, map_methods, resolve_methods
from distill.config import Config, ExplanationTerm, identity, load
from distill.errors import InputError, InputNote
from distill.models import create_model, save_model
from distill.models.catalogue import known_signs
from distill.models.signed_layers import signed_layers
from distill.workflows.run import Run
from tests.models.library_files import work_offline
from tests.training.helpers import save_teacher, small
from tests.workflows.own import QUIET, SCALING, Net, Stripes

SMOOTH = f"{__name__}:Smooth"
TINY = Path(__file__).parents[2] / "configs" / "ablation" / "tiny.yaml"


class Smooth(Net):
    """A network whose activations are signed."""

    def __init__(self, num_classes: int = 2, in_channels: int = 3) -> None:
        super().__init__(num_classes, in_channels)
        self.features[1], self.features[3] = nn.SiLU(), nn.SiLU()


@pytest.fixture(autouse=True)
def _measure_anew() -> None:
    map_methods._in_named.cache_clear()


def config_of(*pairs: str) -> Config:
    return load([], ["teacher.checkpoint=here", "objective.explanation.weight=5", *pairs])


def method_of(config: Config, name: str = "explanation") -> str:
    term = config.objective[name]
    assert isinstance(term, ExplanationTerm)
    return term.method


def resolved(*pairs: str, objects: Objects | None = None) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputNote)
        return method_of(resolve_methods(config_of(*pairs), objects))


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        (["objective.explanation.weight=5"], "fec47cddd08fe4d4"),
        (["objective.explanation={weight: 2, layer: group2}", "student.name=wrn_10_1"], "a75a9157de967188"),
        (["objective.explanation.layers={final: 1, layer1: 0.5}", "student.name=resnet18"], "025288a222954fe0"),
        (["objective.maps={term: explanation, weight: 0}"], "120291997b26222f"),
        (["objective.explanation={weight: 5, method: grad_cam}"], "cb440607ea63f98f"),
    ],
)
def test_identities_of_runs_of_built_in_networks_are_those_of_the_earlier_default(
    pairs: list[str], expected: str
) -> None:
    config = load([], ["teacher={checkpoint: here}", *pairs])
    assert identity(resolve_methods(config), teacher_hash="abc") == expected


def test_identities_of_an_ablation_are_those_of_the_earlier_default() -> None:
    first, *_, last = plan_ablation(TINY).trials
    assert (first.identity, last.identity) == ("57cf073207749034", "61c1ec662835af5c")
    assert method_of(last.config) == "grad_cam_pp"


@pytest.mark.parametrize("name", ["wrn_10_1", "resnet18"])
def test_the_signs_that_are_known_are_those_that_are_measured(name: str) -> None:
    signs = known_signs(name)
    network = create_model(name, num_classes=3)
    assert signs.keys() == {*network.cuts, *network.taps}
    assert signed_layers(network, list(signs)) == tuple(layer for layer, signed in signs.items() if signed)


@pytest.mark.parametrize(
    ("name", "layer", "expected"),
    [
        ("wrn_10_1", "group1", "grad_cam_pp"),
        ("wrn_10_1", "group2_sum", "grad_cam"),
        ("wrn_10_1", "block3.layer.0.relu1", "grad_cam_pp"),
        ("wrn_10_1", "block3.layer.0.conv1", "grad_cam"),
        ("torchvision:resnet18", "final", "grad_cam_pp"),
        ("torchvision:resnet18", "layer4.1.bn2", "grad_cam"),
        ("torchvision:mobilenet_v3_small", "final", "grad_cam"),
        ("timm:convnext_atto", "final", "grad_cam"),
        (SMOOTH, "final", "grad_cam"),
        (SMOOTH, "features.0", "grad_cam"),
        (f"{Net.__module__}:Net", "final", "grad_cam_pp"),
    ],
)
def test_the_method_follows_the_sign_of_the_layer(name: str, layer: str, expected: str) -> None:
    assert resolved(f"student.name={name}", f"objective.explanation.layer={layer}") == expected


def test_a_layer_whose_parameters_start_at_zero_is_measured_with_others() -> None:
    network = Net()
    nn.init.zeros_(network.features[2].weight)  # type: ignore[arg-type]
    nn.init.zeros_(network.features[2].bias)  # type: ignore[arg-type]
    student = Objects(student=network)
    assert resolved("objective.explanation.layer=features.2", objects=student) == "grad_cam"
    assert not network.features[2].weight.any()  # type: ignore[operator]


def test_one_signed_layer_of_several_is_enough() -> None:
    term = "objective.explanation.layers={features.1: 1, features.3: 1}"
    network = Net()
    assert resolved(term, objects=Objects(student=network)) == "grad_cam_pp"
    network.features[1] = nn.SiLU()
    assert resolved(term, objects=Objects(student=network)) == "grad_cam"


def test_a_built_in_network_is_not_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise AssertionError

    for name in ("create_model", "load_network", "signed_layers"):
        monkeypatch.setattr(map_methods, name, fail)
    teacher = f"teacher.checkpoint={save_teacher(tmp_path)}"
    tap = "objective.explanation={layer: final, teacher_layer: group3_sum}"
    assert (resolved(teacher), resolved(teacher, tap)) == ("grad_cam_pp", "grad_cam")


@pytest.mark.parametrize("weights", ["true", "DEFAULT"])
def test_pretrained_weights_are_not_downloaded(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work_offline(tmp_path, monkeypatch)
    section = f"{{name: 'torchvision:mobilenet_v3_small', weights: {weights}}}"
    assert resolved(f"student={section}") == "grad_cam"
    map_methods._in_named.cache_clear()
    assert resolved("teacher.checkpoint=null", f"teacher={section}", "student.name=wrn_10_1") == "grad_cam"
    assert not list(tmp_path.iterdir())


def test_a_signed_teacher_is_enough_and_a_note_names_it(tmp_path: Path) -> None:
    save_model(create_model(SMOOTH, num_classes=10), tmp_path)
    config = config_of("student.name=wrn_10_1", f"teacher={{checkpoint: {tmp_path}, name: '{SMOOTH}'}}")
    with pytest.warns(InputNote, match=r"explanation.method: auto is grad_cam, .* signed: 'final' of the teacher\."):
        assert method_of(resolve_methods(config)) == "grad_cam"


def test_code_that_the_files_of_a_teacher_name_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "smooth_of_a_stranger.py").write_text(f"from {__name__} import Smooth\n")
    sys.path.insert(0, str(tmp_path))
    try:
        network = create_model("smooth_of_a_stranger:Smooth", num_classes=10)
        save_model(network, tmp_path / "teacher")
        del sys.modules["smooth_of_a_stranger"]
        pairs = (f"teacher.checkpoint={tmp_path / 'teacher'}", "objective.explanation.weight=5")
        assert resolved(*pairs) == "grad_cam_pp"
        with pytest.raises(InputError, match="asks to import"):
            build(small(tmp_path, *pairs))
        assert "smooth_of_a_stranger" not in sys.modules
        with pytest.warns(InputNote, match="'final' of the teacher"):
            assert method_of(resolve_methods(config_of(*pairs), trust=True)) == "grad_cam"
    finally:
        sys.path.remove(str(tmp_path))


def test_no_note_for_the_usual_method() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert method_of(resolve_methods(config_of())) == "grad_cam_pp"


@pytest.mark.parametrize("method", ["grad_cam_pp", "layer_cam"])
def test_a_method_that_was_asked_for_stays(method: str) -> None:
    config = config_of(f"student.name={SMOOTH}", f"objective.explanation.method={method}")
    assert resolve_methods(config) is config


def test_a_term_that_is_not_computed_has_the_usual_method() -> None:
    assert resolved(f"student.name={SMOOTH}", "objective.explanation.weight=0") == "grad_cam_pp"


def test_an_unknown_layer_is_reported_by_the_build(tmp_path: Path) -> None:
    teacher = f"teacher.checkpoint={save_teacher(tmp_path)}"
    pairs = (teacher, "objective.explanation={weight: 1, layer: gruop2}")
    assert resolved(*pairs) == "grad_cam_pp"
    with pytest.raises(InputError, match=r"student: `layer` must be one of group1, group2, final.*got 'gruop2'"):
        build(small(tmp_path, *pairs))


def test_a_network_is_the_same_after_it_was_measured() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(4, 2)).train()
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    assert resolved(objects=Objects(student=network)) == "grad_cam"
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert network[1].training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in network.parameters())


def trained(folder: Path, student: type[nn.Module] = Smooth, **keys: Any) -> Run:
    torch.manual_seed(0)
    given: dict[str, Any] = {"student": student(), "explanation": 5.0, "epochs": 1, "output_dir": str(folder)}
    data = (Stripes(16), Stripes(8, seed=1))
    teacher = {"network": Net(), "normalisation": SCALING}
    return distill.train({"data": {"batch_size": 8}}, **{**QUIET, **given, **keys}, data=data, teacher=teacher)


def test_a_run_records_the_method_and_goes_on_with_it(tmp_path: Path) -> None:
    with pytest.warns(InputNote, match="'final' of the student"):
        run = trained(tmp_path)
    recorded = OmegaConf.load(run.directory / "config.yaml")
    assert recorded.objective.explanation.method == method_of(run.config) == "grad_cam"
    with pytest.warns(InputNote):
        again = trained(tmp_path)
    with pytest.warns(InputNote):
        longer = trained(tmp_path, epochs=2, extend=True)
    assert (again.action, longer.action) == ("done", "resume")
    assert trained(tmp_path, epochs=2, explanation={"method": "grad_cam"}).action == "done"
    with pytest.raises(InputError, match="another configuration"):
        trained(tmp_path, epochs=2, explanation={"method": "grad_cam_pp"})


def test_a_run_of_relu_networks_records_the_usual_method(tmp_path: Path) -> None:
    run = trained(tmp_path, student=Net)
    assert OmegaConf.load(run.directory / "config.yaml").objective.explanation.method == "grad_cam_pp"


def ablation(path: Path, *methods: str, teacher: str, student: str) -> Path:
    """Write an ablation with a row for each method; the teacher is not trained yet."""
    content = OmegaConf.load(TINY)
    content.rows = {method: {"objective": {"explanation": {"method": method}}} for method in methods}
    content.baseline = methods[0]
    content.base = content.teacher.base = str(TINY.parent / content.base)
    content.overrides.student, content.teacher.overrides.student = {"name": student}, {"name": teacher}
    OmegaConf.save(content, path)
    return path


def test_rows_with_auto_and_with_its_method_are_the_same_row(tmp_path: Path) -> None:
    methods = ("auto", "grad_cam", "grad_cam_pp")
    path = ablation(tmp_path / "signed.yaml", *methods, teacher="wrn_10_1", student=SMOOTH)
    with pytest.warns(InputNote), pytest.raises(InputError) as error:
        plan_ablation(path)
    assert str(error.value).splitlines()[1:] == [
        "  rows: 'auto' and 'grad_cam' have the same configuration; remove one"
    ]


def test_the_sign_of_a_teacher_that_is_not_trained_yet_counts(tmp_path: Path) -> None:
    path = ablation(tmp_path / "signed.yaml", "auto", "grad_cam_pp", teacher=SMOOTH, student="wrn_10_1")
    with pytest.warns(InputNote, match="'final' of the teacher"):
        trials = plan_ablation(path).trials
    assert {trial.row: method_of(trial.config) for trial in trials} == {
        "auto": "grad_cam",
        "grad_cam_pp": "grad_cam_pp",
    }
