"""Saving and loading weights without ever running what a file says.

Three forms are read: a run directory or its `student.safetensors` (with `student.json` beside it), a Lightning
`.ckpt` of ours, and a plain state dict (`.pth`, `.pt`, `.safetensors`) for which the architecture must be named.
"""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from distill.errors import InputError
from distill.files import replacing
from distill.models.catalogue import create_model, rebuild_message, stage_network
from distill.models.staged import ModelSpec, StagedNetwork
from distill.models.wrn import adapt_state_dict
from distill.objects import is_object

WEIGHTS_NAME, SPEC_NAME = "student.safetensors", "student.json"
#: Where a training checkpoint keeps the student, and the record of how it is built.
CHECKPOINT_PREFIX, CHECKPOINT_SPEC = "student.", "student_spec"
_KEYS = {"name", "num_classes", "in_channels", "options", "classes", "normalisation"}


def describe(net: StagedNetwork) -> dict[str, Any]:
    """Put into plain values what is needed to build a network again."""
    spec = net.spec
    return {
        "format": 1,
        "name": spec.name,
        "num_classes": spec.num_classes,
        "in_channels": spec.in_channels,
        "options": dict(spec.options),
        "classes": list(net.classes),
        "normalisation": {
            "mean": _shortest(net.normalise.mean),
            "std": _shortest(net.normalise.std),
        },
    }


def save_model(net: StagedNetwork, folder: Path | str) -> Path:
    """Write ``student.safetensors`` and ``student.json`` into a folder; each file appears whole or not at all.

    The weights come last: where they are, all is.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.contiguous() for key, value in net.network.state_dict().items()}
    weights, spec = folder / WEIGHTS_NAME, folder / SPEC_NAME
    for path, write in (
        (spec, lambda p: p.write_text(json.dumps(describe(net), indent=2) + "\n")),
        (weights, lambda p: safetensors.torch.save_file(state, p)),
    ):
        with replacing(path) as part:
            write(part)
    return weights


def load_model(path: Path | str, *, network: nn.Module | None = None) -> StagedNetwork:
    """Load the network of a run directory or of a ``student.safetensors``, in evaluation mode.

    Args:
        path: The run directory or file.
        network: A network of the same architecture, for a run whose student was passed as a Python object. The weights
            are loaded into a copy of it.

    Raises:
        InputError: if there is no such file, it was not written by :func:`save_model`, or the weights do not fit.
    """
    return load_network(path, network=network).eval()


def load_network(
    path: Path | str,
    *,
    name: str | None = None,
    num_classes: int | None = None,
    in_channels: int = 3,
    normalisation: Mapping[str, Sequence[float]] | None = None,
    options: Mapping[str, Any] | None = None,
    network: nn.Module | None = None,
) -> StagedNetwork:
    """Load any of the three forms.

    Args:
        path: Run directory, ``.ckpt``, ``.safetensors``, ``.pth`` or ``.pt``.
        name: Architecture; needed for a plain state dict, checked against the file's own otherwise.
        num_classes: For a plain state dict.
        in_channels: For a plain state dict.
        normalisation: ``{"mean": ..., "std": ...}`` of a plain state dict, in units of images in [0, 1].
        options: For a plain state dict: what else the architecture takes.
        network: A network of the same architecture, used if the weights are of one that was passed as an object.

    Raises:
        InputError: if the file is missing, truncated, unsafe, or does not fit the architecture.
    """
    path = _weights_file(path)
    state, described = read_state(path)
    if described is not None:
        if name is not None and name != described["name"]:
            raise InputError(f"{path} holds a {described['name']}, but the configuration asks for {name!r}.")
        spec = ModelSpec(
            described["name"],
            described["num_classes"],
            described["in_channels"],
            described["options"],
            tuple(described["classes"]),
        )
        normalisation = described["normalisation"]
    else:
        spec = _plain_spec(path, name, num_classes, in_channels, normalisation, options)
    assert normalisation is not None
    if network is not None and is_object(spec.name):
        net = stage_network(copy.deepcopy(network), **_staged_as(spec, normalisation))
        _fill(net, state, path)
        return net
    if is_object(spec.name):
        raise InputError(f"{path}: {rebuild_message(spec.name)}")
    net = create_model(
        spec.name,
        num_classes=spec.num_classes,
        in_channels=spec.in_channels,
        mean=normalisation["mean"],
        std=normalisation["std"],
        classes=spec.classes,
        **spec.options,
    )
    _fill(net, state, path)
    return net


def _staged_as(spec: ModelSpec, normalisation: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {
        "name": spec.name,
        "num_classes": spec.num_classes,
        "in_channels": spec.in_channels,
        "classes": spec.classes,
        "mean": normalisation["mean"],
        "std": normalisation["std"],
    }


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Read tensors by name, and the record of the architecture if the file has one."""
    if path.suffix == ".safetensors":
        try:
            state = safetensors.torch.load_file(path)
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is not a whole safetensors file: {error}") from error
        spec = path.with_suffix(".json")
        return state, read_spec(spec) if spec.exists() else None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} was not loaded: it wants to run code, or is no checkpoint at all. Only tensors and plain "
            "values are read; save a state dict (`torch.save(model.state_dict(), ...)`) or safetensors. "
            f"({_first_line(error)})"
        ) from error
    except (RuntimeError, EOFError, OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise InputError(f"{path} is truncated or is no checkpoint: {_first_line(error)}") from error
    return _split(content, path)


def file_hash(path: Path | str) -> str:
    """Give the SHA-256 of a file, or of the weights in a run directory.

    Raises:
        InputError: if there is none.
    """
    with _weights_file(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _weights_file(path: Path | str) -> Path:
    path = Path(path)
    if path.is_dir():
        if not (path / WEIGHTS_NAME).exists():
            raise InputError(
                f"{path} holds no {WEIGHTS_NAME}: not a run directory, or a run that has not finished yet."
            )
        return path / WEIGHTS_NAME
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}; give a run directory, a .ckpt, a .safetensors or a .pth.")
    return path


def _split(content: Any, path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; expected a state dict.")
    described = content.get(CHECKPOINT_SPEC)
    for key in ("state_dict", "model", "model_state_dict", "net"):  # how common training code nests it
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    state = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise InputError(f"{path} holds no tensors by name; expected a state dict.")
    if described is not None:
        prefix = CHECKPOINT_PREFIX + "network."
        state = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    return adapt_state_dict(state), described


def read_spec(path: Path) -> dict[str, Any]:
    """Read the record of how a network is built, ``student.json``.

    Raises:
        InputError: if it is not such a record.
    """
    try:
        described = json.loads(path.read_text())
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(described, dict) or described.get("format") != 1 or not described.keys() >= _KEYS:
        raise InputError(f"{path} is not the record of a network (format 1), with {', '.join(sorted(_KEYS))}.")
    return described


def _plain_spec(
    path: Path,
    name: str | None,
    num_classes: int | None,
    in_channels: int,
    normalisation: Mapping[str, Sequence[float]] | None,
    options: Mapping[str, Any] | None,
) -> ModelSpec:
    if name is None or num_classes is None or normalisation is None:
        raise InputError(
            f"{path} is a plain state dict and does not say what it is; name its architecture and the normalisation "
            "it was trained with: `name: wrn_40_2`, `normalisation: {mean: [...], std: [...]}`."
        )
    return ModelSpec(name, num_classes, in_channels, options or {})


def _fill(net: StagedNetwork, state: dict[str, Tensor], path: Path) -> None:
    own = net.network.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in own]
    shapes = [key for key in own if key in state and state[key].shape != own[key].shape]
    if missing or extra or shapes:
        parts = [
            f"{what}: {', '.join(keys[:3])}{f' and {len(keys) - 3} more' if len(keys) > 3 else ''}"
            for what, keys in (("missing", missing), ("not known", extra), ("of another shape", shapes))
            if keys
        ]
        detail = "".join(f"; {k} is {tuple(state[k].shape)}, expected {tuple(own[k].shape)}" for k in shapes[:1])
        raise InputError(
            f"{path} does not fit {net.spec.name} with {net.spec.num_classes} classes: {'; '.join(parts)}{detail}."
        )
    net.network.load_state_dict(state, strict=False)


def _shortest(values: Tensor) -> list[float]:
    return [float(str(value)) for value in values.flatten().cpu().numpy()]  # as few digits as tell all apart


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:200]
