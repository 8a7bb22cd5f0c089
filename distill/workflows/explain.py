"""`explain`: images -> predictions and maps of a finished run and of its teacher."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from distill.build.finished_run import image_size, load_reference, load_run
from distill.config import Config, ExplanationTerm
from distill.data import to_unit
from distill.data.image_input import PreparedImage, Source, prepare_image
from distill.errors import InputError
from distill.evaluation.job import evaluation_mode
from distill.explain import Explainer
from distill.maps import resize_maps
from distill.models import StagedNetwork
from distill.report.explained import ImageExplanation, NetworkView
from distill.workflows.train import Run

#: Files that hold a state dict and do not say of what network.
_PLAIN = (".pth", ".pt")


class ExplainedNetwork(NamedTuple):
    """A network in evaluation mode, and the layer of it that is explained."""

    network: StagedNetwork
    layer: str


def find_reference(
    given: Path | str | Run | StagedNetwork | Literal[False] | None,
    *,
    config: Config,
    student: StagedNetwork,
    layer: str,
    notify: Callable[[str], object],
) -> ExplainedNetwork | None:
    """Load the teacher that was asked for, or the run's own.

    Convention:
        - The run's own teacher is left out, and that is said, if it cannot be loaded; one that was asked for is not.
        - A plain state dict is read with the architecture and scaling of the run's ``teacher`` section.

    Args:
        given: A run directory or file of weights; None for the run's own; False for none.
        config: The run's.
        student: Whose classes and channels it must have.
        layer: The student's.
        notify: Told if the run's own teacher is left out.

    Raises:
        InputError: if the one that was asked for cannot be loaded, or does not fit the student.
    """
    section = config.teacher
    if given is False or (given is None and section is None):
        return None
    if isinstance(given, StagedNetwork):
        return ExplainedNetwork(given, _teacher_layer(config, layer))
    if given is not None:
        given = given.directory if isinstance(given, Run) else given
        described_by = section if Path(given).suffix in _PLAIN else None
        return ExplainedNetwork(load_reference(given, described_by, student), _teacher_layer(config, layer))
    assert section is not None
    try:
        return ExplainedNetwork(load_reference(section.checkpoint, section, student), _teacher_layer(config, layer))
    except InputError as error:
        notify(f"the student is shown without its teacher: {error}")
        return None


def _teacher_layer(config: Config, layer: str) -> str:
    """Give the layer whose maps the run compared with those of the student's layer, else the one of the same name."""
    terms = (term for term in config.objective.values() if isinstance(term, ExplanationTerm) and layer in term.layers)
    return next((term.layer_of_teacher(layer) for term in terms), layer)


BATCH = 64


class _BatchResult(NamedTuple):
    """Probabilities and raw maps of a batch."""

    probabilities: Tensor
    maps: Tensor


def explain_images(
    run: Path | str | Run,
    images: Source | Sequence[Source],
    *,
    reference: Path | str | Run | StagedNetwork | Literal[False] | None = None,
    method: str = "grad_cam_pp",
    layer: str = "final",
    target: str | int | None = None,
    size: int | None = None,
    crop: bool = False,
    network: nn.Module | None = None,
    notify: Callable[[str], object] = warnings.warn,
) -> list[ImageExplanation]:
    """Show what a finished run and its teacher make of images, and where they look.

    Convention:
        - An image is resized to the square that the run was trained on; its map is stretched back over it.
        - Both maps of an image explain the same class. They are raw; a picture shows each as a share of its own
          largest value.

    Args:
        run: Run directory, or a finished run.
        images: One or several: files, images of PIL, tensors (C, H, W) or arrays (H, W, C) of uint8.
        reference: A teacher: run directory, file of weights, finished run or network; the run's own if left
            out, none if False.
        method: A name of :data:`distill.explain.METHODS`.
        layer: Layer of the student; the teacher's is the one that the run compared it with, else that of the same name.
        target: The class to explain, by name or number; for each image the student's first choice if left out.
        size: Height and width that images are given; those of the run's data if left out.
        crop: Whether only the square in the middle is looked at, as runs on ``image_folder`` are trained.
        network: For a run directory whose student was passed as an object: a network of its architecture.
        notify: Called with a message if the run's own teacher cannot be loaded.

    Returns:
        An explanation for every image, in their order.

    Raises:
        InputError: if the run, an image, the class, the method or the layer is not to be had; it is named.

    Example:
        In a notebook, of a run that is done::

            import distill

            first, second = distill.explain_images("runs/demo/kd_grad_cam_pp", ["boot.jpg", "bag.png"], layer="group2")
            first.top(2)            # [('ankle boot', 0.93), ('sneaker', 0.04)]
            first.maps["teacher"]   # float32, in the size of first.pixels
            first                   # is shown as image | teacher | student
    """
    student, config = (run.student, run.config) if isinstance(run, Run) else load_run(run, network=network)
    if reference is None and isinstance(run, Run):
        reference = run.teacher
    chosen = None if target is None else find_class(target, student.classes)
    networks = {"student": ExplainedNetwork(student, layer)}
    teacher = find_reference(reference, config=config, student=student, layer=layer, notify=notify)
    if teacher is not None:
        networks["teacher"] = teacher
    explainers = {role: _explainer(role, method, network) for role, network in networks.items()}
    prepared = _prepare(images, channels=student.spec.in_channels, size=_size(size, image_size(config.data)), crop=crop)
    explained = []
    for start in range(0, len(prepared), BATCH):
        part = prepared[start : start + BATCH]
        classes, looks = _run_batch(networks, explainers, torch.stack([image.seen for image in part]), chosen)
        for i, image in enumerate(part):
            views = {
                role: NetworkView(
                    role=role,
                    architecture=networks[role].network.spec.name,
                    layer=networks[role].layer,
                    map=resize_maps(look.maps[i : i + 1], image.shown.shape[:2])[0].numpy(),
                    probabilities=look.probabilities[i].numpy(),
                )
                for role, look in looks.items()
            }
            explained.append(
                ImageExplanation(
                    name=image.name,
                    pixels=image.shown,
                    classes=student.classes,
                    explained=classes[i],
                    asked=chosen is not None,
                    method=method,
                    **views,
                )
            )
    return explained


def find_class(target: str | int, classes: Sequence[str]) -> int:
    """Find a class by its name, else by its number.

    Raises:
        InputError: if there is none; the nearest names are told.

    Example:
        >>> find_class("dog", ["cat", "dog"]), find_class("0", ["cat", "dog"])
        (1, 0)
    """
    names = list(classes)
    if target in names:
        return names.index(str(target))
    number = int(target) if isinstance(target, int) or target.isdecimal() else -1
    if 0 <= number < len(names):
        return number
    near = difflib.get_close_matches(str(target), names, n=3, cutoff=0.4)
    hint = f"the nearest are {', '.join(map(repr, near))}" if near else f"there are {', '.join(names[:10])}"
    more = ", ..." if not near and len(names) > 10 else ""
    raise InputError(f"unknown class {target!r}; {hint}{more}. A number from 0 to {len(names) - 1} will do as well.")


def _prepare(images: Source | Sequence[Source], *, channels: int, size: int, crop: bool) -> list[PreparedImage]:
    one = isinstance(images, str | Path | Image.Image) or (isinstance(images, Tensor | np.ndarray) and images.ndim < 4)
    sources: Sequence[Source] = [images] if one else list(images)  # type: ignore[list-item,arg-type]
    if channels not in (1, 3):
        raise InputError(f"the run's network takes images of {channels} channels; only grey and colour can be read.")
    names = [str(source) if isinstance(source, str | Path) else f"image {i}" for i, source in enumerate(sources)]
    return [
        prepare_image(source, name=name, channels=channels, size=size, crop=crop)
        for source, name in zip(sources, names, strict=True)
    ]


def _size(given: int | None, trained: int | None) -> int:
    size = trained if given is None else given
    if size is None:
        raise InputError("the run's data section does not say how large its images are; give their size.")
    if size < 1:
        raise InputError(f"`size` must be 1 pixel or more, got {size}.")
    return size


def _explainer(role: str, method: str, reference: ExplainedNetwork) -> Explainer:
    network, layer = reference
    try:
        network.check_layer(layer)
        return Explainer(method, layer)
    except ValueError as error:
        raise InputError(f"{role}: {error}") from error


def _run_batch(
    networks: Mapping[str, ExplainedNetwork], explainers: Mapping[str, Explainer], seen: Tensor, chosen: int | None
) -> tuple[list[int], dict[str, _BatchResult]]:
    """Run every network once on a batch, and explain one class an image in all of them."""
    plain: dict[str, StagedNetwork] = {role: network for role, (network, _) in networks.items()}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with evaluation_mode(plain, device), torch.no_grad():
        images = to_unit(seen.to(device))
        try:
            outputs = {role: network.run(images, [layer]) for role, (network, layer) in networks.items()}
            own = outputs["student"].logits
            classes = own.argmax(1) if chosen is None else own.new_full(own.shape[:1], chosen, dtype=torch.int64)
            maps = {role: explainers[role].from_output(output, classes) for role, output in outputs.items()}
        except (ValueError, RuntimeError) as error:
            raise InputError(f"images of {tuple(images.shape[1:])} cannot be explained: {error}") from error
    looks = {
        role: _BatchResult(output.logits.float().softmax(1).cpu(), maps[role].float().cpu())
        for role, output in outputs.items()
    }
    return classes.tolist(), looks
