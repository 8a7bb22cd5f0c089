"""Load, name and check the runs and networks of an evaluation."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from torch import nn

from distill.build import load_recorded_config
from distill.build.finished_run import STATE_DICTS, load_reference, match_classes
from distill.build.teacher_classes import keeps_own_classes
from distill.config import Config
from distill.data import ImageSet
from distill.errors import InputError
from distill.evaluation import differing_classes
from distill.files import expand_home
from distill.models import StagedNetwork, load_model
from distill.models.weights import WEIGHTS_NAME
from distill.training import RunDirectory
from distill.training.checkpoint_files import read_checkpoint
from distill.untrusted import Trust
from distill.workflows.run import Run

#: A run directory (``LABEL=RUN`` gives it a label), a finished run, or a network.
Source: TypeAlias = "str | Path | Run | nn.Module"


class LoadedRuns(NamedTuple):
    """Loaded networks by name: the reference, the ceiling, then the others in the given order.

    Args:
        networks: The networks, in evaluation mode.
        folders: Run directories, for networks that have one.
        configs: Configurations, for networks that come from a run.
        reference: Name of the network that the others are compared with.
        ceiling: Name of the reference that was trained with another seed.
        problems: Error messages of networks that could not be loaded or compared.
        validation: The validation images of runs whose data set was passed as an object.
    """

    networks: dict[str, StagedNetwork]
    folders: dict[str, Path]
    configs: dict[str, Config]
    reference: str | None
    ceiling: str | None
    problems: list[str]
    validation: dict[str, ImageSet]

    @property
    def with_test_set(self) -> dict[str, Config]:
        """Configurations whose test set is used: not those of teachers that were trained on other classes."""
        networks = self.networks
        return {name: c for name, c in self.configs.items() if name not in networks or networks[name].columns is None}


def trust_in_runs(sources: Sequence[Source | Mapping[str, Source]], *, named: Iterable[object], trust: bool) -> Trust:
    """Return the trust in the names that the user gave, and in those that runs of this process keep.

    Args:
        sources: Run directories, runs or networks, or mappings from labels to them.
        named: Arguments that may be names ``package.module:callable``.
        trust: Whether all files are trusted.
    """
    trusted = Trust.in_names((name for name in named if isinstance(name, str)), everything=trust)
    for source in sources:
        for one in source.values() if isinstance(source, Mapping) else (source,):
            if isinstance(one, Run):
                trusted = trusted.adding(one.trust.names)
    return trusted


def load_runs(
    sources: Sequence[Source | Mapping[str, Source]],
    *,
    reference: Source | None,
    ceiling: Source | None,
    network: nn.Module | str | None = None,
    trust: bool = False,
) -> LoadedRuns:
    """Load all networks of an evaluation, and collect the errors.

    Args:
        sources: Run directories, runs or networks, or mappings from labels to them.
        reference: The teacher.
        ceiling: The teacher trained with another seed.
        network: A network with the architecture of the students that were passed as objects, or
            ``package.module:callable`` that builds one, or the name of a student ``package.module:callable``.
        trust: Whether the files of the runs may name any code to import.

    Raises:
        InputError: if no network is given, two networks have the same name, or there is a ceiling but no reference.
    """
    if ceiling is not None and reference is None:
        raise InputError("--ceiling needs --reference: the ceiling is the reference trained with another seed.")
    pairs: list[tuple[str, Source]] = []
    for given, label in ((reference, "teacher"), (ceiling, "ceiling")):
        if given is not None:
            pairs.append((label if isinstance(given, nn.Module) else "", given))
    for source in sources:
        pairs += source.items() if isinstance(source, Mapping) else [("", source)]
    if len(pairs) == (reference is not None) + (ceiling is not None):
        raise InputError("nothing to evaluate: give at least one run or network in addition to the reference.")
    named = _names(pairs)
    names = list(named)
    loaded = LoadedRuns({}, {}, {}, names[0] if reference is not None else None, None, [], {})
    files = [name for name, source in named.items() if isinstance(source, Path) and source.is_file()]
    for name in [*(name for name in named if name not in files), *files]:  # a file is read like a teacher of a run
        try:
            if name in files:
                _load_file(name, Path(_text(named[name])), loaded, trust=trust)
            else:
                _load(name, named[name], loaded, network, trust=trust)
        except InputError as error:
            loaded.problems.append(str(error))
    loaded = loaded._replace(networks={name: loaded.networks[name] for name in named if name in loaded.networks})
    teachers = names[: (reference is not None) + (ceiling is not None)]
    loaded.problems.extend(_select_classes(loaded, {name: named[name] for name in teachers}))
    loaded.problems.extend(differing_classes(loaded.networks))
    return loaded._replace(ceiling=names[1] if ceiling is not None else None)


def _select_classes(loaded: LoadedRuns, teachers: Mapping[str, Source]) -> list[str]:
    """Restrict the reference and the ceiling to the classes that the runs selected; return the errors."""
    configs = {name: config for name, config in loaded.configs.items() if name not in teachers}
    sections = [c.teacher for c in configs.values() if c.teacher is not None and c.teacher.classes is not None]
    students = [network for name, network in loaded.networks.items() if name not in teachers]
    if not (teachers and sections and students):
        return []
    if any(section.classes != sections[0].classes for section in sections):
        return [f"the runs {', '.join(configs)} select different classes of their teacher; evaluate them one by one."]
    if keeps_own_classes(sections[0]):
        return ["the runs were trained with teacher.classes=own: evaluate them without a reference."]
    problems = []
    for name in teachers:
        if name in loaded.networks:
            try:
                path = _folder(teachers[name])
                loaded.networks[name] = match_classes(loaded.networks[name], path, sections[0], students[0])
            except InputError as error:
                problems.append(f"{name}: {error}")
    return problems


def common_parent(folders: Iterable[Path]) -> Path:
    """Return the deepest folder that contains all run directories."""
    return Path(os.path.commonpath([folder.resolve().parent for folder in folders]))


def split_label(text: str) -> tuple[str, Path]:
    """Split ``LABEL=RUN`` into label and path. An existing path with ``=`` in its name is not split."""
    label, mark, path = text.partition("=")
    whole = Path(expand_home(text))
    return (label, Path(expand_home(path))) if mark and not whole.exists() else ("", whole)


def _names(pairs: Sequence[tuple[str, Source]]) -> dict[str, Source]:
    """Name each source by its label, its path below the common parent of all runs, or its architecture."""
    labelled: list[tuple[str, Source]] = []
    for label, source in pairs:
        if isinstance(source, str) and not label:
            label, source = split_label(source)
        labelled.append((label, Path(expand_home(source)) if isinstance(source, str | Path) else source))
    folders = [folder for _, source in labelled if (folder := _folder(source)) is not None]
    shared = common_parent(folders) if folders else Path()
    named: dict[str, Source] = {}
    for label, source in labelled:
        folder = _folder(source)
        if not label and folder is not None:
            label = str(folder.resolve().relative_to(shared))
        if not label:
            label = source.spec.name if isinstance(source, StagedNetwork) else type(source).__name__
        if label in named and (folder is None or folder != _folder(named[label])):
            raise InputError(
                f"two runs have the name {label!r}: {_text(named[label])} and {_text(source)}. "
                "Give one of them a label: LABEL=RUN."
            )
        named.setdefault(label, source)
    return named


def _folder(source: Source) -> Path | None:
    if isinstance(source, nn.Module):
        return None
    return source.directory if isinstance(source, Run) else Path(source)


def _text(source: Source) -> str:
    return str(_folder(source) or type(source).__name__)


def _load(name: str, source: Source, into: LoadedRuns, network: nn.Module | str | None, *, trust: bool) -> None:
    if isinstance(source, nn.Module):
        if not isinstance(source, StagedNetwork):
            raise InputError(
                f"{name}: the input normalisation of a {type(source).__name__} is unknown. Wrap the network with "
                "`distill.models.stage_network(network, name=..., num_classes=..., mean=..., std=...)`."
            )
        into.networks[name] = source
        return
    if isinstance(source, Run):
        into.folders[name], into.configs[name] = source.directory, source.config
        into.networks[name] = source.student
        if source.objects.validation is not None:
            into.validation[name] = source.objects.validation
        return
    folder = Path(source)
    into.folders[name] = folder
    into.configs[name] = config = load_recorded_config(_recorded_config(folder))
    directory = RunDirectory(folder)
    if not (folder / WEIGHTS_NAME).exists() and directory.environment.exists():
        raise InputError(
            f"{folder} is not finished ({_progress(directory, config)}). Wait until it ends, or resume it with "
            "`distill train` and the same configuration."
        )
    into.networks[name] = load_model(folder, network=network, trust=trust)


def _load_file(name: str, path: Path, into: LoadedRuns, *, trust: bool) -> None:
    """Load a file of weights; a plain state dict has the architecture of the ``teacher`` section of a run."""
    if not into.networks:
        raise InputError(f"{path} is a file of weights, which is compared with a run; give a run directory as well.")
    sections = [config.teacher for config in into.configs.values() if config.teacher is not None]
    section = next(iter(sections), None) if path.suffix in STATE_DICTS else None
    if path.suffix in STATE_DICTS and section is None:
        raise InputError(
            f"{path} does not contain the architecture of its network, and no run has a teacher that tells it. Give a "
            "run directory, or pass the network in Python."
        )
    selected = next((one for one in sections if one.classes is not None), None)
    student = next(iter(into.networks.values()))
    into.networks[name] = load_reference(path, section, student, teacher=selected, trust=trust)


def _recorded_config(folder: Path) -> Path:
    if not folder.exists():
        raise InputError(f"no run directory {folder}. Train a run with `distill train`, or correct the path.")
    recorded = RunDirectory(folder).config
    if not recorded.exists():
        raise InputError(f"{folder} is not a run directory: it has no {recorded.name}. Check the path.")
    RunDirectory(folder).check_config()
    return recorded


def _progress(directory: RunDirectory, config: Config) -> str:
    if not directory.last.exists():
        return f"0 of {config.max_epochs} epochs are saved"
    state = read_checkpoint(directory.last)
    return f"{int(state['epoch']) + 1} of {config.max_epochs} epochs are saved"
