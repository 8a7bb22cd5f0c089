"""Save and load weights without executing code from the files.

Three formats can be loaded: a run directory or its `student.safetensors` (with `student.json` next to it), a Lightning
`.ckpt` of a training run, and a plain state dict (`.pth`, `.pt`, `.safetensors`, or the index of a sharded one), which
needs an architecture name.
"""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from distill.checksums import hash_file, save_checked
from distill.errors import InputError, note_input
from distill.files import expand_home, replacing
from distill.importing import is_library_name
from distill.models.catalogue import create_model, import_network, rebuild_message, stage_network
from distill.models.damage import check_archive, check_checkpoint, check_fits, check_sizes
from distill.models.fitted_weights import classes_in_file, fit_weights, strip_prefixes
from distill.models.nested_weights import choose_weights
from distill.models.plain_pickle import find_refused, load_plain
from distill.models.spec_record import check_spec
from distill.models.spec_record import read_spec as read_spec
from distill.models.staged import ModelSpec, StagedNetwork
from distill.models.tensor_files import INDEX_SUFFIX, check_memory, files_of, hash_weights, is_index, read_safetensors
from distill.models.wrn import parse_name
from distill.objects import is_object
from distill.untrusted import Trust

WEIGHTS_NAME, SPEC_NAME = "student.safetensors", "student.json"
#: In a training checkpoint: the prefix of the student's parameters, and the key of the record that describes it.
CHECKPOINT_PREFIX, CHECKPOINT_SPEC = "student.", "student_spec"
#: In ``student.json``: the SHA-256 of the weights; records of older versions have none.
WEIGHTS_HASH = "sha256"


def describe(net: StagedNetwork) -> dict[str, Any]:
    """Return the data needed to rebuild a network with all its classes, as values that JSON can store."""
    spec = net.full_spec
    return {
        "format": 1,
        "name": spec.name,
        "num_classes": spec.num_classes,
        "in_channels": spec.in_channels,
        "options": dict(spec.options),
        "classes": list(spec.classes) or [str(i) for i in range(spec.num_classes)],
        "normalisation": {
            "mean": _shortest(net.normalise.mean),
            "std": _shortest(net.normalise.std),
        },
    }


def save_model(net: StagedNetwork, folder: Path | str) -> Path:
    """Write ``student.safetensors`` and ``student.json`` into a folder.

    Convention:
        - Each file is written atomically, the weights last: if the weights exist, the record exists too.
        - The record has a checksum of the weights and one of itself, which are compared when the network is loaded.

    Args:
        net: The network to save.
        folder: The folder; it is created if it does not exist.

    Returns:
        The path of the weights.
    """
    folder = Path(expand_home(folder))
    state = {key: value.contiguous() for key, value in net.network.state_dict().items()}
    weights, spec = folder / WEIGHTS_NAME, folder / SPEC_NAME
    content = safetensors.torch.save(state)
    weights.unlink(missing_ok=True)  # earlier weights do not fit the new record
    save_checked({**describe(net), WEIGHTS_HASH: hashlib.sha256(content).hexdigest()}, spec)
    with replacing(weights) as part:
        part.write_bytes(content)
    return weights


def load_model(
    path: Path | str, *, network: nn.Module | str | None = None, trust: Trust | bool = False
) -> StagedNetwork:
    """Load the network of a run directory or of a ``student.safetensors``, in evaluation mode.

    Args:
        path: The run directory or file.
        network: For a run whose student was passed as a Python object: a network of the same architecture, or
            ``package.module:callable`` that builds one. The weights are loaded into a copy of it. For a run whose
            student is ``package.module:callable``: this name, which may then be imported.
        trust: Whether the files may name any code to import; or the names that may be imported.

    Raises:
        InputError: If the file does not exist or was not written by :func:`save_model`, the weights do not fit, or the
            network is ``package.module:callable`` and is neither named in ``network`` nor trusted.
    """
    return load_network(path, network=network, trust=trust).eval()


def load_network(
    path: Path | str,
    *,
    name: str | None = None,
    num_classes: int | None = None,
    in_channels: int = 3,
    normalisation: Mapping[str, Sequence[float]] | None = None,
    options: Mapping[str, Any] | None = None,
    weights_key: str | None = None,
    network: nn.Module | str | None = None,
    trust: Trust | bool | None = None,
    any_classes: bool = False,
) -> StagedNetwork:
    """Load a network from any of the three formats.

    Args:
        path: Run directory, ``.ckpt``, ``.safetensors``, ``.pth`` or ``.pt``.
        name: Architecture. Required for a plain state dict; otherwise it must equal the architecture in the file.
        num_classes: Number of classes; required for a plain state dict, otherwise ignored.
        in_channels: Number of image channels of a plain state dict, otherwise ignored.
        normalisation: ``{"mean": ..., "std": ...}`` for images in [0, 1]; required for a plain state dict, otherwise
            ignored.
        options: Further keyword arguments of the architecture of a plain state dict, otherwise ignored.
        weights_key: Which set of weights to take from a ``.pth`` or ``.pt`` with several, such as ``ema``. Default: see
            :func:`distill.models.nested_weights.choose_weights`.
        network: A network of the same architecture, or ``package.module:callable`` that builds one; used if the saved
            network was passed as a Python object. A string may also be imported if it is the architecture in the file.
        trust: Names ``package.module:callable`` that may be imported, or whether all may be. Default: ``name``.
        any_classes: Whether a plain state dict may have another number of classes than ``num_classes``; the network is
            then built for that number.

    Returns:
        The network with the loaded weights. Its mode is not set; call ``.eval()`` before inference.

    Raises:
        InputError: If the file is missing, truncated or unsafe, does not fit the architecture, or names code to import
            that is not trusted. Nothing is imported then.
    """
    if trust is None or isinstance(trust, bool):
        trust = Trust.in_names([name if trust is None else None], everything=bool(trust))
    if isinstance(network, str):
        trust = trust.adding([network])
    path = weights_file(path)
    state, record = read_state(path, weights_key)
    if record is not None:
        if name is not None and name != record["name"]:
            raise InputError(f"{path} holds a {record['name']}, but the configuration asks for {name!r}.")
        spec = ModelSpec(
            record["name"],
            record["num_classes"],
            record["in_channels"],
            record["options"],
            tuple(record["classes"]),
        )
        normalisation = record["normalisation"]
    else:
        spec = _plain_spec(path, name, num_classes, in_channels, normalisation, options)
    assert normalisation is not None
    if isinstance(network, str) and is_object(spec.name):
        network = import_network(network, num_classes=spec.num_classes, in_channels=spec.in_channels)
    if isinstance(network, nn.Module) and is_object(spec.name):
        net = stage_network(copy.deepcopy(network), **_staged_as(spec, normalisation))
        _fill(net, state, path)
        return net
    if is_object(spec.name):
        raise InputError(f"{path}: {rebuild_message(spec.name)}")
    if ":" in spec.name and not is_library_name(spec.name):
        named = path.with_suffix(".json") if record is not None and path.suffix == ".safetensors" else path
        remedy = f"`--network {spec.name}` (a teacher in training: `teacher.name={spec.name}`; in Python: `network=`)"
        trust.check(spec.name, named, remedy)
    scaling: dict[str, Any] = {"mean": normalisation["mean"], "std": normalisation["std"]}
    about: dict[str, Any] = {"num_classes": spec.num_classes, "in_channels": spec.in_channels, "classes": spec.classes}
    _check_memory(spec, state, path)
    try:
        net = create_model(spec.name, **about, **scaling, **spec.options)
        if record is None and any_classes:
            own = net.network.state_dict()
            classes = classes_in_file(strip_prefixes(state, own, path), own, spec.num_classes)
            if classes is not None:
                net = create_model(spec.name, **{**about, "num_classes": classes}, **scaling, **spec.options)
    except (ValueError, TypeError, OverflowError) as error:
        if record is None:
            raise
        raise InputError(f"{path}: the network in its record cannot be built: {error}") from error
    _fill(net, state, path)
    return net


def _check_memory(spec: ModelSpec, state: Mapping[str, Tensor], path: Path) -> None:
    """Raise an error if the network in a record is far larger than its weights, before memory is taken for it.

    A network that cannot be built on the meta device is built without this check.
    """
    size = parse_name(spec.name)
    if size is not None and size[0] > len(state) + 10:  # every layer has a tensor
        raise InputError(f"{path} does not fit {spec.name[:100]}: it has {len(state)} tensors for {size[0]} layers.")
    try:
        with torch.device("meta"):
            about: dict[str, Any] = {"num_classes": spec.num_classes, "in_channels": spec.in_channels}
            empty = create_model(spec.name, **about, **spec.options).network
    except Exception as error:
        if "overflow" in str(error).lower():
            raise InputError(f"{path}: the network in its record has sizes that no memory can hold.") from error
        return
    check_fits(empty, state, path)


def _staged_as(spec: ModelSpec, normalisation: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    return {
        "name": spec.name,
        "num_classes": spec.num_classes,
        "in_channels": spec.in_channels,
        "classes": spec.classes,
        "mean": normalisation["mean"],
        "std": normalisation["std"],
    }


def read_state(path: Path, weights_key: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Read the tensors of a file by name, and the record of the architecture if there is one.

    Args:
        path: The file.
        weights_key: Which set of weights to take, if the file holds several.
    """
    check_memory(files_of(path), path)
    if path.suffix == ".safetensors" or is_index(path):
        spec = path.with_suffix(".json")
        record = read_spec(spec) if spec != path and spec.exists() else None
        if record is not None and record.get(WEIGHTS_HASH, hash_file(path)) != hash_file(path):
            raise InputError(
                f"{path} was changed or damaged after it was saved: it does not fit the checksum in {spec.name}. Copy "
                "both files again, or train the run again."
            )
        state = read_safetensors(path)
        return state if weights_key is None else choose_weights(state, path, key=weights_key), record
    check_archive(path)
    try:
        content = load_plain(path)
    except pickle.UnpicklingError as error:
        refused = find_refused(path, error)
        if refused is not None:
            where = f"the key {refused[0]!r}" if refused[0] is not None else "a value"
            raise InputError(
                f"{path} was not loaded: {where} holds a {refused[1]}, and building such an object could execute code. "
                "Only tensors, numbers, text and plain containers are read; save the weights alone: "
                "`torch.save(model.state_dict(), path)`, or safetensors."
            ) from error
        raise InputError(
            f"{path} was not loaded: it contains code, or is not a checkpoint. Only tensors and plain "
            "values are read; save a state dict (`torch.save(model.state_dict(), ...)`) or safetensors."
        ) from error
    except Exception as error:  # the possible errors of a damaged file have no common base class
        raise InputError(f"{path} is truncated or is not a checkpoint: {_first_line(error)}") from error
    check_sizes(content, path)
    return _split(content, path, weights_key)


def file_hash(path: Path | str) -> str:
    """Return the SHA-256 of a file, or of the weights in a run directory.

    Raises:
        InputError: If the file does not exist.
    """
    return hash_weights(weights_file(path))


def weights_file(path: Path | str) -> Path:
    """Return the file of weights that a path names: the file itself, or the one in a folder.

    Raises:
        InputError: If the file does not exist.
    """
    path = Path(expand_home(path))
    if path.is_dir():
        for name in (WEIGHTS_NAME, f"model{INDEX_SUFFIX}", "model.safetensors"):
            if (path / name).exists():
                return path / name
        raise InputError(f"{path} holds no {WEIGHTS_NAME}: not a run directory, or a run that has not finished yet.")
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}; give a run directory, a .ckpt, a .safetensors or a .pth.")
    return path


def _split(content: Any, path: Path, weights_key: str | None) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}; expected a state dict.")
    check_checkpoint(content, path)
    record = content.get(CHECKPOINT_SPEC)
    state = choose_weights(content, path, key=weights_key)
    if record is not None:
        check_spec(record, path)
        prefix = CHECKPOINT_PREFIX + "network."
        state = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
    return state, record


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
            f"{path} is a plain state dict without a record of its architecture; set the architecture and the "
            "normalisation that it was trained with: `name: wrn_40_2`, `normalisation: {mean: [...], std: [...]}`."
        )
    return ModelSpec(name, num_classes, in_channels, options or {})


def _fill(net: StagedNetwork, state: dict[str, Tensor], path: Path) -> None:
    own, spec = net.network.state_dict(), net.spec
    fitted = fit_weights(state, own, path, name=spec.name, num_classes=spec.num_classes)
    net.network.load_state_dict(fitted.state, strict=False)
    for note in fitted.notes:
        note_input(f"{path}: {note}.")


def _shortest(values: Tensor) -> list[float]:
    """Return the values with the fewest digits that identify each float32."""
    return [float(str(value)) for value in values.flatten().cpu().numpy()]


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:200]
