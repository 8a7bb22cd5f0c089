"""`explain`: predictions and maps of a finished run and its teacher for single images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from distill.build.finished_run import STATE_DICTS, image_size, load_reference, load_run, match_classes
from distill.build.teacher_classes import keeps_own_classes
from distill.config import Config, DataSection, ExplanationTerm
from distill.data import to_unit
from distill.data.image_files import Canvas
from distill.data.image_input import PreparedImage, Source, prepare_image
from distill.errors import InputError
from distill.evaluation.job import evaluation_mode
from distill.explain import Explainer
from distill.maps import resize_maps
from distill.models import StagedNetwork
from distill.models.class_names import find_class
from distill.models.layouts import Layout
from distill.report.explained import ImageExplanation, NetworkView
from distill.untrusted import Trust
from distill.workflows.run import Run


class ExplainedNetwork(NamedTuple):
    """A network in evaluation mode, its layer to explain, and the axes of the layer's activations."""

    network: StagedNetwork
    layer: str
    layout: Layout = "auto"


def find_reference(
    reference: Path | str | Run | StagedNetwork | Literal[False] | None,
    *,
    config: Config,
    student: StagedNetwork,
    layer: str,
    notify: Callable[[str], object],
    trust: Trust | bool = False,
) -> ExplainedNetwork | None:
    """Load the given teacher, or the teacher of the run.

    Convention:
        - If the teacher of the run cannot be loaded, it is left out with a message. If a given teacher cannot be
          loaded, an error is raised.
        - A plain state dict is read with the architecture and normalisation of the run's ``teacher`` section.

    Args:
        reference: A run directory, file of weights, finished run or network; None for the teacher of the run; False for
            no teacher.
        config: Configuration of the run.
        student: The student. The teacher must have the same channels, and the same classes or those that the run
            selected (``teacher.classes``).
        layer: Layer of the student.
        notify: Called with a message if the teacher of the run is left out.
        trust: Names that the files of the teacher and of the run may import, or whether they may import any.

    Raises:
        InputError: if a given teacher cannot be loaded or does not fit the student.
    """
    section = config.teacher
    if reference is False or (reference is None and section is None):
        return None
    if keeps_own_classes(section):
        problem = "the run was trained with teacher.classes=own, so the teacher has no map of the student's class"
        if reference is not None:
            raise InputError(f"`reference`: {problem}. Leave it out.")
        notify(f"the student is shown without its teacher: {problem}")
        return None
    if isinstance(reference, StagedNetwork):
        reference = match_classes(reference, None, section, student)
        return ExplainedNetwork(reference, *_teacher_layer(config, layer))
    if reference is not None:
        reference = reference.directory if isinstance(reference, Run) else reference
        description = section if Path(reference).suffix in STATE_DICTS else None
        teacher = load_reference(reference, description, student, teacher=section, trust=trust)
        return ExplainedNetwork(teacher, *_teacher_layer(config, layer))
    assert section is not None
    try:
        size = image_size(config.data)
        teacher = load_reference(section.checkpoint, section, student, teacher=section, size=size, trust=trust)
        return ExplainedNetwork(teacher, *_teacher_layer(config, layer))
    except InputError as error:
        notify(f"the student is shown without its teacher: {error}")
        return None


def _teacher_layer(config: Config, layer: str) -> tuple[str, Layout]:
    """Return the teacher layer that the run paired with the student's layer, and the layout that the run gave it.

    By default, it is the layer of the same name.

    Built-in explanation terms come first, then other terms that compare layers. The class of a third-party term is not
    imported: its keys were recorded with the run.
    """
    terms = sorted(config.objective.values(), key=lambda term: not isinstance(term, ExplanationTerm))
    for term in terms:
        keys = term.model_dump()
        layers, other = keys.get("layers"), keys.get("teacher_layer")
        if not isinstance(layers, Mapping | list) or layer not in layers:
            continue
        if isinstance(other, Mapping):
            other = other.get(layer)
        if isinstance(other, str) or isinstance(term, ExplanationTerm):
            return other if isinstance(other, str) else layer, keys.get("teacher_layout", "auto")
    return layer, "auto"


#: Images per batch.
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
    layout: Layout = "auto",
    target: str | int | None = None,
    size: int | None = None,
    crop: bool = False,
    network: nn.Module | str | None = None,
    trust: bool = False,
    notify: Callable[[str], object] = warnings.warn,
) -> list[ImageExplanation]:
    """Return the predictions and maps of a finished run and its teacher for images.

    Convention:
        - Each image is resized to the square input size of the run. Its map is resized back to the size of the image.
        - Both maps of an image explain the same class. Maps are not normalised; a picture shows each map divided by
          its maximum.

    Args:
        run: Run directory, or a finished run.
        images: One or several images: files, PIL images, uint8 tensors (C, H, W) or uint8 arrays (H, W, C).
        reference: A teacher: run directory, file of weights, finished run or network. None uses the teacher of the
            run, False no teacher.
        method: A name of :data:`distill.explain.METHODS`.
        layer: Layer of the student. The teacher's layer is the one that the run paired with it, else the layer of the
            same name.
        layout: Axes of the activations of the student's layer, see :class:`distill.explain.Explainer`.
        target: Class to explain, by name or number. Default: the student's prediction for each image.
        size: Height and width of the networks' input, in pixels. Default: the image size of the run's data.
        crop: Whether to use only the central square of each image, as in training on ``image_folder``.
        network: For a run directory whose student was passed as an object: a network with its architecture, or
            ``package.module:callable`` that builds one. For a run directory whose student or teacher is
            ``package.module:callable``: this name.
        trust: Whether the files of the run and of the teacher may name any code to import.
        notify: Called with a message if the teacher of the run cannot be loaded.

    Returns:
        One explanation per image, in the order of ``images``.

    Raises:
        InputError: if the run or an image cannot be read, the run names code to import that is not trusted, or the
            class, the method or the layer is unknown.

    Example:
        In a notebook, for a finished run::

            import distill

            first, second = distill.explain_images("runs/demo/kd_grad_cam_pp", ["boot.jpg", "bag.png"], layer="group2")
            first.top(2)            # [('ankle boot', 0.93), ('sneaker', 0.04)]
            first.maps["teacher"]   # float32, in the size of first.pixels
            first                   # displayed as image | teacher | student
    """
    trusted = Trust.in_names([network if isinstance(network, str) else None], everything=trust)
    if isinstance(run, Run):
        student, config, trusted = run.student, run.config, trusted.adding(run.trust.names)
    else:
        student, config = load_run(run, network=network, trust=trusted)
    if reference is None and isinstance(run, Run) and not keeps_own_classes(config.teacher):
        reference = run.teacher
    chosen = None if target is None else find_class(target, student.classes)
    networks = {"student": ExplainedNetwork(student, layer, layout)}
    teacher = find_reference(reference, config=config, student=student, layer=layer, notify=notify, trust=trusted)
    if teacher is not None:
        networks["teacher"] = teacher
    explainers = {role: _explainer(role, method, network) for role, network in networks.items()}
    prepared = _prepare(
        images,
        channels=student.spec.in_channels,
        size=_size(size, image_size(config.data)),
        crop=crop,
        background=_background(config.data),
    )
    explained = []
    for start in range(0, len(prepared), BATCH):
        part = prepared[start : start + BATCH]
        classes, results = _run_batch(networks, explainers, torch.stack([image.seen for image in part]), chosen)
        for i, image in enumerate(part):
            views = {
                role: NetworkView(
                    role=role,
                    architecture=networks[role].network.spec.name,
                    layer=networks[role].layer,
                    map=resize_maps(result.maps[i : i + 1], image.shown.shape[:2])[0].numpy(),
                    probabilities=result.probabilities[i].numpy(),
                )
                for role, result in results.items()
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


def _prepare(
    images: Source | Sequence[Source], *, channels: int, size: int, crop: bool, background: Canvas
) -> list[PreparedImage]:
    single = isinstance(images, str | Path | Image.Image) or (
        isinstance(images, Tensor | np.ndarray) and images.ndim < 4
    )
    sources: Sequence[Source] = [images] if single else list(images)  # type: ignore[list-item,arg-type]
    if channels not in (1, 3):
        raise InputError(
            f"the student takes images with {channels} channels, but image files have 1 (grey) or 3 (colour)."
        )
    names = [str(source) if isinstance(source, str | Path) else f"image {i}" for i, source in enumerate(sources)]
    return [
        prepare_image(source, name=name, channels=channels, size=size, crop=crop, background=background)
        for source, name in zip(sources, names, strict=True)
    ]


def _background(section: DataSection) -> Canvas:
    """Return the colour behind transparent pixels that the run was trained with."""
    return "white" if section.name == "image_folder" and section.options.get("background") == "white" else "black"


def _size(given: int | None, default: int | None) -> int:
    size = default if given is None else given
    if size is None:
        raise InputError(
            "`size`: the run's data section does not contain the image size. Give the size of the network's input."
        )
    if size < 1:
        raise InputError(f"`size` must be 1 pixel or more, got {size}.")
    return size


def _explainer(role: str, method: str, explained: ExplainedNetwork) -> Explainer:
    network, layer, layout = explained
    try:
        network.check_layer(layer)
        return Explainer(method, layer, layout=layout)
    except ValueError as error:
        raise InputError(f"{role}: {error}") from error


def _run_batch(
    networks: Mapping[str, ExplainedNetwork], explainers: Mapping[str, Explainer], seen: Tensor, chosen: int | None
) -> tuple[list[int], dict[str, _BatchResult]]:
    """Run each network once on a batch, and explain the same class of an image in all networks."""
    staged: dict[str, StagedNetwork] = {role: one.network for role, one in networks.items()}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with evaluation_mode(staged, device), torch.no_grad():
        images = to_unit(seen.to(device))
        try:
            outputs = {role: one.network.run(images, [one.layer]) for role, one in networks.items()}
            logits = outputs["student"].logits
            classes = (
                logits.argmax(1) if chosen is None else logits.new_full(logits.shape[:1], chosen, dtype=torch.int64)
            )
            maps = {role: explainers[role].from_output(output, classes) for role, output in outputs.items()}
        except (ValueError, RuntimeError) as error:
            raise InputError(f"images of {tuple(images.shape[1:])} cannot be explained: {error}") from error
    results = {
        role: _BatchResult(output.logits.float().softmax(1).cpu(), maps[role].float().cpu())
        for role, output in outputs.items()
    }
    return classes.tolist(), results
