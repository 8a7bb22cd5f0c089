"""The other public functions, on runs and objects."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

import distill
from distill.errors import InputError
from distill.evaluation import ONE_PASS
from distill.workflows.run import Run
from tests.e2e.helpers import Command
from tests.workflows.own import SCALING, Net, Stripes
from tests.workflows.test_train import trained


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    teacher = {"network": Net(width=6).eval(), "normalisation": SCALING}
    return trained(tmp_path_factory.mktemp("own"), name="own", teacher=teacher, explanation=2)


def test_importing_distill_imports_no_torch() -> None:
    script = (
        "import sys, time; start = time.perf_counter(); import distill; took = time.perf_counter() - start\n"
        "assert 'evaluate' in dir(distill) and distill.__version__\n"
        "heavy = {'torch', 'numpy', 'pytorch_lightning', 'pydantic', 'omegaconf'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "assert took < 0.2, took\n"
        "try:\n    distill.nothing\nexcept AttributeError as error:\n    assert 'nothing' in str(error)\n"
        "else:\n    raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_all_public_functions_are_importable() -> None:
    for name in distill.__all__:
        assert callable(getattr(distill, name)), name


def test_a_run_is_evaluated_beside_its_teacher(run: Run, tmp_path: Path) -> None:
    test = Stripes(24, seed=3)
    done = distill.evaluate(run, reference=run.teacher, data=test, settings=ONE_PASS, gallery=0, output=tmp_path)
    assert done.record["reference"] == "teacher"
    figures = done.record["sets"]["test"]["networks"]["own"]["figures"]
    right = run.student((test.images * 255).round() / 255).argmax(1) == torch.tensor(test.labels)
    assert figures["accuracy"] is not None
    assert figures["accuracy"]["value"] == pytest.approx(float(right.double().mean()))
    assert done.report == tmp_path / "report.html"
    assert "Accuracy" in done.table
    assert done._repr_markdown_() == done.table


def test_several_labelled_and_unlabelled(run: Run) -> None:
    sets = {"one": Stripes(8), "two": Stripes(4)}
    done = distill.evaluate({"A": run, "B": run.student}, data=sets, settings=ONE_PASS)
    assert list(done.record["networks"]) == ["A", "B"]
    assert {name: entry["n"] for name, entry in done.record["sets"].items()} == {"one": 8, "two": 4}


def test_objects_that_cannot_be_rebuilt_are_reported(run: Run, distill_command: Command) -> None:
    with pytest.raises(InputError, match=r"passed as a Python object \(tests\.workflows\.own\.Net\)") as error:
        distill.evaluate(run.directory, data=Stripes(8))
    assert "--network package.module:callable" in str(error.value)
    with pytest.raises(InputError, match=r"data set was passed as a Python object .*data=dataset"):
        distill.evaluate(run.directory, network=Net())
    with pytest.raises(InputError, match=r"tests\.workflows\.own\.Net"):
        distill.load_model(run.directory)
    result = distill_command("evaluate", run.directory)
    assert result.code == 2
    assert "--network package.module:callable" in result.message


def test_passing_the_object_again_gives_the_same_metrics(run: Run, distill_command: Command) -> None:
    settings = {"data": Stripes(24, seed=3), "settings": ONE_PASS, "gallery": 0}
    kept = distill.evaluate(run, **settings).record["sets"]  # type: ignore[arg-type]
    for network in (Net(), "tests.workflows.own:Net"):
        assert distill.evaluate(run.directory, network=network, **settings).record["sets"] == kept  # type: ignore[arg-type]
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(distill.load_model(run.directory, network=Net())(images), run.student(images))
    with pytest.raises(InputError, match="does not fit"):
        distill.load_model(run.directory, network=Net(width=5))


def test_images_of_a_run_are_explained(run: Run) -> None:
    image = (Stripes(2).images[0] * 255).to(torch.uint8)
    (explained,) = distill.explain_images(run, image)
    assert set(explained.maps) == {"student", "teacher"}
    assert explained.top(1)[0][0] in ("left", "right")
    with pytest.raises(InputError, match="--network"):
        distill.explain_images(run.directory, image)
    (alone,) = distill.explain_images(run.directory, image, network=Net(), notify=lambda text: None)
    assert set(alone.maps) == {"student"}


def test_the_student_of_a_run_is_exported(run: Run, tmp_path: Path) -> None:
    done = distill.export_model(run, format="pt2", data=Stripes(8), output=tmp_path / "student.pt2")
    assert done.parity.images == 8
    exported = torch.export.load(done.path).module()
    images = torch.rand(3, 3, 8, 8)
    assert torch.allclose(exported(images)["logits"], run.student(images), atol=1e-5)
    with pytest.raises(InputError, match="data set was passed as a Python object"):
        distill.export_model(run, format="pt2", output=tmp_path / "other.pt2")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to evaluate"),
        ((Net(),), "the input normalisation of a Net is unknown"),
    ],
)
def test_invalid_arguments_of_evaluate(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        distill.evaluate(*arguments, data=Stripes(4))  # type: ignore[arg-type]


def test_networks_without_data_are_refused(run: Run) -> None:
    with pytest.raises(InputError, match=r"have no test split\. Pass a data set as `data`"):
        distill.evaluate({"A": run.student})
    with pytest.raises(InputError, match="`data` and `on` exclude each other"):
        distill.evaluate(run, data=Stripes(4), on=["size=8"])


@pytest.mark.parametrize(
    ("old", "name", "new"),
    [
        ("distill.explanations", "explain_images", "distill.workflows.explain"),
        ("distill.explanations", "ImageExplanation", "distill.report.explained"),
        ("distill.hooked", "run_hooked", "distill.models.hooked"),
        ("distill.metrics.statistics", "holm", "distill.metrics.significance"),
    ],
)
def test_an_old_path_works_and_warns(old: str, name: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, old, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{old} moved; import from .*{new}"):
        module = importlib.import_module(old)
    assert getattr(module, name) is getattr(importlib.import_module(new), name)
    with pytest.raises(AttributeError, match="nothing"):
        module.nothing  # noqa: B018


@pytest.mark.slow
def test_an_ablation_from_python(tmp_path: Path) -> None:
    tiny = Path(__file__).parents[2] / "configs" / "ablation" / "tiny.yaml"
    changes = {"executor.processes": 1, "metrics": ["unbiased/accuracy"]}
    with pytest.raises(InputError, match="seedz"):
        distill.ablate(tiny, output_dir=str(tmp_path), seedz=1)
    with pytest.raises(InputError, match="max_runs=1"):
        distill.ablate(tiny, output_dir=str(tmp_path), max_runs=1)
    done = distill.ablate(tiny, overrides=["executor.processes=1"], output_dir=str(tmp_path), seeds=[3], max_runs=3)
    assert (done.failed, done.folder) == (0, tmp_path / "tiny")
    assert [trial["seed"] for trial in done.record["trials"]] == [3, 3, 3]
    assert "| CE + KD" in done.table
    again = distill.ablate(tiny, overrides=changes, output_dir=str(tmp_path), seeds=[3])
    assert again.record["trials"][0]["state"] == "done"


def test_a_student_that_was_passed_as_an_object_has_a_sanity_check(run: Run, tmp_path: Path) -> None:
    few = {"sanity": 2, "perturbed": 0, "explained": 0, "resamples": 0, "masked": False}
    done = distill.evaluate(run, data=Stripes(4, seed=3), settings=few, gallery=0, output=tmp_path)
    parts = done.record["sets"]["test"]["networks"]["own"]["sanity"]
    assert parts is not None
    assert [part["part"] for part in parts] == ["fc", "features"]


def test_a_run_is_evaluated_on_the_images_that_it_holds(run: Run, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="no test split.*validation images are used.*Pass a test set as `data`"):
        done = distill.evaluate(run, settings=ONE_PASS, gallery=0, output=tmp_path)
    assert {name: entry["n"] for name, entry in done.record["sets"].items()} == {"validation": 16}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = distill.evaluate(run, split="validation", settings=ONE_PASS, gallery=0, output=tmp_path, limit=8)
    assert again.record["sets"]["validation"]["n"] == 8
    with pytest.raises(InputError, match="data set was passed as a Python object"):
        distill.evaluate(run, on="size=8", settings=ONE_PASS, output=tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"settings": {"sanitty": 0}}, "settings: unknown key 'sanitty'; did you mean 'sanity'"),
        ({"maps": {"layr": "final"}}, "maps: unknown key 'layr'; did you mean 'layers' or 'layer'|maps: unknown key"),
        ({"settings": {"sanity": "many"}}, "settings: a value has the wrong type"),
        ({"settings": 3}, "`settings` must be EvaluationSettings or a mapping of its fields, got 3"),
    ],
)
def test_unknown_settings_are_refused(run: Run, given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        distill.evaluate(run, data=Stripes(4), **given)  # type: ignore[arg-type]
