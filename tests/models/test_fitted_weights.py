"""Weights of other projects: nests, prefixes, half precision, other heads, and what messages say about them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distill.errors import InputError, InputNote
from distill.models import StagedNetwork, create_model, load_network
from distill.models.fitted_weights import PREFIXES, fit_weights

State = dict[str, Tensor]
ABOUT: dict[str, Any] = {
    "name": "wrn_10_1",
    "num_classes": 3,
    "normalisation": {"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
}


def network(seed: int = 1, num_classes: int = 3) -> StagedNetwork:
    torch.manual_seed(seed)
    return create_model("wrn_10_1", num_classes=num_classes)


STATE: State = network().network.state_dict()


@contextmanager
def notes() -> Iterator[list[str]]:
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    said += [str(one.message) for one in caught if issubclass(one.category, InputNote)]


def assert_loaded(loaded: StagedNetwork, state: State = STATE) -> None:
    own = loaded.network.state_dict()
    assert all(torch.equal(own[key], value) for key, value in state.items())


def prefixed(prefix: str) -> State:
    return {prefix + key: value for key, value in STATE.items()}


OPTIMIZER = {"state": {0: {"momentum_buffer": torch.zeros(16, 3, 3, 3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
NESTS: dict[str, Any] = {
    "plain": STATE,
    **{
        name: {name: STATE, "optimizer": OPTIMIZER, "epoch": 7}
        for name in ("state_dict", "model", "model_ema", "ema", "net", "module")
    },
    "ema inside": {"ema": {"module": STATE, "updates": 100}},
    "twice": {"state_dict": {"model": STATE}, "hyper_parameters": {"lr": 0.1}},
    "empty model": {"model": {"depth": 10}, "state_dict": STATE},
}


@pytest.mark.parametrize("nest", NESTS)
def test_every_nest_is_found(tmp_path: Path, nest: str) -> None:
    torch.save(NESTS[nest], tmp_path / "net.pth")
    with notes() as said:
        loaded = load_network(tmp_path / "net.pth", **ABOUT)
    assert_loaded(loaded)
    assert said == []


@pytest.mark.parametrize("prefix", [*(f"{one}." for one in PREFIXES), "model._orig_mod.", "student.module.backbone."])
def test_prefixes_are_removed_and_said(tmp_path: Path, prefix: str) -> None:
    torch.save(prefixed(prefix), tmp_path / "net.pth")
    with notes() as said:
        assert_loaded(load_network(tmp_path / "net.pth", **ABOUT))
    assert said == [f"{tmp_path / 'net.pth'}: the prefix `{prefix}` was removed from {len(STATE)} names."]


def test_a_backbone_beside_its_head(tmp_path: Path) -> None:
    mixed = {key if key.startswith("fc.") else f"backbone.{key}": value for key, value in STATE.items()}
    torch.save(mixed, tmp_path / "net.pth")
    assert_loaded(load_network(tmp_path / "net.pth", **ABOUT))


def test_other_parts_of_a_training_module_are_counted_and_not_used(tmp_path: Path) -> None:
    torch.save({**prefixed("student."), "criterion.weight": torch.ones(3)}, tmp_path / "net.ckpt")
    with notes() as said:
        assert_loaded(load_network(tmp_path / "net.ckpt", **ABOUT))
    assert said[1].endswith("1 tensors of something else are not used: criterion.weight.")
    torch.save({**STATE, "criterion.weight": torch.ones(3)}, tmp_path / "net.ckpt")
    with pytest.raises(InputError, match=r"1 unexpected: criterion.weight"):
        load_network(tmp_path / "net.ckpt", **ABOUT)


def test_two_networks_in_one_state_dict_are_never_mixed(tmp_path: Path) -> None:
    other = network(2).network.state_dict()
    both = prefixed("student.") | {f"model.{key}": value for key, value in other.items()}
    torch.save({"state_dict": both}, tmp_path / "net.ckpt")
    with pytest.raises(InputError, match=r"several times: behind the prefixes `student.` and `model.`.*weights_key"):
        load_network(tmp_path / "net.ckpt", **ABOUT)
    assert_loaded(load_network(tmp_path / "net.ckpt", weights_key="model", **ABOUT), other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted_and_said(tmp_path: Path, dtype: torch.dtype) -> None:
    other = {key: value.to(dtype) if value.is_floating_point() else value for key, value in STATE.items()}
    torch.save(other, tmp_path / "net.pth")
    with notes() as said:
        loaded = load_network(tmp_path / "net.pth", **ABOUT)
    assert_loaded(loaded, {key: value.to(STATE[key].dtype) for key, value in other.items()})
    count = sum(value.is_floating_point() for value in STATE.values())
    name = str(dtype).removeprefix("torch.")
    assert said == [f"{tmp_path / 'net.pth'}: {count} tensors were converted from {name} to float32."]


@pytest.mark.parametrize(
    "value",
    [torch.zeros(3, dtype=torch.int8), torch.zeros(3).to_sparse(), torch.zeros(3, device="meta"), torch.zeros(3) + 0j],
)
def test_values_that_are_no_plain_numbers_are_refused(value: Tensor) -> None:
    with pytest.raises(InputError, match=r"fc.bias holds .* values \(quantised, sparse or without values\)"):
        fit_weights({**STATE, "fc.bias": value}, STATE, Path("a"), name="wrn_10_1", num_classes=3)


def fit(state: State, **options: Any) -> tuple[State, tuple[str, ...]]:
    return fit_weights(state, STATE, Path("a.pth"), **{"name": "wrn_10_1", "num_classes": 3, **options})


HEAD = {"fc.weight": torch.zeros(1000, 64), "fc.bias": torch.zeros(1000)}


def test_a_head_of_another_class_count_is_refused_with_both_shapes_and_the_advice() -> None:
    with pytest.raises(InputError) as caught:
        fit({**STATE, **HEAD}, advice="Set `student.head=replace`.")
    assert str(caught.value) == (
        "a.pth has 1000 classes, but wrn_10_1 has 3: the layer fc does not fit, fc.weight is (1000, 64), "
        "expected (3, 64). Set `student.head=replace`."
    )


@pytest.mark.parametrize("head", [HEAD, {key: STATE[key] for key in HEAD}, {}, {"fc.0.weight": torch.zeros(2, 2)}])
def test_a_replaced_head_is_not_loaded(head: State) -> None:
    body = {key: value for key, value in STATE.items() if not key.startswith("fc.")}
    state, said = fit({**body, **head}, head="replace")
    assert set(state) == set(body)
    of = " (the file has 1000)" if head is HEAD else ""
    assert said == (f"fc starts anew for 3 classes{of}; all other layers are from the file",)


def test_a_replaced_head_excuses_nothing_else() -> None:
    with pytest.raises(InputError, match=r"1 missing: conv1.weight"):
        fit({key: value for key, value in STATE.items() if key != "conv1.weight"}, head="replace")
    with pytest.raises(InputError, match=r"1 unexpected: block4.weight"):
        fit({**STATE, **HEAD, "block4.weight": torch.zeros(1)}, head="replace")
    with pytest.raises(InputError, match=r"1 of another shape: bn1.bias is \(5,\), expected \(64,\)"):
        fit({**STATE, "bn1.bias": torch.zeros(5)}, head="replace")
    with pytest.raises(InputError, match="no layer with weights for 7 classes; remove `head`"):
        fit(STATE, head="replace", num_classes=7)


def test_problems_are_counted_and_the_first_ten_are_shown() -> None:
    foreign = {f"layer{i}.weight": torch.zeros(1) for i in range(12)}
    with pytest.raises(InputError) as caught:
        fit({**foreign, "bn1.bias": torch.zeros(5)})
    message = str(caught.value)
    missing = [key for key in STATE if not key.endswith("num_batches_tracked") and key != "bn1.bias"]
    assert f"{len(missing)} missing: {', '.join(missing[:10])} and {len(missing) - 10} more; " in message
    assert f"12 unexpected: {', '.join(list(foreign)[:10])} and 2 more; 1 of another shape: bn1.bias is (5,)" in message


def test_a_plain_state_dict_with_its_own_number_of_classes(tmp_path: Path) -> None:
    torch.save(prefixed("module."), tmp_path / "net.pth")
    about = {**ABOUT, "num_classes": 2}
    loaded = load_network(tmp_path / "net.pth", any_classes=True, **about)
    assert loaded.spec.num_classes == 3
    assert_loaded(loaded)
    with pytest.raises(InputError, match="has 3 classes, but wrn_10_1 has 2"):
        load_network(tmp_path / "net.pth", **about)
