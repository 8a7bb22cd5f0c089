"""Options of third-party terms: types, defaults, mistakes, identity."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from distill.build import build, resolve_terms
from distill.config import CustomLayeredTerm, CustomTerm, custom_terms, identity
from distill.errors import InputError
from tests.losses.own_term_helpers import OWN, config_of, told

pytestmark = pytest.mark.usefixtures("own_registry")


def test_options_are_the_arguments_with_their_types_and_defaults(tmp_path: Path) -> None:
    config = config_of(tmp_path, f"objective.norm={{term: '{OWN}:Norm', size: '3', sizes: [4]}}")
    term = config.objective["norm"]
    assert isinstance(term, CustomLayeredTerm)
    assert term.layers == {"group1": 1.0, "group2": 1.0}
    options = {"size": 3, "form": "mean", "share": 0.5, "sizes": [4], "dtype": None}
    assert term.options == options
    recorded = config.model_dump(mode="json")["objective"]["norm"]
    assert {key: recorded[key] for key in options} == options
    assert recorded["term"] == f"{OWN}:Norm"
    module: Any = build(config).module.objective.terms["norm"]
    assert (module.size, module.sizes, module.layers) == (3, (4,), {"group1": 1.0, "group2": 1.0})
    assert (type(module.sizes), module.form) == (tuple, "mean")


def test_layers_have_their_short_forms(tmp_path: Path) -> None:
    term = config_of(tmp_path, f"objective.norm={{term: '{OWN}:Norm', size: 1, layer: group2}}").objective["norm"]
    assert isinstance(term, CustomLayeredTerm)
    assert term.layers == {"group2": 1.0}
    assert not term.needs_teacher


def test_a_default_that_is_written_out_is_the_same_run_and_another_option_is_not(tmp_path: Path) -> None:
    def of(options: str = "") -> str:
        return identity(config_of(tmp_path, f"objective.c={{term: '{OWN}:Confidence'{options}}}"))

    assert of() == of(", power: 1") == of(", power: 1.0")
    assert len({of(), of(", power: 2"), of(", weight: 2")}) == 3


def test_a_config_without_the_class_resolves_to_the_same(tmp_path: Path) -> None:
    pair = f"objective.norm={{term: '{OWN}:Norm', size: 3}}"
    unread = config_of(tmp_path, pair, import_terms=False)
    assert type(unread.objective["norm"]) is CustomTerm
    assert unread.objective["norm"].model_extra == {"size": 3}
    resolved = resolve_terms(unread)
    assert resolved == config_of(tmp_path, pair)
    assert resolve_terms(resolved) is resolved


def test_a_config_survives_pickling(tmp_path: Path) -> None:
    config = config_of(tmp_path, f"objective.norm={{term: '{OWN}:Norm', size: 3}}")
    again = pickle.loads(pickle.dumps(config))
    assert again == config
    assert resolve_terms(again) is again


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{term: 'nowhere:X'}", "objective.x.term: module nowhere cannot be imported: ModuleNotFoundError: No module "),
        (f"{{term: '{OWN}:Confidense'}}", f"objective.x.term: module {OWN}: unknown class 'Confidense'; did you mean "),
        (
            f"{{term: '{OWN}:NoModule'}}",
            f"objective.x.term: {OWN}:NoModule must be a subclass of torch.nn.Module, got ",
        ),
        (
            f"{{term: '{OWN}:function'}}",
            f"objective.x.term: {OWN}:function must be a subclass of torch.nn.Module, got ",
        ),
        (f"{{term: '{OWN}:Confidence', powr: 1}}", "objective.x.powr: unknown key; did you mean 'power'?"),
        (f"{{term: '{OWN}:Confidence', layer: a}}", "objective.x.layer: unknown key"),
        (f"{{term: '{OWN}:Confidence', weigth: 1}}", "objective.x.weigth: unknown key; did you mean 'weight'?"),
        (f"{{term: '{OWN}:Norm'}}", "objective.x.size: field required"),
        (f"{{term: '{OWN}:Norm', size: many}}", "objective.x.size: input should be a valid integer, unable to parse "),
        (
            f"{{term: '{OWN}:Norm', size: 1, form: men}}",
            "objective.x.form: input should be 'mean' or 'sum', got 'men'; did you mean 'mean'?",
        ),
        (f"{{term: '{OWN}:Norm', size: 1, share: 2}}", "objective.x.share: input should be less than or equal to 1, "),
        (f"{{term: '{OWN}:Norm', size: 1, activation: 2}}", "objective.x.activation: unknown key"),
        (f"{{term: '{OWN}:Norm', size: 1, every: 0}}", "objective.x.every: input should be greater than or equal to 1"),
        (f"{{term: '{OWN}:Hint'}}", "objective.x needs a teacher: add teacher.checkpoint, or set its weight to 0"),
        (f"{{term: '{OWN}:MapDifference'}}", "objective.x needs a teacher: add teacher.checkpoint, or set its weight "),
        (
            f"{{term: '{OWN}:Heavy'}}",
            f"objective.x.term: {OWN}:Heavy.__init__ has an argument 'weight', which is already a key",
        ),
        (
            f"{{term: '{OWN}:NeedsModule'}}",
            f"objective.x.term: {OWN}:NeedsModule.__init__: the argument 'network' has ",
        ),
        (
            f"{{term: '{OWN}:WrongMethod'}}",
            f"objective.x.term: {OWN}:WrongMethod.needs_maps: unknown method 'grad_cam_p",
        ),
        (f"{{term: '{OWN}:WrongDefault'}}", f"objective.x.term: {OWN}:WrongDefault.__init__: the argument 'size' has "),
        (f"{{term: '{OWN}:Unknowable'}}", f"objective.x.term: the annotations of {OWN}:Unknowable.__init__ cannot be "),
        (
            "{term: mine.ChannelWise}",
            "objective.x: unknown term 'mine.ChannelWise' (known: cross_entropy, soft_targets",
        ),
        ("3", "objective.x: input should be a mapping of keys such as weight, got 3"),
        ("{term: 3}", "objective.x: unknown term 3 (known: cross_entropy, "),
    ],
)
def test_a_mistake_is_one_message(value: str, message: str) -> None:
    assert told(f"objective.x={value}").startswith(message)
    assert "\n" not in told(f"objective.x={value}")


def test_all_mistakes_are_reported_at_once_with_and_without_the_hook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = (
        f"objective.a={{term: '{OWN}:Norm', siz: 1}}",
        "objective.b={term: 'nowhere:X'}",
        f"objective.c={{term: '{OWN}:Confidence', power: much}}",
    )
    expected = [
        "objective.a.siz: unknown key; did you mean 'size'?",
        "objective.a.size: field required",
        "objective.b.term: module nowhere cannot be imported: ModuleNotFoundError: No module named 'nowhere'. It must "
        "be installed or lie in the current folder.",
        "objective.c.power: input should be a valid number, unable to parse string as a number, got 'much'",
    ]
    lines = told(*pairs, "optimizer.lr=-1").split("\n  ")
    assert lines == [*expected, "optimizer.lr: input should be greater than 0, got -1"]
    monkeypatch.setattr(custom_terms, "_OPTIONS", {})
    with pytest.raises(InputError) as caught:
        build(config_of(tmp_path, *pairs, import_terms=False))
    assert str(caught.value).split("\n  ")[1:] == expected
